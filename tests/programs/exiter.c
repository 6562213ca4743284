/* Leaks and ends at once.
 *   exiter exit|_exit|kill|exec     exec: runs itself again, which leaks something else and waits */
#include "ledger.h"
#include <signal.h>

SITE void leak_and_go(void) {
    for (int i = 0; i < 30; i++) leaked(__func__, "malloc", malloc(877), 877);
}
SITE void leak_after_exec(void) {
    for (int i = 0; i < 4; i++) leaked(__func__, "malloc", malloc(883), 883);
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "exit";
    if (strcmp(how, "after") == 0) {
        leak_after_exec();
        done();
        return 0;
    }
    ready();
    leak_and_go();
    if (strcmp(how, "exec") == 0) {
        execl("/proc/self/exe", argv[0], "after", (char *)NULL);
        complain("exec");
    }
    print_ledger();
    say("DONE\n");
    if (strcmp(how, "_exit") == 0) _exit(0);
    if (strcmp(how, "kill") == 0) kill(getpid(), SIGKILL);
    return 0;
}
