/* The fragmentation of a well known article: 200 blocks of i KiB, every second one freed. Then, as arguments say:
 *   threads    four threads with an arena each do the same
 *   blocked    the program break cannot grow, so the main arena goes on in a mapping
 *   foreign    somebody else moves the program break
 *   pin        8 MiB of small blocks, all freed but the last
 *   churn      works on, without end, until told to go
 *   damage     overwrites a block's size, as a buffer overflow does
 * It says what malloc itself knows of the heap: `mallinfo2`'s fields on a line. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCKS 200
#define THREADS 4

static void *kept[THREADS + 1][BLOCKS];
static void *volatile pinned;
static pthread_barrier_t filled, end;

static void fragment(void **blocks) {
    for (int i = 0; i < BLOCKS; i++) blocks[i] = malloc((size_t)i * 1024);
    for (int i = 0; i < BLOCKS; i += 2) free(blocks[i]);
    /* And some for the thread's cache and the fast bins. */
    void *small[40];
    for (int i = 0; i < 40; i++) small[i] = malloc((size_t)i % 4 * 30 + 1);
    for (int i = 0; i < 40; i += 2) free(small[i]);
}

static void *thread(void *blocks) {
    fragment(blocks);
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&end);
    return NULL;
}

/* The page behind the break, so that it cannot grow. */
static void block(void) {
    uintptr_t page = ((uintptr_t)sbrk(0) + 4095) & ~(uintptr_t)4095;
    if (mmap((void *)page, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED) abort();
}

static void pin(void) {
    static void *small[65536];
    for (int i = 0; i < 65536; i++) small[i] = malloc(200);
    pinned = malloc(2000);
    for (int i = 0; i < 65536; i++) free(small[i]);
}

static void *churn(void *unused) {
    unsigned seed = 1;
    void *blocks[512] = {0};
    for (;;) {
        seed = seed * 1664525 + 1013904223;
        unsigned slot = (seed >> 16) % 512;
        free(blocks[slot]);
        blocks[slot] = malloc((seed >> 8) % 5000);
    }
    return unused;
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    pthread_t threads[THREADS];
    int many = strcmp(how, "threads") == 0 ? THREADS : 0;
    /* Its buffers are made before anything is counted. */
    setvbuf(stdout, NULL, _IOLBF, 1 << 12);
    printf("pid %d\n", (int)getpid());
    pthread_barrier_init(&filled, NULL, (unsigned)many + 1);
    pthread_barrier_init(&end, NULL, (unsigned)many + 1);
    fragment(kept[THREADS]);
    if (strcmp(how, "blocked") == 0) block();
    if (strcmp(how, "foreign") == 0 && sbrk(40000) == (void *)-1) abort();
    if (strcmp(how, "blocked") == 0 || strcmp(how, "foreign") == 0) {
        for (int i = 0; i < 3000; i++) {
            void *block = malloc((size_t)i % 50 * 100);
            if (i % 3 == 0) free(block);
        }
    }
    if (strcmp(how, "pin") == 0) pin();
    for (int i = 0; i < many; i++) pthread_create(&threads[i], NULL, thread, kept[i]);
    pthread_barrier_wait(&filled);
    struct mallinfo2 m = mallinfo2();
    printf("{\"arena\": %zu, \"ordblks\": %zu, \"smblks\": %zu, \"hblks\": %zu, \"hblkhd\": %zu, \"fsmblks\": %zu, "
           "\"uordblks\": %zu, \"fordblks\": %zu, \"keepcost\": %zu}\n",
           m.arena, m.ordblks, m.smblks, m.hblks, m.hblkhd, m.fsmblks, m.uordblks, m.fordblks, m.keepcost);
    printf("pinned %p\n", pinned);
    /* The 100th block has 99 KiB, too few for a mapping of its own. */
    if (strcmp(how, "damage") == 0) memset((char *)kept[THREADS][99] - 8, 'A', 8);
    if (strcmp(how, "churn") == 0) pthread_create(&threads[0], NULL, churn, NULL);
    puts("READY");
    char line[16];
    if (read(0, line, sizeof line) < 0) return 1;
    pthread_barrier_wait(&end);
    for (int i = 0; i < many; i++) pthread_join(threads[i], NULL);
    return 0;
}
