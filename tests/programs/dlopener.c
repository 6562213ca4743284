/* Loads a library after the trace has begun and calls a function of it that leaks. dlopen allocates, too: only the rows
 * below are known.
 *   dlopener LIBRARY [close]        close: the library is gone when the report is made */
#include "ledger.h"
#include <dlfcn.h>

__attribute__((noinline, noclone)) void call_plugin(void (*leak)(size_t)) {
    for (int i = 0; i < 10; i++) leak(2111);
    ledger_add("plugin_inner", "malloc", "heap", 10 * 2111, 10);
    ledger_add("plugin_leak", "calloc", "heap", 10 * 2111, 10);
}

int main(int argc, char **argv) {
    MUST(argc > 1);
    ready();
    void *library = dlopen(argv[1], RTLD_NOW);
    MUST(library != NULL);
    void (*leak)(size_t) = (void (*)(size_t))dlsym(library, "plugin_leak");
    MUST(leak != NULL);
    call_plugin(leak);
    /* A tracer in user space learns of a library some milliseconds late. */
    if (argc > 2) {
        usleep(200000);
        MUST(dlclose(library) == 0);
    }
    done();
    return 0;
}
