/* Leaks in two turns, each at a word from the harness: many small blocks, then few large ones. */
#include "ledger.h"

SITE void leak_many_small(void) {
    for (int i = 0; i < 40; i++) leaked(__func__, "malloc", malloc(103), 103);
}
SITE void leak_few_large(void) {
    for (int i = 0; i < 3; i++) leaked(__func__, "malloc", malloc(70001), 70001);
}

int main(void) {
    ready();
    leak_many_small();
    done();
    leak_few_large();
    done();
    return 0;
}
