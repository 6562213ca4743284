/* Has children of every kind: by fork, from a thread, grandchildren, by posix_spawn, vfork and fork with exec. Each
 * leaks at once and ends; the parent's ledger says what. `family AGAIN COUNT` is what they exec. With `stop`, the only
 * child stops itself and is continued. */
#include "ledger.h"
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

SITE void leak_in_child(int count) {
    for (int i = 0; i < count; i++) ledger_sink = malloc(101);
}

SITE void leak_in_grandchild(int count) {
    for (int i = 0; i < count; i++) ledger_sink = malloc(102);
}

SITE void leak_in_childs_thread(int count) {
    for (int i = 0; i < count; i++) ledger_sink = malloc(103);
}

SITE void leak_after_exec(int count) {
    for (int i = 0; i < count; i++) ledger_sink = malloc(104);
}

SITE void leak_in_parent(void) { leaked(__func__, "malloc", malloc(105), 105); }

static void ends_well(pid_t child, int with) {
    int status = 0;
    MUST(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == with);
}

static void *leaks(void *unused) {
    leak_in_childs_thread(7);
    return unused;
}

/* The thread that was made is in the child, too. */
static void *forks(void *unused) {
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        MUST(pthread_create(&thread, NULL, leaks, NULL) == 0 && pthread_join(thread, NULL) == 0);
        _exit(5);
    }
    ends_well(child, 5);
    return unused;
}

static void stops_and_goes_on(void) {
    pid_t child = fork();
    if (child == 0) {
        leak_in_child(1);
        raise(SIGSTOP);
        leak_in_child(2);
        _exit(6);
    }
    int status = 0;
    MUST(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    MUST(kill(child, SIGCONT) == 0);
    ends_well(child, 6);
    ledger_add("leak_in_child", "malloc", "heap", 3 * 101, 3);
}

static void has_children(char *self) {
    for (int i = 0; i < 4; i++) {
        pid_t child = fork();
        if (child == 0) {
            leak_in_child(100);
            pid_t grandchild = fork();
            if (grandchild == 0) {
                leak_in_grandchild(50);
                _exit(0);
            }
            ends_well(grandchild, 0);
            _exit(3);
        }
        ends_well(child, 3);
    }
    ledger_add("leak_in_child", "malloc", "heap", 4 * 100 * 101, 4 * 100);
    ledger_add("leak_in_grandchild", "malloc", "heap", 4 * 50 * 102, 4 * 50);
    char *arguments[] = {self, "again", "11", NULL};
    pid_t child = 0;
    MUST(posix_spawn(&child, self, NULL, NULL, arguments, environ) == 0);
    ends_well(child, 0);
    child = vfork();
    if (child == 0) {
        execv(self, arguments);
        _exit(9);
    }
    ends_well(child, 0);
    child = fork();
    if (child == 0) {
        leak_in_child(5); /* gone with the exec */
        execv(self, arguments);
        _exit(9);
    }
    ends_well(child, 0);
    ledger_add("leak_after_exec", "malloc", "heap", 3 * 11 * 104, 3 * 11);
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, forks, NULL) == 0 && pthread_join(thread, NULL) == 0);
    ledger_add("leak_in_childs_thread", "malloc", "heap", 7 * 103, 7);
    MUST(system("exit 4") == 4 * 256);
}

int main(int count, char **arguments) {
    if (count > 2) {
        leak_after_exec(atoi(arguments[2]));
        return 0;
    }
    ready();
    leak_in_parent();
    if (count > 1)
        stops_and_goes_on();
    else
        has_children(arguments[0]);
    done();
    return 42;
}
