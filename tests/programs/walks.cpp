// Allocations from deep stacks, for measuring what a stack costs. Reads requests from standard input, a line each, and answers
// each with `done`:
//   loop DEPTH PAIRS   malloc and free under DEPTH calls
//   paced DEPTH PAIRS  the same, a hundred in each millisecond
//   both DEPTH PAIRS   the same as loop, in each of two threads
//   keep DEPTH PAIRS   malloc without free
//   tree DEPTH PAIRS   objects made and dropped all over a tree of calls DEPTH deep, as parsers and compilers do
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <ctime>
#include <thread>

static volatile int after;
static thread_local long left;
static bool paced, keeps;

static void until_next_millisecond() {
    static timespec next;
    if (next.tv_sec == 0) clock_gettime(CLOCK_MONOTONIC, &next);
    next.tv_nsec += 1000000;
    if (next.tv_nsec >= 1000000000) next.tv_nsec -= 1000000000, next.tv_sec++;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, nullptr);
}

__attribute__((noinline, noclone)) static void pairs() {
    while (left-- > 0) {
        if (paced && left % 100 == 0) until_next_millisecond();
        void *block = malloc(64);
        __asm__ volatile("" : "+r"(block) : : "memory");
        if (!keeps) free(block);
    }
    after = after + 1;
}

__attribute__((noinline, noclone)) static void descend(int depth) {
    if (depth > 1) descend(depth - 1);
    else pairs();
    after = after + 1;
}

static unsigned state = 1;
static unsigned next() { return state = state * 1664525u + 1013904223u, state >> 16; }

struct Node {
    virtual ~Node() = default;
    virtual void visit(int depth) = 0;
};
struct Text : Node {
    void visit(int depth) override;
};
struct Pair : Node {
    void visit(int depth) override;
};

// Three frames a level, of different sizes, one of them virtual.
__attribute__((noinline, noclone)) static void grow(int depth) {
    if (left <= 0) return;
    std::unique_ptr<Node> node;
    if (next() & 1) node = std::make_unique<Text>();
    else node = std::make_unique<Pair>();
    left--;
    if (depth > 0) node->visit(depth - 1);
    after = after + 1;
}
__attribute__((noinline, noclone)) static void wide(int depth) {
    char room[200];
    __asm__ volatile("" : : "r"(room) : "memory");
    grow(depth);
    after = after + 1;
}
void Text::visit(int depth) {
    std::string text(40 + next() % 100, 'x');
    left--;
    wide(depth);
}
void Pair::visit(int depth) {
    grow(depth);
    wide(depth);
    after = after + 1;
}

int main() {
    char shape[16];
    int depth;
    while (scanf("%15s %d %ld", shape, &depth, &left) == 3) {
        paced = shape[0] == 'p';
        keeps = shape[0] == 'k';
        std::thread other;
        if (shape[0] == 'b') other = std::thread([depth, mine = left] { left = mine, descend(depth); });
        if (shape[0] == 't')
            while (left > 0) grow(depth);
        else descend(depth);
        if (other.joinable()) other.join();
        puts("done");
        fflush(stdout);
    }
    return 0;
}
