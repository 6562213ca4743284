// operator new in all its forms, beside malloc's family; some of it fails, and throws. Every site leaks a known number of
// blocks and frees others. Whichever allocator serves it, the truth is the same.
extern "C" {
#include "ledger.h"
}
#include <cstdlib>
#include <new>
#include <vector>

struct alignas(64) Wide { char bytes[192]; };
struct Plain { char bytes[40]; ~Plain() { bytes[0] = 0; } };

#define BLOCKS 30
static void leak(const char *site, size_t bytes) { ledger_add(site, "any", "heap", bytes, 1); }

// Leaks BLOCKS of what `make` makes and ends as many by `end`, in the other order.
template <typename Make, typename End> static inline __attribute__((always_inline)) void both(const char *site, size_t bytes, Make make, End end) {
    for (int i = 0; i < BLOCKS; i++) {
        auto kept = make(), gone = make();
        MUST(kept != nullptr && gone != nullptr);
        ledger_sink = (void *)kept;
        leak(site, bytes);
        end(gone);
    }
}

SITE void by_new() { both(__func__, sizeof(Plain), [] { return new Plain; }, [](Plain *p) { delete p; }); }
SITE void by_new_array() { both(__func__, 1000, [] { return new char[1000]; }, [](char *p) { delete[] p; }); }
SITE void by_new_nothrow() { both(__func__, 2000, [] { return new (std::nothrow) char[2000]; }, [](char *p) { delete[] p; }); }
SITE void by_new_aligned() { both(__func__, sizeof(Wide), [] { return new Wide; }, [](Wide *p) { delete p; }); }
SITE void by_new_large() { both(__func__, 300000, [] { return new char[300000]; }, [](char *p) { delete[] p; }); }
SITE void by_operators() {
    both(__func__, 77, [] { return ::operator new(77); }, [](void *p) { ::operator delete(p, size_t{77}); });
}
SITE void by_malloc() { both(__func__, 33, [] { return malloc(33); }, [](void *p) { free(p); }); }
SITE void by_calloc() { both(__func__, 7 * 55, [] { return calloc(7, 55); }, [](void *p) { free(p); }); }
SITE void by_realloc() { both(__func__, 5000, [] { return realloc(malloc(100), 5000); }, [](void *p) { free(p); }); }
SITE void by_aligned_alloc() { both(__func__, 4096, [] { return aligned_alloc(256, 4096); }, [](void *p) { free(p); }); }
SITE void by_posix_memalign() {
    both(__func__, 640, [] { void *p = nullptr; MUST(posix_memalign(&p, 128, 640) == 0); return p; }, [](void *p) { free(p); });
}

// What a failed call leaves behind is nothing; what is thrown is allocated and freed by the C++ runtime.
SITE void fails_and_throws() {
    volatile size_t absurd = static_cast<size_t>(1) << 62;
    for (int i = 0; i < 300; i++) {
        bool caught = false;
        try {
            ledger_sink = new char[absurd];
        } catch (const std::bad_alloc &) {
            caught = true;
        }
        MUST(caught);
        if (i % 10 == 0) {
            ledger_sink = new char[88];
            leak(__func__, 88);
        }
    }
}

int main(int count, char **) {
    ready();
    by_new();
    by_new_array();
    by_new_nothrow();
    by_new_aligned();
    by_new_large();
    by_operators();
    by_malloc();
    by_calloc();
    by_realloc();
    by_aligned_alloc();
    by_posix_memalign();
    if (count > 1) fails_and_throws();
    done();
    return 0;
}
