/* Recursion, with malloc at the bottom.
 *   deep [DEPTH] */
#include "ledger.h"

static volatile int after;

__attribute__((noinline, noclone)) void bottom(void) {
    leaked(__func__, "malloc", malloc(2003), 2003);
    after = after + 1;
}

__attribute__((noinline, noclone)) void descend(int left) {
    if (left > 0) descend(left - 1);
    else bottom();
    after = after + 1;
}

int main(int argc, char **argv) {
    int depth = argc > 1 ? atoi(argv[1]) : 200;
    ready();
    descend(depth);
    done();
    return 0;
}
