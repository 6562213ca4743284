/* Loads another copy of a C library into a namespace of its own and allocates from both. */
#include "ledger.h"
#include <dlfcn.h>

static void *(*other)(size_t);

SITE void leak_in_the_other(void) { leaked(__func__, "malloc", other(4444), 4444); }
SITE void leak_in_ours(void) { leaked(__func__, "malloc", malloc(5555), 5555); }

int main(int count, char **arguments) {
    MUST(count == 2);
    ready();
    void *library = dlmopen(LM_ID_NEWLM, arguments[1], RTLD_NOW);
    MUST(library != NULL);
    other = (void *(*)(size_t))dlsym(library, "malloc");
    MUST(other != NULL && other != malloc);
    for (int i = 0; i < 33; i++) leak_in_the_other();
    for (int i = 0; i < 22; i++) leak_in_ours();
    done();
    return 0;
}
