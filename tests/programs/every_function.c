/* Calls every function that memtrace traces, in every way that has fooled a tracer, from N threads; what is left at the
 * end is known to the byte. Each site (leak_…) leaves blocks of a size of its own.
 *   every_function [THREADS] */
#include "ledger.h"
#include <malloc.h>
#include <stdint.h>

#define PAGE ((size_t)4096)
#define TURNS 10       /* of every site in every thread */
#define HANDED 60      /* blocks that another thread frees, per thread */
#define BEFORE 7       /* blocks from before the trace that each thread frees */
#define MOST_THREADS 16

static const size_t IMPOSSIBLE = (size_t)1 << 60;

SITE void leak_malloc(void) { leaked(__func__, "malloc", malloc(101), 101); }
/* At 128 KiB and more malloc maps pages itself: one block, not a block and a mapping. */
SITE void leak_malloc_big(void) { leaked(__func__, "malloc", malloc(300000), 300000); }
SITE void leak_malloc_zero(void) { leaked(__func__, "malloc", malloc(0), 0); }
SITE void leak_calloc(void) { leaked(__func__, "calloc", calloc(7, 29), 203); }
SITE void leak_calloc_big(void) { leaked(__func__, "calloc", calloc(2, 100003), 200006); }
SITE void leak_realloc_null(void) { leaked(__func__, "realloc", realloc(NULL, 307), 307); }

SITE void leak_realloc_in_place(void) {
    void *old = malloc(1000), *block = realloc(old, 903);
    if (block == old) __atomic_add_fetch(&ledger_in_place, 1, __ATOMIC_RELAXED);
    leaked(__func__, "realloc", block, 903);
}

SITE void leak_realloc_moving(void) {
    void *old = malloc(64), *in_the_way = malloc(64), *block = realloc(old, 50021);
    if (block != old) __atomic_add_fetch(&ledger_moved, 1, __ATOMIC_RELAXED);
    leaked(__func__, "realloc", block, 50021);
    free(in_the_way);
}

/* Grows by mremap inside realloc: no mapping of the program's own. */
SITE void leak_realloc_mremap(void) {
    void *old = malloc(256 << 10);
    leaked(__func__, "realloc", realloc(old, 1 << 20), 1 << 20);
}

/* The old block stays, as malloc's. */
SITE void leak_realloc_failed(void) {
    void *block = malloc(409);
    MUST(realloc(block, IMPOSSIBLE) == NULL);
    leaked(__func__, "malloc", block, 409);
}

/* Frees. */
SITE void realloc_to_zero(void) { MUST(realloc(malloc(53), 0) == NULL); }

SITE void leak_reallocarray(void) {
    void *old = malloc(11);
    leaked(__func__, "reallocarray", reallocarray(old, 11, 47), 517);
}
SITE void leak_reallocarray_null(void) { leaked(__func__, "reallocarray", reallocarray(NULL, 13, 17), 221); }
SITE void leak_reallocarray_overflow(void) {
    void *block = malloc(61);
    MUST(reallocarray(block, SIZE_MAX / 2, 3) == NULL);
    leaked(__func__, "malloc", block, 61);
}
/* Overflows to a small size in a tracer that only multiplies. */
SITE void calloc_overflow(void) { MUST(calloc(SIZE_MAX / 2 + 2, 2) == NULL); }
SITE void malloc_impossible(void) { MUST(malloc(IMPOSSIBLE) == NULL); }

SITE void leak_posix_memalign(void) {
    void *block = NULL;
    MUST(posix_memalign(&block, 64, 641) == 0);
    leaked(__func__, "posix_memalign", block, 641);
}
/* Fails and leaves *out as it was: a live block, which must not be counted once more. */
SITE void leak_posix_memalign_failed(void) {
    void *block = malloc(67), *out = block;
    MUST(posix_memalign(&out, 3, 1000) == EINVAL && out == block);
    MUST(posix_memalign(&out, 64, IMPOSSIBLE) == ENOMEM && out == block);
    leaked(__func__, "malloc", block, 67);
}
/* One address in libc. */
SITE void leak_aligned_alloc(void) { leaked(__func__, "aligned_alloc|memalign", aligned_alloc(256, 1024), 1024); }
SITE void leak_memalign(void) { leaked(__func__, "aligned_alloc|memalign", memalign(128, 701), 701); }
SITE void leak_valloc(void) { leaked(__func__, "valloc", valloc(809), 809); }
SITE void leak_pvalloc(void) { leaked(__func__, "pvalloc", pvalloc(4 * PAGE), 4 * PAGE); }

static char *map_pages(size_t pages) {
    return (char *)mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
#define MAP_HERE(pages) \
    ((char *)mmap(NULL, (pages) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
#define MMAP "mmap|mmap64"

SITE void leak_mmap(void) { leaked_pages(__func__, MMAP, MAP_HERE(3), 3 * PAGE); }
SITE void mmap_failed(void) { MUST(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED); }
SITE void mmap_and_munmap(void) {
    char *at = MAP_HERE(4);
    MUST(munmap(at, 4 * PAGE) == 0);
}
SITE void leak_munmap_tail(void) {
    char *at = MAP_HERE(8);
    MUST(munmap(at + 7 * PAGE, PAGE) == 0);
    leaked_pages(__func__, MMAP, at, 7 * PAGE);
}
/* Splits the mapping, then takes the first part away. */
SITE void leak_munmap_middle(void) {
    char *at = MAP_HERE(9);
    MUST(munmap(at + 3 * PAGE, PAGE) == 0);
    MUST(munmap(at, 3 * PAGE) == 0);
    leaked_pages(__func__, MMAP, at + 4 * PAGE, 5 * PAGE);
}
SITE void leak_munmap_failed(void) {
    char *at = MAP_HERE(2);
    MUST(munmap(at + 1, PAGE) == -1);
    leaked_pages(__func__, MMAP, at, 2 * PAGE);
}
/* One call ends two mappings and a hole. */
SITE void munmap_two(void) {
    char *at = MAP_HERE(10);
    MUST(mmap(at + 2 * PAGE, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
    MUST(munmap(at, 10 * PAGE) == 0);
}
/* Replaces the middle of a mapping; then the rest goes. */
SITE void leak_mmap_fixed(void) {
    char *at = MAP_HERE(18);
    char *middle = (char *)mmap(at + 2 * PAGE, 12 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    MUST(middle == at + 2 * PAGE);
    MUST(munmap(at, 2 * PAGE) == 0);
    MUST(munmap(at + 14 * PAGE, 4 * PAGE) == 0);
    leaked_pages(__func__, MMAP, middle, 12 * PAGE);
}
SITE void leak_mremap_growing(void) {
    char *at = MAP_HERE(4);
    at = (char *)mremap(at, 4 * PAGE, 16 * PAGE, MREMAP_MAYMOVE);
    leaked_pages(__func__, "mremap", at, 16 * PAGE);
}
/* Cannot grow where it is: its own fifth page is in the way. */
SITE void leak_mremap_moving(void) {
    char *at = MAP_HERE(5);
    char *moved = (char *)mremap(at, 4 * PAGE, 13 * PAGE, MREMAP_MAYMOVE);
    MUST(moved != MAP_FAILED && moved != at);
    MUST(munmap(at + 4 * PAGE, PAGE) == 0);
    leaked_pages(__func__, "mremap", moved, 13 * PAGE);
}
SITE void leak_mremap_shrinking(void) {
    char *at = MAP_HERE(6);
    MUST(mremap(at, 6 * PAGE, PAGE, 0) == at);
    leaked_pages(__func__, "mremap|" MMAP, at, PAGE);
}
SITE void leak_mremap_failed(void) {
    char *at = MAP_HERE(11);
    MUST(mremap(at, 11 * PAGE, IMPOSSIBLE, MREMAP_MAYMOVE) == MAP_FAILED);
    leaked_pages(__func__, MMAP, at, 11 * PAGE);
}

static void *before[MOST_THREADS][BEFORE];
static void *handed[MOST_THREADS][HANDED];
static void *handed_pages[MOST_THREADS];
static long threads = 1;
static pthread_barrier_t start, allocated, freed, over;

SITE void allocate_for_others(long me) {
    for (int i = 0; i < HANDED; i++) {
        size_t size = 40 + 211 * (size_t)i;
        switch (i % 6) {
        case 0: handed[me][i] = malloc(size); break;
        case 1: handed[me][i] = calloc(1, size); break;
        case 2: handed[me][i] = realloc(malloc(8), size); break;
        case 3: MUST(posix_memalign(&handed[me][i], 32, size) == 0); break;
        case 4: handed[me][i] = memalign(64, size); break;
        default: handed[me][i] = malloc(150000 + size); break;
        }
        MUST(handed[me][i] != NULL);
    }
    handed_pages[me] = map_pages(2);
}

SITE void free_of_others(long other, int from, int step) {
    for (int i = from; i < HANDED; i += step) free(handed[other][i]);
    free(NULL);
}

SITE void everything(void) {
    leak_malloc(); leak_malloc_big(); leak_malloc_zero(); malloc_impossible();
    leak_calloc(); leak_calloc_big(); calloc_overflow();
    leak_realloc_null(); leak_realloc_in_place(); leak_realloc_moving(); leak_realloc_mremap(); leak_realloc_failed();
    realloc_to_zero();
    leak_reallocarray(); leak_reallocarray_null(); leak_reallocarray_overflow();
    leak_posix_memalign(); leak_posix_memalign_failed();
    leak_aligned_alloc(); leak_memalign(); leak_valloc(); leak_pvalloc();
    leak_mmap(); mmap_failed(); mmap_and_munmap();
    leak_munmap_tail(); leak_munmap_middle(); leak_munmap_failed(); munmap_two(); leak_mmap_fixed();
    leak_mremap_growing(); leak_mremap_moving(); leak_mremap_shrinking(); leak_mremap_failed();
    free(NULL);
}

static void *worker(void *argument) {
    long me = (long)argument;
    pthread_barrier_wait(&start);
    for (int i = 0; i < BEFORE; i++) free(before[me][i]);
    for (int i = 0; i < TURNS; i++) everything();
    allocate_for_others(me);
    pthread_barrier_wait(&allocated);
    long other = (me + 1) % threads; /* with one thread: its own; main frees the other half */
    free_of_others(other, 0, 2);
    MUST(munmap(handed_pages[other], 2 * PAGE) == 0);
    pthread_barrier_wait(&freed);
    /* A thread that ended would let libc hand its cache to free(): wait. */
    pthread_barrier_wait(&over);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc > 1) threads = atol(argv[1]);
    MUST(threads >= 1 && threads <= MOST_THREADS);
    mallopt(M_MMAP_THRESHOLD, 128 << 10); /* and no dynamic threshold */
    for (long i = 0; i < threads; i++)
        for (int j = 0; j < BEFORE; j++) before[i][j] = malloc(300 + (size_t)j);
    unsigned parties = (unsigned)threads + 1;
    pthread_barrier_init(&start, NULL, parties);
    pthread_barrier_init(&allocated, NULL, parties);
    pthread_barrier_init(&freed, NULL, parties);
    pthread_barrier_init(&over, NULL, parties);
    for (long i = 0; i < threads; i++) {
        pthread_t thread;
        MUST(pthread_create(&thread, NULL, worker, (void *)i) == 0);
    }
    ready();
    struct mallinfo2 at_start = mallinfo2();
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&allocated);
    for (long i = 0; i < threads; i++) free_of_others(i, 1, 2);
    pthread_barrier_wait(&freed);
    struct mallinfo2 at_end = mallinfo2();
    size_t heap = 0;
    for (size_t i = 0; i < ledger_used; i++)
        if (strcmp(ledger_rows[i].kind, "heap") == 0) heap += ledger_rows[i].bytes;
    /* The allocator's own view, as a check of the ledger: it counts whole chunks and what threads cache. */
    size_t view = at_end.uordblks + at_end.hblkhd - at_start.uordblks - at_start.hblkhd;
    MUST(view >= heap && view - heap < heap / 20);
    ledger_unmatched_frees = (size_t)threads * BEFORE;
    done();
    return 0;
}
