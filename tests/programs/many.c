/* More than the fixed tables of other tracers hold: distinct stacks, or live blocks.
 *   many stacks NUMBER | many blocks NUMBER */
#include "ledger.h"

static volatile int after;
static void *volatile last;
static size_t leaks;

__attribute__((noinline, noclone)) static void leak_one(void) {
    last = malloc(41);
    leaks++;
}

/* The path through 32 functions spells a number, four digits of it: another stack for each. */
static void (*const digits[32])(unsigned, int);
#define STEP(name) \
    __attribute__((noinline, noclone)) static void name(unsigned number, int left) { \
        if (left == 0) leak_one(); \
        else digits[number % 32](number / 32, left - 1); \
        after = after + 1; \
    }
#define FOUR(name) STEP(name##0) STEP(name##1) STEP(name##2) STEP(name##3)
#define NAMES(name) name##0, name##1, name##2, name##3
FOUR(step_a) FOUR(step_b) FOUR(step_c) FOUR(step_d) FOUR(step_e) FOUR(step_f) FOUR(step_g) FOUR(step_h)
static void (*const digits[32])(unsigned, int) = {
    NAMES(step_a), NAMES(step_b), NAMES(step_c), NAMES(step_d), NAMES(step_e), NAMES(step_f), NAMES(step_g), NAMES(step_h)};

int main(int argc, char **argv) {
    MUST(argc > 2);
    unsigned number = (unsigned)atoi(argv[2]);
    ready();
    for (unsigned i = 0; i < number; i++) {
        if (strcmp(argv[1], "stacks") == 0) digits[i % 32](i / 32, 3);
        else leak_one();
    }
    MUST(leaks == number);
    ledger_add("leak_one", "malloc", "heap", leaks * 41, leaks);
    done();
    return 0;
}
