/* Holds shared memory of every kind, each piece of a size of its own: files in a tmpfs (one in a mount namespace that
 * nobody else is in, one deleted but open), memfds (open; mapped but closed), a System V segment, a shared anonymous
 * mapping. Without the second argument it mounts nothing, which needs no root.
 *
 * Usage: shm_holder FOLDER-IN-TMPFS [FOLDER-TO-MOUNT-ON] */
#include "ledger.h"
#include <fcntl.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/shm.h>

#define KIB ((size_t)1024)

static void fill(int file, size_t kib) {
    char block[1024];
    memset(block, 'm', sizeof block);
    for (size_t i = 0; i < kib; i++) MUST(write(file, block, sizeof block) == (ssize_t)sizeof block);
}

static int create(const char *folder, const char *name) {
    char path[512];
    MUST(snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path);
    int file = open(path, O_CREAT | O_EXCL | O_RDWR, 0600);
    MUST(file >= 0);
    return file;
}

int main(int argc, char **argv) {
    MUST(argc > 1);
    fill(create(argv[1], "named"), 11 * KIB);
    int deleted = create(argv[1], "deleted");
    char path[512];
    MUST(snprintf(path, sizeof path, "%s/deleted", argv[1]) < (int)sizeof path);
    MUST(unlink(path) == 0);
    fill(deleted, 7 * KIB);
    if (argc > 2) {
        /* Mounts of others must not hear of this one. */
        MUST(unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
        MUST(mount("tmpfs", argv[2], "tmpfs", 0, "size=32m") == 0);
        fill(create(argv[2], "in a namespace"), 13 * KIB);
    }
    int open_one = memfd_create("memtrace-open", 0);
    MUST(open_one >= 0);
    fill(open_one, 9 * KIB);
    int mapped = memfd_create("memtrace-mapped", 0);
    MUST(mapped >= 0);
    fill(mapped, 5 * KIB);
    MUST(mmap(NULL, 5 * KIB * KIB, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0) != MAP_FAILED);
    MUST(close(mapped) == 0);
    char *anonymous = mmap(NULL, 4 * KIB * KIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(anonymous != MAP_FAILED);
    memset(anonymous, 'm', 4 * KIB * KIB);
    int segment = shmget(IPC_PRIVATE, 6 * KIB * KIB, IPC_CREAT | 0600);
    char *attached = segment < 0 ? (void *)-1 : shmat(segment, NULL, 0);
    MUST(attached != (void *)-1);
    /* Goes with the last process that has it attached, however that ends. */
    MUST(shmctl(segment, IPC_RMID, NULL) == 0);
    memset(attached, 'm', 6 * KIB * KIB);
    ready();
    return 0;
}
