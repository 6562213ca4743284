/* Does nothing but malloc and free: pair_loop PAIRS THREADS. Waits for a line
 * on standard input, so that a tracer can attach; then every thread allocates
 * and frees 64 bytes PAIRS times. Prints `ns_per_pair <mean over the threads>`. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long pairs;

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static void *work(void *result) {
    double start = now_ns();
    for (long i = 0; i < pairs; i++) {
        void *block = malloc(64);
        /* The compiler must believe that someone uses the block. */
        __asm__ volatile("" : "+r"(block) : : "memory");
        free(block);
    }
    *(double *)result = (now_ns() - start) / pairs;
    return NULL;
}

int main(int count, char **arguments) {
    int threads = count == 3 ? atoi(arguments[2]) : 0;
    pairs = count == 3 ? atol(arguments[1]) : 0;
    if (pairs < 1 || threads < 1 || threads > 64) {
        fprintf(stderr, "usage: pair_loop PAIRS THREADS\n");
        return 2;
    }
    if (getchar() == EOF)
        return 1;
    pthread_t handles[64];
    double results[64], sum = 0;
    for (int i = 0; i < threads; i++)
        if (pthread_create(&handles[i], NULL, work, &results[i]) != 0)
            return 1;
    for (int i = 0; i < threads; i++) {
        pthread_join(handles[i], NULL);
        sum += results[i];
    }
    printf("ns_per_pair %.3f\n", sum / threads);
    return 0;
}
