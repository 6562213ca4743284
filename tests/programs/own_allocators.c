/* The functions that allocators have beside malloc's: jemalloc's *allocx, mimalloc's mi_*, tcmalloc's tc_*. Compiled for
 * one of them. */
#include "ledger.h"

#define BLOCKS 25
#define BOTH(size, make, end)                                                                                             \
    for (int i = 0; i < BLOCKS; i++) {                                                                                    \
        leaked(__func__, "any", make, size);                                                                              \
        void *gone = make;                                                                                                \
        MUST(gone != NULL);                                                                                               \
        end;                                                                                                              \
    }

#ifdef JEMALLOC
void *mallocx(size_t, int), *rallocx(void *, size_t, int);
void sdallocx(void *, size_t, int), dallocx(void *, int);
SITE void by_mallocx(void) { BOTH(120, mallocx(120, 0), sdallocx(gone, 120, 0)) }
SITE void by_mallocx_large(void) { BOTH(70000, mallocx(70000, 0), dallocx(gone, 0)) }
SITE void by_rallocx(void) { BOTH(9000, rallocx(mallocx(64, 0), 9000, 0), dallocx(gone, 0)) }
static void all(void) { by_mallocx(); by_mallocx_large(); by_rallocx(); }
#endif

#ifdef MIMALLOC
void *mi_malloc(size_t), *mi_zalloc(size_t), *mi_calloc(size_t, size_t), *mi_mallocn(size_t, size_t), *mi_realloc(void *, size_t);
void *mi_malloc_aligned(size_t, size_t), *mi_heap_new(void), *mi_heap_malloc(void *, size_t), *mi_heap_calloc(void *, size_t, size_t);
void mi_free(void *), mi_free_size(void *, size_t);
static void *heap;
SITE void by_mi_malloc(void) { BOTH(130, mi_malloc(130), mi_free(gone)) }
SITE void by_mi_zalloc(void) { BOTH(2500, mi_zalloc(2500), mi_free_size(gone, 2500)) }
SITE void by_mi_calloc(void) { BOTH(3 * 70, mi_calloc(3, 70), mi_free(gone)) }
SITE void by_mi_mallocn(void) { BOTH(4 * 50, mi_mallocn(4, 50), mi_free(gone)) }
SITE void by_mi_realloc(void) { BOTH(90000, mi_realloc(mi_malloc(10), 90000), mi_free(gone)) }
SITE void by_mi_malloc_aligned(void) { BOTH(512, mi_malloc_aligned(512, 256), mi_free(gone)) }
SITE void by_mi_heap_malloc(void) { BOTH(65, mi_heap_malloc(heap, 65), mi_free(gone)) }
SITE void by_mi_heap_calloc(void) { BOTH(5 * 11, mi_heap_calloc(heap, 5, 11), mi_free(gone)) }
static void all(void) {
    by_mi_malloc(); by_mi_zalloc(); by_mi_calloc(); by_mi_mallocn(); by_mi_realloc(); by_mi_malloc_aligned();
    by_mi_heap_malloc(); by_mi_heap_calloc();
}
#endif

#ifdef TCMALLOC
void *tc_malloc(size_t), *tc_calloc(size_t, size_t), *tc_realloc(void *, size_t), *tc_new(size_t), *tc_memalign(size_t, size_t);
void tc_free(void *), tc_delete(void *);
SITE void by_tc_malloc(void) { BOTH(140, tc_malloc(140), tc_free(gone)) }
SITE void by_tc_calloc(void) { BOTH(6 * 31, tc_calloc(6, 31), tc_free(gone)) }
SITE void by_tc_realloc(void) { BOTH(8000, tc_realloc(tc_malloc(9), 8000), tc_free(gone)) }
SITE void by_tc_new(void) { BOTH(222, tc_new(222), tc_delete(gone)) }
SITE void by_tc_memalign(void) { BOTH(1024, tc_memalign(64, 1024), tc_free(gone)) }
static void all(void) { by_tc_malloc(); by_tc_calloc(); by_tc_realloc(); by_tc_new(); by_tc_memalign(); }
#endif

#ifdef PREFIXED
/* An allocator of its own, by a prefix that nobody knows. It never gives anything back. */
static char pool[1 << 20];
static size_t used;
__attribute__((noinline)) void *pond_malloc(size_t size) {
    size_t at = (used + 15) / 16 * 16;
    if (at + size > sizeof pool) return NULL;
    used = at + size;
    return pool + at;
}
__attribute__((noinline)) void pond_free(void *block) { ledger_sink = block; }
SITE void by_pond_malloc(void) { BOTH(300, pond_malloc(300), pond_free(gone)) }
SITE void by_libc(void) { ledger_sink = malloc(999); }
static void all(void) { by_pond_malloc(); by_libc(); }
#endif

int main(void) {
#ifdef MIMALLOC
    heap = mi_heap_new(); /* itself a block */
#endif
    ready();
    all();
    done();
    return 0;
}
