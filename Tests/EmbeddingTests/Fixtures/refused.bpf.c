// What has to be refused: global data, strings, functions of others, pointers to functions.
typedef unsigned long long u64;

u64 counter;
static u64 (*print)(const char *, u64) = (void *)6;
u64 elsewhere(u64);

__attribute__((section("s/fine"))) u64 fine(void) { return 4; }
__attribute__((section("s/global"))) u64 global(void) { return counter++; }
__attribute__((section("s/text"))) u64 text(void) {
    static const char format[] = "hello";
    return print(format, sizeof format);
}
__attribute__((section("s/undefined"))) u64 undefined(u64 x) { return elsewhere(x); }
