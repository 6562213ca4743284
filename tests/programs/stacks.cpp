// Allocations from known call chains. Built twice: with frame pointers and without optimization, and optimized without
// frame pointers, as distributions do.
#include "ledger.h"
#include <string>

#define CHAIN extern "C" __attribute__((noinline, noclone))
// Work after the call keeps the caller on the stack.
static volatile int after;

CHAIN void level_c() { leaked("level_c", "malloc", malloc(1201), 1201); after = after + 1; }
CHAIN void level_b() { level_c(); after = after + 1; }
CHAIN void level_a() { level_b(); after = after + 1; }

// One leaf, two callers: two rows.
CHAIN void shared_leaf(const char *row) { leaked(row, "malloc", malloc(1301), 1301); after = after + 1; }
CHAIN void first_caller() { shared_leaf("first_caller"); after = after + 1; }
CHAIN void second_caller() { shared_leaf("second_caller"); shared_leaf("second_caller"); after = after + 1; }

// Under the threshold and above it (calloc maps pages inside).
CHAIN void call_calloc() { leaked("call_calloc", "calloc", calloc(3, 467), 1401); after = after + 1; }
CHAIN void call_calloc_big() { leaked("call_calloc_big", "calloc", calloc(3, 66667), 200001); after = after + 1; }

// libc and libstdc++ are built without frame pointers.
static char text[1500];
CHAIN void call_strdup() { leaked("call_strdup", "malloc", strdup(text), sizeof text); after = after + 1; }
CHAIN void call_new() { leaked("call_new", "malloc", operator new(1601), 1601); after = after + 1; }
CHAIN void call_new_array() { leaked("call_new_array", "malloc", new char[1701], 1701); after = after + 1; }
alignas(std::string) static char room[sizeof(std::string)];
CHAIN void call_string() {
    std::string *string = new (room) std::string(1800, 'x'); // and a NUL: 1801
    leaked("call_string", "malloc", string, 1801);
    after = after + 1;
}
static int compared;
extern "C" int compare(const void *, const void *) {
    if (compared++ == 0) leaked("compare", "malloc", malloc(1901), 1901);
    return 0;
}
CHAIN void call_qsort() {
    int few[4] = {4, 3, 2, 1};
    qsort(few, 4, sizeof *few, compare);
    after = after + 1;
}

int main() {
    memset(text, 'x', sizeof text - 1);
    ready();
    level_a();
    first_caller();
    second_caller();
    call_calloc();
    call_calloc_big();
    call_strdup();
    call_new();
    call_new_array();
    call_string();
    call_qsort();
    done();
    return 0;
}
