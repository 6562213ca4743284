/* Does nothing but take pages and give them back: page_loop PAGES ROUNDS. Waits for a line on standard input, so that a
 * tracer can attach; then maps, touches and unmaps PAGES pages, ROUNDS times. Prints `ns_per_page <mean>`. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096l

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(int count, char **arguments) {
    long pages = count == 3 ? atol(arguments[1]) : 0;
    long rounds = count == 3 ? atol(arguments[2]) : 0;
    if (pages < 1 || rounds < 1) {
        fprintf(stderr, "usage: page_loop PAGES ROUNDS\n");
        return 2;
    }
    if (getchar() == EOF)
        return 1;
    double start = now_ns();
    for (long round = 0; round < rounds; round++) {
        char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            return 1;
        madvise(at, pages * PAGE, MADV_NOHUGEPAGE);
        for (long i = 0; i < pages; i++)
            ((volatile char *)at)[i * PAGE] = 1;
        if (munmap(at, pages * PAGE) != 0)
            return 1;
    }
    printf("ns_per_page %.3f\n", (now_ns() - start) / pages / rounds);
    return 0;
}
