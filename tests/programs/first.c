/* For `memtrace -- CMD`: allocates before main, prints its ledger, ends as told. Waits for nothing.
 *   first exit STATUS | signal NUMBER [MILLISECONDS to wait before that] */
#include "ledger.h"
#include <signal.h>

SITE void leak_in_constructor(void) { leaked(__func__, "malloc", malloc(1117), 1117); }
SITE void leak_in_main(void) {
    for (int i = 0; i < 12; i++) leaked(__func__, "calloc", calloc(2, 613), 1226);
}
SITE void leak_pages_in_main(void) {
    leaked_pages(__func__, "mmap|mmap64",
                 mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 5 * 4096);
}

__attribute__((constructor)) static void constructor(void) {
    leak_in_constructor();
    free(malloc(99));
}

int main(int argc, char **argv) {
    int number = argc > 2 ? atoi(argv[2]) : 0;
    leak_in_main();
    leak_pages_in_main();
    print_ledger();
    if (argc > 3) usleep(1000 * atoi(argv[3]));
    if (argc > 1 && strcmp(argv[1], "signal") == 0) raise(number);
    return number;
}
