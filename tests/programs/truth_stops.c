// Allocations at every instruction: functions are run step by step, and the handler of each step allocates. So every
// prologue and epilogue, every leaf function and stub is on the stack below a signal frame once, at each of its
// instructions. Then stacks that were switched, by the C library and by hand. What is above each allocation is known to
// the unwinder of libgcc, whose answers tests/programs/shim.c writes down.
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define KEPT __attribute__((noinline, noclone))
static volatile unsigned sink;
static volatile int stepping;
static volatile unsigned steps;

static void allocate(size_t size) {
    void *made = malloc(size);
    sink = sink + (made != NULL);
}
KEPT static void leaf(size_t size) { allocate(size); sink = sink + 1; }

enum { TRAP_FLAG = 1 << 8 };

static void on_step(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];
    if (stepping) {
        steps = steps + 1;
        leaf(16);
        *flags |= TRAP_FLAG;
    } else {
        *flags &= ~(greg_t)TRAP_FLAG;
    }
}

// `raise` begins it: the handler sets the flag in the registers that it returns to.
static void step_on(void) { stepping = 1; raise(SIGTRAP); }
static void step_off(void) { stepping = 0; }

// Hand-written code: frames by push and by enter, with information for each instruction.
extern int by_hand(int);
extern int by_hand_with_frame_pointer(int);
__asm__(".text\n"
    ".type by_hand, @function\n"
    "by_hand: .cfi_startproc\n"
    "push %rbx\n .cfi_adjust_cfa_offset 8\n .cfi_offset rbx, -16\n"
    "push %r12\n .cfi_adjust_cfa_offset 8\n .cfi_offset r12, -24\n"
    "sub $1048, %rsp\n .cfi_adjust_cfa_offset 1048\n"
    "mov %edi, %ebx\n"
    "pushf\n .cfi_adjust_cfa_offset 8\n popf\n .cfi_adjust_cfa_offset -8\n"
    "lea 1(%rbx), %edi\n call by_hand_with_frame_pointer\n"
    "add $1048, %rsp\n .cfi_adjust_cfa_offset -1048\n"
    "pop %r12\n .cfi_adjust_cfa_offset -8\n .cfi_restore r12\n"
    "pop %rbx\n .cfi_adjust_cfa_offset -8\n .cfi_restore rbx\n"
    "ret\n .cfi_endproc\n .size by_hand, .-by_hand\n"
    ".type by_hand_with_frame_pointer, @function\n"
    "by_hand_with_frame_pointer: .cfi_startproc\n"
    "push %rbp\n .cfi_def_cfa_offset 16\n .cfi_offset rbp, -16\n"
    "mov %rsp, %rbp\n .cfi_def_cfa_register rbp\n"
    "and $-128, %rsp\n sub $256, %rsp\n lea (%rdi,%rdi), %eax\n"
    "leave\n .cfi_def_cfa rsp, 8\n .cfi_restore rbp\n"
    "ret\n .cfi_endproc\n .size by_hand_with_frame_pointer, .-by_hand_with_frame_pointer\n");

KEPT static int small(int a, int b) { return a * 31 + b; }
KEPT static int saves(int a, int b, int c) { return small(a, b) + small(b, c) * small(c, a) + small(a + 1, c); }
KEPT static int jumps_on(int a) { return small(a, a + 1); }
KEPT static int sum_of(const volatile char *memory, size_t size) { return memory[0] + memory[size - 1]; }
KEPT static int large(int n) { volatile char frame[70000]; frame[0] = frame[69999] = (char)n; return sum_of(frame, sizeof frame) + n; }
KEPT static int grows(size_t size) { char *memory = __builtin_alloca(size); memset(memory, 1, size); return sum_of(memory, size); }
KEPT static int aligned(int n) {
    volatile char frame[100] __attribute__((aligned(64)));
    frame[0] = frame[99] = (char)n;
    return sum_of(frame, sizeof frame) + grows(n + 1);
}
KEPT static int descends(int n) { return n ? descends(n - 1) + small(n, n) : 7; }
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

KEPT static void work(int by_step) {
    int numbers[] = {5, 3, 9, 1};
    char text[200], *end;
    struct timespec now;
    struct timeval day;
    if (by_step) step_on();
    sink += by_hand(3) + saves(1, 2, 3) + jumps_on(4) + large(2) + aligned(9) + descends(5);
    clock_gettime(CLOCK_MONOTONIC, &now); // in the vDSO
    gettimeofday(&day, NULL);
    qsort(numbers, 4, sizeof *numbers, compare);
    snprintf(text, sizeof text, "%d %s %x", 12, "text", 255);
    sink += strtoul("12345", &end, 10) + strlen(text) + (strchr(text, 'x') != NULL);
    memset(text, 1, sizeof text);
    memmove(text, text + 50, 100);
    sink += (unsigned)(sqrt((double)sink) + pow(1.5, (double)(sink & 3)));
    step_off();
}

static void on_signal(int signal) { leaf(32 + signal); }
static void nests(int signal) { leaf(33); if (signal == SIGUSR1) raise(SIGUSR2); leaf(34); }
KEPT static void faults(void) { __asm__ volatile("ud2"); }
static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)info;
    leaf(35 + signal);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}
static void handle(int signal, void (*handler)(int), void (*details)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_flags = flags | (details ? SA_SIGINFO : 0)};
    if (details) action.sa_sigaction = details;
    else action.sa_handler = handler;
    if (sigaction(signal, &action, NULL)) abort();
}

KEPT static void signals(int flags) {
    handle(SIGTRAP, NULL, on_step, flags);
    handle(SIGILL, NULL, on_fault, flags);
    handle(SIGUSR1, nests, NULL, flags);
    handle(SIGUSR2, on_signal, NULL, flags);
    faults();
    raise(SIGUSR1);
    raise(SIGUSR2);
    work(0); // what is bound late is bound then: the dynamic linker's own frames are out of reach
    work(1);
}

// Stacks of their own, entered and left in the middle.
static ucontext_t outside, inside;
KEPT static void deeper(int n) { leaf(40 + n); if (n) deeper(n - 1); else swapcontext(&inside, &outside); leaf(50 + n); }
static void coroutine(int first, int second) { leaf(61); deeper(first); swapcontext(&inside, &outside); deeper(second); leaf(62); }
KEPT static void contexts(void) {
    size_t size = 1 << 16;
    if (getcontext(&inside)) abort();
    inside.uc_stack.ss_sp = malloc(size);
    inside.uc_stack.ss_size = size;
    inside.uc_link = &outside;
    makecontext(&inside, (void (*)(void))coroutine, 2, 3, 5);
    for (int i = 0; i < 4; i++) { swapcontext(&outside, &inside); leaf(63); }
}

// By hand, as coroutine libraries do: only what a called function must keep.
extern void switch_stack(void **save, void *to);
extern void begin_stack(void);
__asm__(".text\n"
    ".type switch_stack, @function\n"
    "switch_stack: .cfi_startproc\n"
    "push %rbp\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset rbp, 0\n"
    "push %rbx\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset rbx, 0\n"
    "push %r12\n push %r13\n push %r14\n push %r15\n .cfi_adjust_cfa_offset 32\n"
    "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
    "pop %r15\n pop %r14\n pop %r13\n pop %r12\n .cfi_adjust_cfa_offset -32\n"
    "pop %rbx\n .cfi_adjust_cfa_offset -8\n .cfi_restore rbx\n"
    "pop %rbp\n .cfi_adjust_cfa_offset -8\n .cfi_restore rbp\n"
    "ret\n .cfi_endproc\n .size switch_stack, .-switch_stack\n"
    ".type begin_stack, @function\n"
    "begin_stack: .cfi_startproc\n .cfi_undefined rip\n"
    "call *%rbx\n ud2\n .cfi_endproc\n .size begin_stack, .-begin_stack\n");
static void *main_stack, *other_stack;
static void switched(void) {
    for (int i = 0;; i++) {
        leaf(70 + i);
        sink += descends(3);
        switch_stack(&other_stack, main_stack);
    }
}
KEPT static void by_hand_switching(void) {
    size_t size = 1 << 16;
    char *stack = aligned_alloc(16, size);
    void **top = (void **)(stack + size - 64);
    *--top = NULL;
    *--top = NULL; // calls are made from multiples of 16
    *--top = (void *)begin_stack;
    *--top = (void *)0x1234567; // rbp: no frame pointer
    *--top = (void *)switched; // rbx
    for (int i = 0; i < 4; i++) *--top = NULL;
    other_stack = top;
    for (int i = 0; i < 5; i++) { switch_stack(&main_stack, other_stack); leaf(64); }
}

static void *thread(void *argument) {
    static char memory[1 << 16];
    stack_t own = {.ss_sp = memory, .ss_size = sizeof memory};
    if (sigaltstack(&own, NULL)) abort();
    signals(SA_ONSTACK);
    signals(0);
    return argument;
}

int main(void) {
    pthread_t id;
    signals(0);
    static char memory[1 << 16];
    stack_t own = {.ss_sp = memory, .ss_size = sizeof memory};
    if (sigaltstack(&own, NULL)) abort();
    signals(SA_ONSTACK);
    contexts();
    by_hand_switching();
    if (pthread_create(&id, NULL, thread, NULL)) abort();
    pthread_join(id, NULL);
    if (steps < 2000) abort(); // not stepped
    return 0;
}
