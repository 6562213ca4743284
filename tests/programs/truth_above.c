// Signal stacks that lie above and within the stack that the signals strike, again and again at the same place of the
// signal stack and at other depths below it. What a walk of a handler has in common with the last one is its inner part,
// while everything outside the signal differs: whoever goes on along the last walk has to notice. What is above each
// allocation is known to the unwinder of libgcc, whose answers tests/programs/shim.c writes down.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define KEPT __attribute__((noinline, noclone))
static volatile unsigned sink;
static unsigned state = 1;

// Numerical Recipes' generator: the same numbers in each run.
static unsigned number(unsigned below) {
    state = state * 1664525 + 1013904223;
    return (state >> 16) % below;
}

KEPT static void one(void) { sink += malloc(24) != NULL; sink += malloc(25) != NULL; }
KEPT static void other(void) { sink += malloc(26) != NULL; }
KEPT static void another(int n) { if (n) another(n - 1); else one(); sink++; }
KEPT static void inner(int n) {
    if (n) inner(n - 1);
    else switch (number(4)) { case 0: one(); break; case 1: other(); break; case 2: another(2); break; default: another(0); }
    sink++;
}
KEPT static void nested(int n) { if (n) nested(n - 1); else inner((int)number(4)); sink++; }
static void handler(int signal) { (void)signal; nested(4); if (number(4) == 0) inner(3); }

KEPT static void strike(void) { raise(SIGUSR1); sink++; }
KEPT static void grows(size_t size, int n);
KEPT static void descends(int n) {
    if (n == 0) strike();
    else if (number(8) == 0) grows(16 * (1 + number(6)), n - 1);
    else descends(n - 1);
    if (number(4) == 0) other();
    sink++;
}
// Its frame pointer is asked for, and its stack pointer need not tell where its frame is.
KEPT static void grows(size_t size, int n) {
    char *memory = __builtin_alloca(size);
    memset(memory, 1, size);
    descends(n);
    sink += (unsigned char)memory[size - 1];
}

static void own_stack(void *memory, size_t size) {
    stack_t own = {.ss_sp = memory, .ss_size = size};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    if (sigaltstack(&own, NULL) || sigaction(SIGUSR1, &action, NULL)) abort();
}

KEPT static void rounds(void) {
    for (int i = 0; i < 1500; i++) {
        int shallow = (int)number(6), deep = (int)number(40);
        descends(number(3) ? shallow : deep);
        if (number(3) == 0) inner(2);
    }
}

static void *on_stack(void *above) {
    own_stack(above, 1 << 16);
    rounds();
    char within[1 << 16];
    own_stack(within, sizeof within);
    rounds();
    return NULL;
}

int main(void) {
    // One piece of memory, so that it is known what is above.
    char *memory = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attributes;
    pthread_t id;
    if (memory == MAP_FAILED || pthread_attr_init(&attributes) || pthread_attr_setstack(&attributes, memory, 1 << 20)) abort();
    if (pthread_create(&id, &attributes, on_stack, memory + (1 << 20))) abort();
    if (pthread_join(id, NULL)) abort();
    return 0;
}
