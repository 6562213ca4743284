// Preloaded into a program under test: writes down what the unwinder of libgcc, the one that C++ exceptions rely on, says
// at each allocation, in the order innermost first. Each distinct stack is kept once, with the number of blocks.
//
// Nothing is ever freed, so that every block is in the report, which leaves stacks without an outstanding one out.
//
// Everything goes to a file in $TRUTH_DIRECTORY named by the process id, mapped and shared, so that it is complete
// however the program ends. A program that runs another one in its place begins anew; a forked child has its own file.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

enum { MOST_FRAMES = 253, MOST_STACKS = 1 << 17, BUCKETS = 1 << 19 };

struct stack {
    uint64_t blocks;
    uint32_t depth;
    uint32_t stuck; // the unwinder knows nothing of the outermost frame's code
    uint64_t frames[MOST_FRAMES];
};

// The file.
static struct truth {
    uint64_t magic;
    uint64_t stacks;
    uint64_t unrecorded; // blocks that no stack was taken of
    uint64_t paused;     // $TRUTH_PAUSED: nothing is written until the test sets this to 0
    uint64_t reserved[252];
    struct stack stack[MOST_STACKS];
} *truth;

static const uint64_t MAGIC = 0x315f485455525421; // "!TRUTH_1"
_Static_assert(sizeof(struct stack) == 2040 && offsetof(struct truth, stack) == 2048, "the test reads this layout");

static uint32_t buckets[BUCKETS]; // index + 1 of a stack
static atomic_flag lock = ATOMIC_FLAG_INIT;
static __thread int busy;

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static int (*next_posix_memalign)(void **, size_t, size_t);
static void *(*next_aligned_alloc)(size_t, size_t);
static void *(*next_memalign)(size_t, size_t);

static void open_truth(void) {
    truth = NULL;
    const char *directory = getenv("TRUTH_DIRECTORY");
    char path[4096];
    if (!directory || snprintf(path, sizeof path, "%s/%d", directory, getpid()) >= (int)sizeof path) return;
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof *truth)) abort();
    struct truth *mapped = mmap(NULL, sizeof *truth, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) abort();
    close(file);
    mapped->magic = MAGIC;
    mapped->paused = getenv("TRUTH_PAUSED") != NULL;
    truth = mapped;
}

static void in_child(void) {
    atomic_flag_clear(&lock);
    memset(buckets, 0, sizeof buckets);
    open_truth();
}

static void find_next(void) {
    next_calloc = dlsym(RTLD_NEXT, "calloc");
    next_posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
    next_aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
    next_memalign = dlsym(RTLD_NEXT, "memalign");
    next_malloc = dlsym(RTLD_NEXT, "malloc");
}

// The first allocation may come long before any constructor.
static void prepare(void) {
    static int prepared;
    if (prepared) return;
    prepared = 1;
    busy++;
    find_next();
    open_truth();
    if (truth) pthread_atfork(NULL, NULL, in_child);
    busy--;
}

struct walk {
    uint64_t frames[MOST_FRAMES + 3]; // with those of the shim itself
    int depth;
    int last_is_known;
};

static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *argument) {
    struct walk *walk = argument;
    int exact = 0;
    uint64_t ip = _Unwind_GetIPInfo(context, &exact);
    if (ip == 0 || walk->depth == MOST_FRAMES + 3) return _URC_END_OF_STACK;
    walk->last_is_known = _Unwind_FindEnclosingFunction((void *)(ip + exact)) != NULL;
    // As memtrace has it: the address that is to be looked up is one before.
    walk->frames[walk->depth++] = ip + exact;
    return _URC_NO_REASON;
}

static void keep(const uint64_t *frames, int depth, int stuck) {
    uint64_t hash = depth;
    for (int i = 0; i < depth; i++) {
        hash = (hash ^ frames[i]) * 6364136223846793005;
        hash ^= hash >> 32;
    }
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) {}
    for (uint32_t bucket = hash % BUCKETS;; bucket = (bucket + 1) % BUCKETS) {
        if (buckets[bucket] == 0) {
            if (truth->stacks == MOST_STACKS) {
                truth->unrecorded++;
                break;
            }
            struct stack *new = &truth->stack[truth->stacks++];
            buckets[bucket] = truth->stacks;
            memcpy(new->frames, frames, depth * sizeof *frames);
            new->depth = depth;
            new->stuck = stuck;
        }
        struct stack *known = &truth->stack[buckets[bucket] - 1];
        if (known->depth == (uint32_t)depth && !memcmp(known->frames, frames, depth * sizeof *frames)) {
            known->blocks++;
            break;
        }
    }
    atomic_flag_clear_explicit(&lock, memory_order_release);
}

// `caller`: where the program goes on behind its call. Before the allocator is called, since a return probe hides return
// addresses.
static __attribute__((noinline)) void record(void *caller) {
    if (!truth || __atomic_load_n(&truth->paused, __ATOMIC_ACQUIRE)) return;
    if (busy++) {
        __atomic_add_fetch(&truth->unrecorded, 1, __ATOMIC_RELAXED);
    } else {
        int saved = errno;
        struct walk walk = {.depth = 0};
        _Unwind_Backtrace(visit, &walk);
        int first = 0;
        while (first < walk.depth && walk.frames[first] != (uint64_t)caller) first++;
        int depth = walk.depth - first;
        if (depth == 0) abort(); // the shim's own frames do not unwind
        keep(walk.frames + first, depth < MOST_FRAMES ? depth : MOST_FRAMES, !walk.last_is_known);
        errno = saved;
    }
    busy--;
}

// dlsym may ask for a little before there is an allocator to pass it on to.
static char early[4096];
static size_t early_used;
static int is_early(const void *block) { return (const char *)block >= early && (const char *)block < early + sizeof early; }
static void *early_block(size_t size) {
    char *block = early + early_used;
    early_used += (size + 15) & ~(size_t)15;
    if (early_used > sizeof early) abort();
    return block;
}

// Failures are not allocations. The tests' programs have none, so the stack can be taken before.
#define CALLER __builtin_return_address(0)

void *malloc(size_t size) {
    prepare();
    if (!next_malloc) return early_block(size);
    record(CALLER);
    void *block = next_malloc(size);
    if (!block) abort();
    return block;
}

void *calloc(size_t count, size_t size) {
    prepare();
    if (!next_malloc) return early_block(count * size);
    record(CALLER);
    void *block = next_calloc(count, size);
    if (!block) abort();
    return block;
}

static void *reallocate(void *old, size_t size, void *caller) {
    prepare();
    if (!size && old) return NULL; // a free
    record(caller);
    void *block = next_malloc(size);
    if (!block) abort();
    if (!old) return block;
    size_t known = is_early(old) ? (size_t)(early + sizeof early - (char *)old) : malloc_usable_size(old);
    return memcpy(block, old, size < known ? size : known);
}

void *realloc(void *old, size_t size) { return reallocate(old, size, CALLER); }

void *reallocarray(void *old, size_t count, size_t size) {
    size_t product;
    if (__builtin_mul_overflow(count, size, &product)) abort();
    return reallocate(old, product, CALLER);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    prepare();
    record(CALLER);
    int failed = next_posix_memalign(block, alignment, size);
    if (failed) abort();
    return failed;
}

void *aligned_alloc(size_t alignment, size_t size) {
    prepare();
    record(CALLER);
    void *block = next_aligned_alloc(alignment, size);
    if (!block) abort();
    return block;
}

void *memalign(size_t alignment, size_t size) {
    prepare();
    record(CALLER);
    void *block = next_memalign(alignment, size);
    if (!block) abort();
    return block;
}

void free(void *block) { (void)block; }
