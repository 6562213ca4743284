/* Thirty sites that do the same, to compare thirty estimates with one truth; and much that is freed at once. */
#include "ledger.h"

#define SITES(of) of(0) of(1) of(2) of(3) of(4) of(5) of(6) of(7) of(8) of(9) of(10) of(11) of(12) of(13) of(14) of(15)      \
    of(16) of(17) of(18) of(19) of(20) of(21) of(22) of(23) of(24) of(25) of(26) of(27) of(28) of(29)
#define DEFINE(n) SITE void site_##n(void) { leaked(__func__, "malloc", malloc(1000), 1000); }
#define CALL(n) site_##n();
SITES(DEFINE)

int main(void) {
    ready();
    for (int i = 0; i < 400; i++) { SITES(CALL) }
    for (int i = 0; i < 50000; i++) {
        ledger_sink = malloc(200);
        free(ledger_sink);
    }
    done();
    return 0;
}
