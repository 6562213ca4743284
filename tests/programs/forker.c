/* Allocates, forks; the child frees its copies of the blocks and ends: the parent's are still there. Then it spawns a
 * program the way libc does, with a child that shares its memory until exec. */
#include "ledger.h"
#include <spawn.h>
#include <sys/wait.h>

#define BLOCKS 20
static void *blocks[BLOCKS];

SITE void leak_in_parent(void) {
    for (int i = 0; i < BLOCKS; i++) leaked(__func__, "malloc", blocks[i] = malloc(731), 731);
}

static void ends_well(pid_t child) {
    int status = 0;
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void) {
    ready();
    leak_in_parent();
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
        for (int i = 0; i < 5; i++) ledger_sink = malloc(999); /* not the parent's either */
        _exit(0);
    }
    ends_well(child);
    char name[] = "/bin/true", *arguments[] = {name, NULL}, *none[] = {NULL};
    MUST(posix_spawn(&child, name, NULL, NULL, arguments, none) == 0);
    ends_well(child);
    done();
    return 0;
}
