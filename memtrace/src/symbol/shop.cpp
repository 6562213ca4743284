// Compiled by the tests of `symbol`. Each call of `site` prints the name of the
// place and the return address as an ELF virtual address.
#include <cstdio>
#include <cstdlib>

extern "C" char __executable_start;

[[gnu::noinline]] void site(const char *place) {
    std::printf("%s %lx\n", place, (char *)__builtin_return_address(0) - &__executable_start);
}

[[gnu::cold, gnu::noinline]] void cold_site(const char *place) {
    std::printf("%s %lx\n", place, (char *)__builtin_return_address(0) - &__executable_start);
}

[[noreturn, gnu::noinline]] void last_site(const char *place) {
    std::printf("%s %lx\n", place, (char *)__builtin_return_address(0) - &__executable_start);
    std::exit(0);
}

extern "C" void sizeless();
extern "C" void sized();
asm(".text\n"
    ".globl sized\n.type sized, @function\nsized:\n nop\n ret\n.size sized, . - sized\n .skip 64, 0xcc\n"
    ".globl sizeless\n.type sizeless, @function\nsizeless:\n .skip 64, 0xcc\n"
    ".globl outer\n.type outer, @function\nouter:\n .skip 16, 0xcc\n"
    "marker:\n .skip 16, 0xcc\n"
    ".size outer, . - outer\n");

namespace shop {
template <class T> struct Cart {
    T sum;
    [[gnu::always_inline]] Cart(T first) : sum(first) {
        site("constructor"); // here: constructor
        asm volatile("" ::: "memory");
    }
    [[gnu::always_inline]] void add(T value) {
        site("inlined"); // here: inlined
        sum += value;
        asm volatile("" ::: "memory");
    }
};

[[gnu::noinline]] long fill(long count) {
    Cart<long> cart(count); // here: call of constructor
    cart.add(count); // here: call of inlined
    return cart.sum;
}

[[gnu::noinline]] int choose(int argc) {
    if (argc > 5) {
        cold_site("cold"); // here: cold
        return 1;
    }
    return argc * 2;
}

[[gnu::noinline]] static bool compare(const void *, const void *) {
    last_site("last"); // here: last
}
} // namespace shop

int main(int argc, char **argv) {
    std::printf("sized %lx\n", (char *)sized - &__executable_start);
    std::printf("sizeless %lx\n", (char *)sizeless - &__executable_start);
    long sum = shop::fill(argc);
    sum += shop::choose(argc + 9);
    return shop::compare(argv, &sum);
}
