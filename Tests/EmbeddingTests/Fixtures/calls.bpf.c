// Programs without maps: calls inside of a section, into .text, and a helper by its number.
typedef unsigned long long u64;

static u64 (*outside)(u64) = (void *)7;

__attribute__((noinline)) u64 square(u64 x) { return x * x; }
static __attribute__((noinline)) u64 cube(u64 x) { return square(x) * x; }

__attribute__((section("s/first"))) u64 first(unsigned char *memory, u64 size) { return size ? memory[0] : 100; }
__attribute__((section("s/calls"))) u64 calls(unsigned char *memory, u64 size) { return cube(memory[0]) + square(size); }
__attribute__((section("same"), noinline)) u64 inner(u64 x) { return x * 3 + 1; }
__attribute__((section("same"))) u64 outer(unsigned char *memory, u64 size) { return inner(memory[0]) + inner(size); }
__attribute__((section("s/helps"))) u64 helps(unsigned char *memory, u64 size) { return outside(memory[0] + size); }
