/* A library that comes late and leaks. */
#include <stdlib.h>

static void *volatile last;

__attribute__((noinline, noclone)) static void plugin_inner(size_t size) { last = malloc(size); }

__attribute__((visibility("default"))) void plugin_leak(size_t size);
void plugin_leak(size_t size) {
    plugin_inner(size);
    last = calloc(1, size);
}
