// The program that this project began with: 102,400 ints a turn, never freed. The seed leaks in main; here a function of
// its own does it, so that a report must name the right one.
//   seed_leak INTERVAL_MS COUNT      COUNT 0: for ever; after COUNT turns it waits to be killed
#include <cstdlib>
#include <cstring>
#include <unistd.h>

static int *volatile last;

__attribute__((noinline)) void leak_numbers() {
    int *a = new int[102400];
    memset(a, 0, 102400);
    last = a;
}

int main(int argc, char *argv[]) {
    useconds_t interval = (argc > 1 ? atoi(argv[1]) : 1000) * 1000;
    long count = argc > 2 ? atol(argv[2]) : 0;
    for (long i = 0; count == 0 || i < count; i++) {
        leak_numbers();
        usleep(interval);
    }
    for (;;) pause();
}
