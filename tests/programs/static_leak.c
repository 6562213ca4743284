/* Linked statically: its allocator is in the program itself. */
#include "ledger.h"

SITE void leak_static(void) {
    for (int i = 0; i < 25; i++) leaked(__func__, "malloc", malloc(1013), 1013);
    for (int i = 0; i < 25; i++) free(malloc(17));
}

int main(void) {
    ready();
    leak_static();
    done();
    return 0;
}
