/* Blocks below, within and above 1000 to 5000 bytes, and reallocations across both borders. */
#include "ledger.h"

SITE void *small(void) { return malloc(100); }
SITE void *within(void) { return malloc(2000); }
SITE void *large(void) { return malloc(20000); }
SITE void grown_into(void) { leaked(__func__, "realloc", realloc(small(), 3000), 3000); }
SITE void shrunk_into(void) { leaked(__func__, "realloc", realloc(large(), 1500), 1500); }
SITE void grown_out(void) { ledger_sink = realloc(within(), 30000); }
SITE void shrunk_out(void) { ledger_sink = realloc(within(), 50); }

int main(void) {
    ready();
    for (int i = 0; i < 10; i++) {
        ledger_sink = small();
        ledger_sink = large();
        leaked("within", "malloc", within(), 2000);
        grown_into();
        shrunk_into();
        grown_out();
        shrunk_out();
        free(within());
    }
    done();
    return 0;
}
