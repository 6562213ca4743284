/* Memory that grows in one known way, `way`: what `memtrace growth` must see. Says what it did as one line of JSON: bytes
 * by which the program break moved, bytes mapped and unmapped, and bytes touched that were not there before. All pages are
 * small ones. */
#include "ledger.h"
#include <fcntl.h>
#include <malloc.h>
#include <time.h>

#define PAGE 4096ul
#define MIB (1ul << 20)
static size_t mapped, unmapped, touched;
static volatile char *early;
static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER;

static void pause_for(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0) {}
}

SITE void touch_pages(volatile char *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += PAGE) at[i] = 1;
    touched += bytes;
}

SITE char *map_pages(size_t bytes) {
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(at != MAP_FAILED);
    madvise(at, bytes, MADV_NOHUGEPAGE);
    mapped += bytes;
    return at;
}

SITE void unmap_pages(char *at, size_t bytes) {
    MUST(munmap(at, bytes) == 0);
    unmapped += bytes;
}

/* Below the threshold from which malloc maps. */
SITE void leak_on_heap(void) {
    char *block = malloc(100000);
    MUST(block != NULL);
    memset(block, 1, 100000);
    ledger_sink = block;
}

SITE void leak_mappings(void) {
    for (int i = 0; i < 40; i++) {
        char *at = map_pages(MIB);
        touch_pages(at, MIB);
        if (i % 4 == 0) unmap_pages(at, MIB);
    }
    char *moved = map_pages(MIB);
    MUST((moved = mremap(moved, MIB, 3 * MIB, MREMAP_MAYMOVE)) != MAP_FAILED);
    mapped += 2 * MIB;
    touch_pages(moved, 3 * MIB);
}

/* The kernel touches the pages. */
SITE void read_into_new(void) {
    char *at = map_pages(4 * MIB);
    int zeros = open("/dev/zero", O_RDONLY);
    MUST(zeros >= 0);
    for (size_t done = 0; done < 4 * MIB;) {
        ssize_t n = read(zeros, at + done, 4 * MIB - done);
        MUST(n > 0);
        done += (size_t)n;
    }
    close(zeros);
    touched += 4 * MIB;
}

SITE void touch_by_old_thread(void) { touch_pages(early, 4 * MIB); }
SITE void touch_by_new_thread(void) { touch_pages(early + 4 * MIB, 4 * MIB); }

static void *old_thread(void *unused) {
    pthread_mutex_lock(&door);
    touch_by_old_thread();
    pthread_mutex_unlock(&door);
    return unused;
}
static void *new_thread(void *unused) {
    touch_by_new_thread();
    return unused;
}

SITE void grow_slowly(void) {
    for (int i = 0; i < 80; i++) {
        for (int j = 0; j < 3; j++) leak_on_heap();
        pause_for(25);
    }
}

/* Five times up and down by 16 MiB. */
SITE void wave(void) {
    for (int i = 0; i < 5; i++) {
        char *at[8];
        for (int j = 0; j < 8; j++) {
            touch_pages(at[j] = map_pages(2 * MIB), 2 * MIB);
            pause_for(25);
        }
        for (int j = 0; j < 8; j++) {
            unmap_pages(at[j], 2 * MIB);
            pause_for(25);
        }
    }
}

SITE void stay(void) {
    for (int i = 0; i < 80; i++) {
        char *block = malloc(20000);
        memset(block, 1, 20000);
        ledger_sink = block;
        pause_for(25);
        free(block);
    }
}

int main(int argc, char **argv) {
    const char *way = argc > 1 ? argv[1] : "brk";
    pthread_t old, new;
    int threads = strcmp(way, "threads") == 0;
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 128 * 1024); /* It would move by itself. */
#endif
    if (threads) {
        early = map_pages(8 * MIB);
        pthread_mutex_lock(&door);
        MUST(pthread_create(&old, NULL, old_thread, NULL) == 0);
    }
    mapped = 0;
    ready();
    char *before = sbrk(0);
    if (strcmp(way, "brk") == 0) for (int i = 0; i < 100; i++) leak_on_heap();
    else if (strcmp(way, "mmap") == 0) leak_mappings();
    else if (strcmp(way, "read") == 0) read_into_new();
    else if (strcmp(way, "grow") == 0) grow_slowly();
    else if (strcmp(way, "wave") == 0) wave();
    else if (strcmp(way, "stay") == 0) stay();
    else if (threads) {
        pthread_mutex_unlock(&door);
        MUST(pthread_join(old, NULL) == 0);
        MUST(pthread_create(&new, NULL, new_thread, NULL) == 0);
        MUST(pthread_join(new, NULL) == 0);
    } else complain("no such way");
    say("{\"moved\":%zu,\"mapped\":%zu,\"unmapped\":%zu,\"touched\":%zu}\n", (size_t)((char *)sbrk(0) - before), mapped,
        unmapped, touched);
    say("DONE\n");
    wait_for_line();
    return 0;
}
