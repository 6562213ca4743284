// Allocations below every kind of frame that C++ compilers make. What is above each of them is known to the unwinder of
// libgcc, whose answers tests/programs/shim.c writes down. Built many times: with and without frame pointers, at several
// levels of optimization, with and without sibling calls, with checks of the stack.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <setjmp.h>
#include <stdexcept>
#include <string>
#include <vector>
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <sstream>

#define KEPT __attribute__((noinline, noclone))
static volatile unsigned sink;
static volatile int zero;

static void *block(size_t size) {
    void *made = malloc(size);
    sink = sink + (made != nullptr);
    return made;
}
KEPT static void leaf(size_t size) { block(size); }

// Inlined into each other where there is any optimization.
static inline void inlined_c(int n) { block(11 + n); }
static inline void inlined_b(int n) { inlined_c(n); leaf(12); }
static inline void inlined_a(int n) { if (n) inlined_b(n); inlined_c(n + 1); }
KEPT static void inlining() { for (int i = 0; i < 4; i++) inlined_a(i); }

// Jumps instead of calls where sibling calls are optimized: the caller is not on the stack.
KEPT static void *tail_c(size_t size) { return malloc(size); }
KEPT static void *tail_b(size_t size) { sink = sink + 1; return tail_c(size + 1); }
KEPT static void *tail_a(size_t size) { return tail_b(size + 1); }
KEPT static void tail_calls() { for (int i = 0; i < 3; i++) sink = sink + (tail_a(21) != nullptr); }

// Direct and mutual recursion, deeper than the report goes.
KEPT static void even(int n);
KEPT static void odd(int n) { char frame[40]; frame[n % 40] = 1; if (n) even(n - 1); else block(31); sink = sink + frame[n % 40]; }
KEPT static void even(int n) { if (n) odd(n - 1); leaf(32); sink = sink + n; }
KEPT static int factorial(int n) { if (n == 0) leaf(33); return n ? n * factorial(n - 1) + zero : 1; }
KEPT static void recursion() { for (int depth : {1, 19, 21, 60, 110, 126, 127, 128, 200, 240}) { even(depth % 40); factorial(depth); } }

// Frames of a size that only the run knows, large ones, and stacks that are realigned.
KEPT static void use(volatile char *memory, size_t size) { memory[0] = memory[size - 1] = 1; leaf(41); }
KEPT static void with_alloca(size_t size) { block(42); use(static_cast<char *>(__builtin_alloca(size)), size); block(43); }
template <size_t SIZE> KEPT static void large() { volatile char frame[SIZE]; leaf(44); use(frame, SIZE); leaf(45); sink = sink + frame[SIZE / 2]; }
template <size_t SIZE> KEPT static void large_and_deep(int n) {
    volatile char frame[SIZE];
    use(frame, SIZE);
    if (n) large_and_deep<SIZE>(n - 1);
    sink = sink + frame[SIZE / 2];
}
KEPT static void aligned(size_t size) {
    alignas(64) volatile char frame[200];
    use(frame, sizeof frame);
    char *more = static_cast<char *>(__builtin_alloca(size));
    use(more, size);
    leaf(46);
}
typedef double Wide __attribute__((vector_size(32)));
__attribute__((target("avx"))) KEPT static void vectors(double x) {
    volatile Wide wide = {x, x + 1, x + 2, x + 3};
    leaf(47);
    wide = wide * wide;
    leaf(48);
    sink = sink + static_cast<unsigned>(wide[3]);
}
__attribute__((force_align_arg_pointer)) KEPT static void realigned(int n) { leaf(49); if (n) realigned(n - 1); leaf(50); }
KEPT static void frames() {
    for (size_t size : {1, 100, 5000, 70000}) with_alloca(size);
    large<2000>(); large<9000>(); large<70000>(); large<300000>(); large<1500000>();
    large_and_deep<3000>(20); large_and_deep<9000>(30);
    aligned(1); aligned(3000);
    if (__builtin_cpu_supports("avx")) vectors(2);
    realigned(3);
}

// Exceptions: their own memory, what destructors and handlers allocate, and what is allocated after the unwinding.
struct Guard { size_t size; ~Guard() { leaf(size); } };
KEPT static void throws(int n) {
    Guard guard{51};
    if (n == 0) throw std::runtime_error("a text that is too long for a string without memory of its own");
    throws(n - 1);
    sink = sink + 1;
}
KEPT static void rethrows(int n) {
    Guard guard{52};
    try { throws(n); } catch (const std::exception &) { leaf(53); throw; }
}
KEPT static void nested_handlers() {
    try { rethrows(5); } catch (const std::runtime_error &error) {
        leaf(54);
        try { rethrows(1); } catch (...) { leaf(55); }
        sink = sink + strlen(error.what());
    }
    leaf(56);
}
static void may_not(int n) noexcept { if (n) leaf(57); }
// The call of a function that does not return may be the caller's last instruction.
[[noreturn]] KEPT static void never_returns(int n) { leaf(58); if (n) throw n; abort(); }
KEPT static int ends_in_a_call(int n) { if (n == 3) never_returns(n); return n; }
static jmp_buf back;
[[noreturn]] KEPT static void jumps(int n) { leaf(59); longjmp(back, n); }
KEPT static void exceptions() {
    nested_handlers();
    may_not(1);
    for (int i = 0; i < 5; i++) {
        try { sink = sink + ends_in_a_call(i); } catch (int) { leaf(60); }
    }
    if (setjmp(back) == 0) jumps(1);
    leaf(61);
}

// Libraries call back: from code that nobody here compiled.
static int compare(const void *a, const void *b) { leaf(71); return *static_cast<const int *>(a) - *static_cast<const int *>(b); }
KEPT static void libraries() {
    int numbers[] = {5, 3, 9, 1, 7};
    qsort(numbers, 5, sizeof *numbers, compare);
    std::vector<std::string> strings;
    for (int i = 0; i < 40; i++) strings.push_back(std::to_string(i * 7919) + std::string(20 + i, 'x'));
    std::sort(strings.begin(), strings.end(), [](const std::string &a, const std::string &b) { block(72); return a < b; });
    std::map<std::string, std::vector<int>> map;
    for (auto &string : strings) map[string].assign(10, 1);
    std::ostringstream stream;
    stream << 1.5 << strings[0] << std::hex << 255;
    sink = sink + stream.str().size();
    char text[512];
    snprintf(text, sizeof text, "%.400Lf", 1.0L / 3); // makes a frame of its own size
    free(strdup(text));
    std::function<void(int)> function = [&](int n) { if (n) function(n - 1); else leaf(73); };
    function(8);
    auto shared = std::make_shared<std::string>(100, 'y');
    void *aligned = nullptr;
    sink = sink + (posix_memalign(&aligned, 64, 74) == 0);
    sink = sink + (aligned_alloc(64, 128) != nullptr) + (calloc(3, 25) != nullptr);
    void *grown = nullptr;
    for (size_t size = 10; size < 5000; size *= 2) grown = realloc(grown, size);
    FILE *file = fopen("/proc/self/stat", "r");
    if (file) { sink = sink + fgetc(file); fclose(file); }
}

static void *thread(void *argument) {
    inlining();
    tail_calls();
    even(30);
    nested_handlers();
    libraries();
    return argument;
}
KEPT static void threads() {
    pthread_t started[4];
    for (auto &id : started) if (pthread_create(&id, nullptr, thread, nullptr)) abort();
    for (auto id : started) pthread_join(id, nullptr);
}

struct Global { Global() { leaf(81); } ~Global() { leaf(82); } } global;

int main() {
    atexit([] { leaf(83); });
    for (int round = 0; round < 20; round++) {
        inlining();
        tail_calls();
        recursion();
        frames();
        exceptions();
        libraries();
    }
    threads();
    return 0;
}
