/* Runs until a line comes: steady traffic of all kinds, short threads, libraries that come and go, and a leak that it
 * knows of. Then it prints its ledger. */
#include "ledger.h"
#include <dlfcn.h>
#include <time.h>

#define KEPT 4096
static volatile int over;

SITE void leak_a_little(void) { leaked(__func__, "malloc", malloc(321), 321); }

static void *traffic(void *unused) {
    static __thread void *kept[KEPT];
    unsigned long random = (unsigned long)&unused;
    while (!over) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t slot = (random >> 33) % KEPT, size = 1 + (random >> 20) % 3000;
        switch ((random >> 50) % 3) {
        case 0: kept[slot] = realloc(kept[slot], size); break;
        case 1: free(kept[slot]); kept[slot] = calloc(1, size); break;
        default: free(kept[slot]); kept[slot] = malloc(size); break;
        }
        if (random >> 40 == 0 || (random >> 33) % 512 == 0) usleep(1000);
    }
    for (size_t i = 0; i < KEPT; i++) free(kept[i]);
    return NULL;
}

static void *briefly(void *unused) {
    void *pages = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(pages != MAP_FAILED);
    free(malloc(100));
    MUST(munmap(pages, 1 << 16) == 0);
    return unused;
}

static void *everything(void *library) {
    pthread_t busy[2];
    for (int i = 0; i < 2; i++) MUST(pthread_create(&busy[i], NULL, traffic, NULL) == 0);
    for (long round = 0; !over; round++) {
        pthread_t brief;
        MUST(pthread_create(&brief, NULL, briefly, NULL) == 0 && pthread_join(brief, NULL) == 0);
        if (round % 10 == 0) leak_a_little();
        if (round % 100 == 0) {
            void *plugin = dlopen(library, RTLD_NOW);
            MUST(plugin != NULL && dlclose(plugin) == 0);
        }
        usleep(5000);
    }
    for (int i = 0; i < 2; i++) MUST(pthread_join(busy[i], NULL) == 0);
    return NULL;
}

int main(int count, char **arguments) {
    MUST(count == 2);
    ready();
    pthread_t worker;
    MUST(pthread_create(&worker, NULL, everything, arguments[1]) == 0);
    wait_for_line();
    over = 1;
    MUST(pthread_join(worker, NULL) == 0);
    done();
    return 0;
}
