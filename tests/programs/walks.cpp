// Allocations from deep stacks, for measuring what a stack costs. Reads requests from standard input, a line each, and answers
// each with `done`:
//   loop DEPTH PAIRS   malloc and free under DEPTH calls
//   tree DEPTH PAIRS   objects made and dropped all over a tree of calls DEPTH deep, as parsers and compilers do
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

static volatile int after;
static long left;

__attribute__((noinline, noclone)) static void pairs() {
    while (left-- > 0) {
        void *block = malloc(64);
        __asm__ volatile("" : "+r"(block) : : "memory");
        free(block);
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
        if (shape[0] == 'l') descend(depth);
        else
            while (left > 0) grow(depth);
        puts("done");
        fflush(stdout);
    }
    return 0;
}
