// Threads that end inside an allocation function: the handler of a failed operator new ends its thread, and unwinding goes
// through the function. What they had allocated before stays.
extern "C" {
#include "ledger.h"
}
#include <new>

SITE void leak_before() {
    void *block = malloc(4321);
    ledger_add(__func__, "malloc", "heap", 4321, 1);
    ledger_sink = block;
}

static void quits() { pthread_exit(nullptr); }

static void *fails(void *) {
    leak_before();
    volatile size_t absurd = static_cast<size_t>(1) << 62;
    ledger_sink = new char[absurd];
    complain("the handler came back");
    return nullptr;
}

int main() {
    ready();
    std::set_new_handler(quits);
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        MUST(pthread_create(&thread, nullptr, fails, nullptr) == 0 && pthread_join(thread, nullptr) == 0);
    }
    done();
    return 0;
}
