/* Stacks that libgcc's unwinder cannot tell: through code that is made at run time, and (built so) through functions
 * whose call frame information is in .debug_frame alone. */
#include "ledger.h"

static volatile int after;
#define CHAIN __attribute__((noinline, noclone))

CHAIN void allocates(void) {
    leaked(__func__, "malloc", malloc(3001), 3001);
    after = after + 1;
}

/* Keeps frame pointers, as code generators do that want to be seen through: push %rbp; mov %rsp, %rbp; call *%rdi;
 * pop %rbp; ret. */
static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};

CHAIN void calls_generated(void (*generated)(void (*)(void))) {
    volatile char frame[200];
    frame[0] = 1;
    generated(allocates);
    after = after + frame[0];
}

CHAIN void third(int n) { char frame[100 + n]; frame[n] = 1; allocates(); after = after + frame[n]; }
CHAIN void second(int n) { third(n + 1); after = after + n; }
CHAIN void first(int n) { second(n + 1); after = after + n; }

int main(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(page != MAP_FAILED);
    memcpy(page, code, sizeof code);
    ready();
    first(3);
    calls_generated((void (*)(void (*)(void)))page);
    done();
    return 0;
}
