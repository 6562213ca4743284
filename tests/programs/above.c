/* A signal handler on an alternate stack that lies above the thread's own maps, unmaps and allocates, while the thread
 * itself does nothing but map, move and unmap: return probes on those functions would kill it. */
#include "ledger.h"
#include <signal.h>
#include <sys/time.h>

#define HALF (256 * 1024)
static volatile long handled;

static void *map(size_t length) {
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(at != MAP_FAILED);
    return at;
}

SITE void leak_in_handler(void) { leaked(__func__, "malloc", malloc(1234), 1234); }

static void handler(int signal) {
    (void)signal;
    leak_in_handler();
    MUST(munmap(map(8192), 8192) == 0);
    handled++;
}

static void *works(void *above) {
    stack_t stack = {.ss_sp = above, .ss_size = HALF};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART};
    struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
    MUST(sigaltstack(&stack, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    MUST(pthread_sigmask(SIG_UNBLOCK, &alarm, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
    while (handled < 200) {
        char *at = map(4096);
        at = mremap(at, 4096, 16384, MREMAP_MAYMOVE);
        MUST(at != MAP_FAILED && munmap(at, 16384) == 0);
    }
    MUST(setitimer(ITIMER_REAL, &never, NULL) == 0);
    return NULL;
}

int main(void) {
    ready();
    char *both = map(2 * HALF);
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    MUST(pthread_sigmask(SIG_BLOCK, &alarm, NULL) == 0);
    MUST(pthread_attr_init(&attributes) == 0 && pthread_attr_setstack(&attributes, both, HALF) == 0);
    MUST(pthread_create(&thread, &attributes, works, both + HALF) == 0 && pthread_join(thread, NULL) == 0);
    MUST(munmap(both, 2 * HALF) == 0);
    done();
    return 0;
}
