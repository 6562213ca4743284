/* Steady traffic and no leak: two threads swap blocks through shared slots, so that most frees come from the thread that
 * did not allocate, addresses are handed out again at once, and reallocs run against both. One arena: an address that
 * one thread gives up is soon the other's.
 *   churn [OPERATIONS_PER_THREAD] */
#include "ledger.h"
#include <malloc.h>
#include <stdint.h>

#define THREADS 2
#define SLOTS 500
static void *slots[SLOTS];
static long operations = 20000;
static pthread_barrier_t start, over, end;

struct tally { size_t bytes, count; };
static struct tally tallies[THREADS];

static uint64_t next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void *take(size_t slot, void *put) { return __atomic_exchange_n(&slots[slot], put, __ATOMIC_ACQ_REL); }

static void *worker(void *argument) {
    long me = (long)argument;
    uint64_t random = 12345 + (uint64_t)me;
    struct tally *tally = &tallies[me];
    pthread_barrier_wait(&start);
    for (long i = 0; i < operations; i++) {
        size_t slot = next(&random) % SLOTS, size = 1 + next(&random) % 2500;
        if (next(&random) % 64 == 0) size += 140000;
        void *block = NULL;
        switch (next(&random) % 5) {
        case 0: block = calloc(1, size); break;
        case 1: MUST(posix_memalign(&block, 64, size) == 0); break;
        case 2: block = realloc(take(next(&random) % SLOTS, NULL), size); break;
        default: block = malloc(size); break;
        }
        MUST(block != NULL);
        tally->bytes += size;
        tally->count++;
        free(take(slot, block));
    }
    pthread_barrier_wait(&over);
    pthread_barrier_wait(&end);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc > 1) operations = atol(argv[1]);
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    pthread_barrier_init(&start, NULL, THREADS + 1);
    pthread_barrier_init(&over, NULL, THREADS + 1);
    pthread_barrier_init(&end, NULL, THREADS + 1);
    for (long i = 0; i < THREADS; i++) {
        pthread_t thread;
        MUST(pthread_create(&thread, NULL, worker, (void *)i) == 0);
    }
    ready();
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&over);
    for (int i = 0; i < SLOTS; i++) free(slots[i]);
    for (int i = 0; i < THREADS; i++) {
        ledger_allocated_bytes += tallies[i].bytes;
        ledger_allocated_count += tallies[i].count;
    }
    done();
    return 0;
}
