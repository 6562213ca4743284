/* 500 threads leak one block each.
 *   threads500 [create]     create: the threads are started after the trace has begun, and end */
#include "ledger.h"
#include <limits.h>

#define THREADS 500
static pthread_barrier_t start, leaks, over;
static int wait_for_all = 1;

SITE void leak_in_thread(void) { leaked(__func__, "malloc", malloc(1009), 1009); }

static void *worker(void *unused) {
    if (wait_for_all) pthread_barrier_wait(&start);
    leak_in_thread();
    if (!wait_for_all) return unused;
    pthread_barrier_wait(&leaks);
    pthread_barrier_wait(&over);
    return unused;
}

int main(int argc, char **argv) {
    static pthread_t threads[THREADS];
    pthread_attr_t attributes;
    (void)argv;
    wait_for_all = argc == 1;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN + (64 << 10));
    pthread_barrier_init(&start, NULL, THREADS + 1);
    pthread_barrier_init(&leaks, NULL, THREADS + 1);
    pthread_barrier_init(&over, NULL, THREADS + 1);
    if (!wait_for_all) ready();
    for (int i = 0; i < THREADS; i++) MUST(pthread_create(&threads[i], &attributes, worker, NULL) == 0);
    if (wait_for_all) {
        ready();
        pthread_barrier_wait(&start);
        pthread_barrier_wait(&leaks);
    } else {
        for (int i = 0; i < THREADS; i++) MUST(pthread_join(threads[i], NULL) == 0);
    }
    done();
    return 0;
}
