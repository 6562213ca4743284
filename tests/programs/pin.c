/* A heap that cannot shrink: told to go, many blocks, one of a named function on top, one of another in between, and the many freed. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MANY 40000

static void *many[MANY];
static void *volatile middle;
static void *volatile top;

static __attribute__((noinline)) void allocate_the_middle(void) { middle = malloc(3000); }

static __attribute__((noinline)) void allocate_the_pin(void) { top = malloc(2000); }

int main(void) {
    char line[16];
    /* Its buffers are made before anything is traced. */
    setvbuf(stdout, NULL, _IOLBF, 1 << 12);
    puts("READY");
    if (read(0, line, sizeof line) < 0) return 1;
    for (int i = 0; i < MANY / 2; i++) many[i] = malloc(200);
    allocate_the_middle();
    for (int i = MANY / 2; i < MANY; i++) many[i] = malloc(200);
    allocate_the_pin();
    for (int i = 0; i < MANY; i++) free(many[i]);
    printf("pinned %p\n", top);
    printf("middle %p\n", middle);
    puts("DONE");
    return read(0, line, sizeof line) < 0;
}
