/* Preloaded into any program: at SIGUSR2 it writes what malloc knows of the heap, `mallinfo2`'s fields on a line, into the
 * file $MALLINFO. Nothing here allocates. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int out = -1;

static void dump(int signal) {
    char line[512];
    struct mallinfo2 m = mallinfo2();
    int length = snprintf(line, sizeof line,
                          "{\"arena\": %zu, \"ordblks\": %zu, \"smblks\": %zu, \"hblks\": %zu, \"hblkhd\": %zu, "
                          "\"fsmblks\": %zu, \"uordblks\": %zu, \"fordblks\": %zu, \"keepcost\": %zu}\n",
                          m.arena, m.ordblks, m.smblks, m.hblks, m.hblkhd, m.fsmblks, m.uordblks, m.fordblks, m.keepcost);
    if (write(out, line, (size_t)length) != length) _exit(97);
    (void)signal;
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("MALLINFO");
    if (path == NULL) return;
    out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = dump;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR2, &action, NULL);
}
