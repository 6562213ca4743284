/* malloc under an allocator of the program's own, which another tracer may have return probes on. */
#include "ledger.h"

static volatile int after;

__attribute__((noinline, noclone)) void *layer_malloc(size_t size) {
    void *block = malloc(size);
    after = after + 1;
    return block;
}
__attribute__((noinline, noclone)) void layer_free(void *block) {
    free(block);
    after = after + 1;
}

/* Frames of the same size, so that only return addresses tell the callers apart. */
SITE void first_caller(void) {
    for (int i = 0; i < 10; i++) leaked(__func__, "any", layer_malloc(3001), 3001);
    after = after + 1;
}
SITE void second_caller(void) {
    for (int i = 0; i < 10; i++) leaked(__func__, "any", layer_malloc(3002), 3002);
    after = after + 1;
}

int main(void) {
    layer_free(layer_malloc(1));
    ready();
    for (int i = 0; i < 5; i++) {
        first_caller();
        second_caller();
    }
    done();
    return 0;
}
