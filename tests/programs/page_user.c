/* Takes pages of the kernel of known kinds and numbers, and gives them back: what `memtrace pages` must see. Says how many it
 * took, by kind, as one line of JSON. With `hold` it keeps them until it is told to end; with `pass` it takes them three times
 * and gives them back each time. */
#include "ledger.h"
#include <fcntl.h>
#include <sys/wait.h>

#define PAGE 4096ul
#define MIB (1ul << 20)
#define ANON (16 * MIB)
#define SHARED (8 * MIB)
#define TABLES 128ul /* Of 2 MiB each. */
#define THREADS 64
#define CHILDREN 100
#define PIPES 256 /* Of 16 pages each, which no counter knows. */

static char *plain, *sparse;
static int shared = -1, file = -1, pipes[PIPES][2];
static pthread_t threads[THREADS];
static pthread_barrier_t all_run, all_end;

static char *map_small(size_t bytes) {
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(at != MAP_FAILED);
    madvise(at, bytes, MADV_NOHUGEPAGE);
    return at;
}

/* A storm of page faults. */
SITE void take_plain(void) {
    plain = map_small(ANON);
    for (size_t i = 0; i < ANON; i += PAGE) ((volatile char *)plain)[i] = 1;
}

/* Each page needs a page table of its own. */
SITE void take_tables(void) {
    sparse = map_small(TABLES * 2 * MIB);
    for (size_t i = 0; i < TABLES; i++) ((volatile char *)sparse)[i * 2 * MIB] = 1;
}

SITE void take_shared(void) {
    static char block[65536];
    shared = memfd_create("page_user", 0);
    MUST(shared >= 0);
    memset(block, 1, sizeof block);
    for (size_t done = 0; done < SHARED; done += sizeof block) MUST(write(shared, block, sizeof block) == sizeof block);
}

SITE void take_pipes(void) {
    static char block[65536];
    for (int i = 0; i < PIPES; i++)
        MUST(pipe(pipes[i]) == 0 && write(pipes[i][1], block, sizeof block) == sizeof block);
}

static void *wait_here(void *unused) {
    pthread_barrier_wait(&all_run);
    pthread_barrier_wait(&all_end);
    return unused;
}

SITE void take_stacks(void) {
    pthread_attr_t small;
    MUST(pthread_barrier_init(&all_run, NULL, THREADS + 1) == 0 && pthread_barrier_init(&all_end, NULL, THREADS + 1) == 0);
    MUST(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 65536) == 0);
    for (int i = 0; i < THREADS; i++) MUST(pthread_create(&threads[i], &small, wait_here, NULL) == 0);
    pthread_barrier_wait(&all_run);
}

/* The file is not in the page cache before, nor after. */
SITE size_t read_file(const char *path) {
    static char block[65536];
    size_t total = 0;
    ssize_t n;
    MUST((file = open(path, O_RDONLY)) >= 0);
    while ((n = read(file, block, sizeof block)) > 0) total += (size_t)n;
    return total;
}

SITE void fork_storm(void) {
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) _exit(0);
        MUST(waitpid(child, NULL, 0) == child);
    }
}

static void take(void) {
    take_plain();
    take_tables();
    take_shared();
    take_pipes();
    take_stacks();
}

static void give_back(void) {
    pthread_barrier_wait(&all_end);
    for (int i = 0; i < THREADS; i++) MUST(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < PIPES; i++) MUST(close(pipes[i][0]) == 0 && close(pipes[i][1]) == 0);
    MUST(close(shared) == 0);
    MUST(munmap(plain, ANON) == 0 && munmap(sparse, TABLES * 2 * MIB) == 0);
}

int main(int argc, char **argv) {
    const char *way = argc > 1 ? argv[1] : "hold";
    size_t from_file = 0;
    ready();
    if (strcmp(way, "hold") == 0) take();
    else if (strcmp(way, "pass") == 0) for (int i = 0; i < 3; i++) {
        take();
        give_back();
    }
    else if (strcmp(way, "file") == 0 && argc > 2) from_file = read_file(argv[2]);
    else if (strcmp(way, "forks") == 0) fork_storm();
    else complain("no such way");
    say("{\"anon\":%zu,\"pagetable\":%zu,\"shmem\":%zu,\"untracked\":%d,\"kernel_stacks\":%d,\"file\":%zu}\n", ANON / PAGE + TABLES, TABLES,
        SHARED / PAGE, PIPES * 16, THREADS, from_file / PAGE);
    say("DONE\n");
    wait_for_line();
    if (strcmp(way, "hold") == 0) give_back();
    if (file >= 0) MUST(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0);
    return 0;
}
