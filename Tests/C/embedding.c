// Every function of ubpf.h with every kind of wrong argument, from C: texts, results, threads, memory. Exits with 0 if all is right.
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ubpf.h>

static int failures;

#define CHECK(condition)                                                \
    do {                                                                \
        if (!(condition)) {                                             \
            failures++;                                                 \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);     \
        }                                                               \
    } while (0)

// The call failed, and its text says so.
#define FAILS(vm, call, text)                                                                   \
    do {                                                                                        \
        int failed = (call) != 0;                                                               \
        if (!failed || !strstr(ubpf_vm_error(vm), text)) {                                      \
            failures++;                                                                         \
            fprintf(stderr, "line %d: %s: '%s'\n", __LINE__, #call, ubpf_vm_error(vm));         \
        }                                                                                       \
    } while (0)

#define OP(code, dst, src, offset, imm) \
    ((uint64_t)(code) | (uint64_t)((dst) | (src) << 4) << 8 | (uint64_t)(uint16_t)(offset) << 16 | (uint64_t)(uint32_t)(imm) << 32)
#define MOV(dst, imm) OP(0xb7, dst, 0, 0, imm)
#define CALL(number) OP(0x85, 0, 0, 0, number)
#define EXIT OP(0x95, 0, 0, 0, 0)
#define LOAD(vm, ...) ubpf_vm_load(vm, (uint64_t[]){__VA_ARGS__}, sizeof((uint64_t[]){__VA_ARGS__}))

static uint64_t add(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
    return a + 10 * b + 100 * c + 1000 * d + 10000 * e;
}

static unsigned char given[16];
static uint64_t give(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
    (void)a, (void)b, (void)c, (void)d, (void)e;
    return (uint64_t)given;
}

static uint64_t run(ubpf_vm *vm, void *memory, size_t size) {
    uint64_t result = 0xbad;
    CHECK(ubpf_vm_run(vm, memory, size, &result) == 0);
    CHECK(strcmp(ubpf_vm_error(vm), "") == 0);
    ubpf_function checked = ubpf_vm_compile(vm, UBPF_CHECKED);
    ubpf_function unchecked = ubpf_vm_compile(vm, UBPF_UNCHECKED);
    CHECK(checked && unchecked);
    CHECK(checked == ubpf_vm_compile(vm, UBPF_CHECKED));
    if (checked) CHECK(checked(memory, size) == result);
    if (unchecked) CHECK(unchecked(memory, size) == result);
    return result;
}

// Interpreted and compiled, the run is stopped with the same text.
static void stopped(ubpf_vm *vm, void *memory, size_t size, const char *text) {
    uint64_t result = 0xbad;
    FAILS(vm, ubpf_vm_run(vm, memory, size, &result), text);
    CHECK(result == 0xbad);
    ubpf_function checked = ubpf_vm_compile(vm, UBPF_CHECKED);
    CHECK(checked);
    CHECK(strcmp(ubpf_vm_error(vm), "") == 0);
    uint64_t before = ubpf_vm_traps(vm);
    if (checked) CHECK(checked(memory, size) == UINT64_MAX);
    CHECK(ubpf_vm_traps(vm) == before + 1);
    FAILS(vm, -1, text);
}

// Memory that is none is the caller's mistake: no instruction is named.
static void noMemory(void) {
    ubpf_vm *vm = ubpf_vm_create();
    const uint64_t code[] = {0xb7 | 1ull << 32, 0x95};
    uint64_t result = 0;
    CHECK(ubpf_vm_load(vm, code, sizeof code) == 0);
    ubpf_function checked = ubpf_vm_compile(vm, UBPF_CHECKED);
    CHECK(checked);
    if (checked) CHECK(checked(NULL, 8) == UINT64_MAX);
    FAILS(vm, -1, "memory given to the compiled function");
    if (checked) CHECK(checked(given, (size_t)-9) == UINT64_MAX);
    FAILS(vm, -1, "memory given to the compiled function is none: it starts at 0x");
    FAILS(vm, ubpf_vm_run(vm, NULL, 8, &result), "NULL");
    ubpf_vm_destroy(vm);
}

static void withoutVM(void) {
    uint64_t result = 0;
    size_t size = 1;
    CHECK(strstr(ubpf_vm_error(NULL), "no VM"));
    CHECK(ubpf_vm_register(NULL, 1, add) == -1);
    CHECK(ubpf_vm_allow(NULL, given, 1) == -1);
    CHECK(ubpf_vm_set_budget(NULL, 1) == -1);
    CHECK(ubpf_vm_load(NULL, given, 8) == -1);
    CHECK(ubpf_vm_load_elf(NULL, given, 8, NULL) == -1);
    CHECK(ubpf_vm_run(NULL, NULL, 0, &result) == -1);
    CHECK(ubpf_vm_compile(NULL, UBPF_CHECKED) == NULL);
    CHECK(ubpf_vm_traps(NULL) == 0);
    CHECK(ubpf_vm_code(NULL, &size) == NULL && size == 0);
    CHECK(ubpf_vm_code(NULL, NULL) == NULL);
    ubpf_vm_destroy(NULL);
    CHECK(ubpf_version() == UBPF_VERSION);
}

static void arguments(void) {
    ubpf_vm *vm = ubpf_vm_create();
    uint64_t result = 0;
    size_t size = 1;
    CHECK(vm && strcmp(ubpf_vm_error(vm), "") == 0);
    FAILS(vm, ubpf_vm_run(vm, NULL, 0, &result), "no program");
    FAILS(vm, ubpf_vm_compile(vm, UBPF_CHECKED) ? 0 : -1, "no program");
    CHECK(ubpf_vm_code(vm, &size) == NULL && size == 0);
    FAILS(vm, ubpf_vm_register(vm, 256, add), "helper 256");
    FAILS(vm, ubpf_vm_register(vm, UINT32_MAX, add), "below 256");
    FAILS(vm, ubpf_vm_register(vm, 1, NULL), "NULL");
    FAILS(vm, ubpf_vm_allow(vm, NULL, 1), "NULL");
    FAILS(vm, ubpf_vm_allow(vm, given, SIZE_MAX), "address space");
    FAILS(vm, ubpf_vm_load(vm, NULL, 8), "NULL");
    FAILS(vm, ubpf_vm_load(vm, given, (size_t)-8), "negative");
    FAILS(vm, ubpf_vm_load(vm, given, (size_t)1 << 62), "more than 16 MB");
    FAILS(vm, ubpf_vm_load_elf(vm, given, SIZE_MAX, NULL), "more than 256 MB");
    FAILS(vm, ubpf_vm_allow(vm, given, SIZE_MAX), "address space");
    FAILS(vm, ubpf_vm_load(vm, NULL, 0), "no instructions");
    FAILS(vm, ubpf_vm_load_elf(vm, NULL, 8, "x"), "NULL");
    FAILS(vm, ubpf_vm_load_elf(vm, NULL, 0, "x"), "no ELF");
    FAILS(vm, ubpf_vm_load_elf(vm, "#include <x.h>", 14, NULL), "no ELF");
    CHECK(LOAD(vm, MOV(0, 5), EXIT) == 0);
    FAILS(vm, ubpf_vm_run(vm, NULL, 1, &result), "NULL");
    FAILS(vm, ubpf_vm_run(vm, given, SIZE_MAX, &result), "address space");
    CHECK(ubpf_vm_run(vm, NULL, 0, NULL) == 0);
    FAILS(vm, ubpf_vm_compile(vm, (enum ubpf_mode)7) ? 0 : -1, "7 is no mode");
    // The header's order is enforced, and loading starts again.
    CHECK(run(vm, NULL, 0) == 5);
    CHECK(ubpf_vm_code(vm, &size) != NULL && size > 0);
    CHECK(ubpf_vm_code(vm, NULL) != NULL);
    FAILS(vm, ubpf_vm_allow(vm, given, 1), "compiled already");
    FAILS(vm, ubpf_vm_set_budget(vm, 1), "compiled already");
    // A refused program leaves the one before.
    FAILS(vm, LOAD(vm, MOV(0, 6)), "exit");
    CHECK(run(vm, NULL, 0) == 5);
    CHECK(LOAD(vm, MOV(0, 7), EXIT) == 0);
    CHECK(ubpf_vm_code(vm, NULL) == NULL);
    CHECK(ubpf_vm_register(vm, 1, add) == 0);
    CHECK(run(vm, NULL, 0) == 7);
    ubpf_vm_destroy(vm);
}

static void refusals(void) {
    ubpf_vm *vm = ubpf_vm_create();
    FAILS(vm, ubpf_vm_load(vm, (uint64_t[]){EXIT}, 7), "8-byte slot");
    FAILS(vm, LOAD(vm, 0xff), "unknown opcode 0xff");
    FAILS(vm, LOAD(vm, MOV(10, 1), EXIT), "r10");
    FAILS(vm, LOAD(vm, MOV(12, 1), EXIT), "r12");
    FAILS(vm, LOAD(vm, MOV(0, 1), OP(0x05, 0, 0, 5, 0), EXIT), "slot 1");
    FAILS(vm, LOAD(vm, OP(0x18, 1, 0, 0, 0)), "second slot");
    FAILS(vm, LOAD(vm, MOV(0, 1), CALL(3), EXIT), "instruction 1: calls helper 3, which is not registered");
    FAILS(vm, LOAD(vm, CALL(5), EXIT), "helper 5");
    FAILS(vm, LOAD(vm, CALL(-1), EXIT), "helper -1");
    FAILS(vm, LOAD(vm, CALL(256), EXIT), "helper 256");
    FAILS(vm, LOAD(vm, OP(0x85, 0, 1, 0, 7), EXIT), "slot 8");
    FAILS(vm, LOAD(vm, OP(0x18, 1, 1, 0, 3), 0, EXIT), "map");
    FAILS(vm, LOAD(vm, OP(0x85, 0, 2, 0, 7), EXIT), "outside the kernel");
    FAILS(vm, LOAD(vm, OP(0x20, 0, 0, 0, 0), EXIT), "outside the kernel");
    ubpf_vm_destroy(vm);
}

static void helpers(void) {
    ubpf_vm *vm = ubpf_vm_create();
    // Numbers that have a meaning in other runtimes are free here.
    static const uint32_t numbers[] = {0, 1, 5, 12, 164, 181, 255};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        CHECK(LOAD(vm, CALL(numbers[i]), EXIT) == -1);
        CHECK(ubpf_vm_register(vm, numbers[i], add) == 0);
        CHECK(LOAD(vm, MOV(1, 1), MOV(2, 2), MOV(3, 3), MOV(4, 4), MOV(5, 5), CALL(numbers[i]), EXIT) == 0);
        CHECK(run(vm, NULL, 0) == 54321);
    }
    // callx, with a helper and without one.
    CHECK(LOAD(vm, MOV(1, 7), MOV(2, 0), MOV(3, 0), MOV(4, 0), MOV(5, 0), MOV(6, 5), OP(0x8d, 6, 0, 0, 0), EXIT) == 0);
    CHECK(run(vm, NULL, 0) == 7);
    CHECK(LOAD(vm, MOV(6, 99), OP(0x8d, 6, 0, 0, 0), EXIT) == 0);
    stopped(vm, NULL, 0, "calls helper 99");
    CHECK(LOAD(vm, OP(0x18, 6, 0, 0, 5), OP(0, 0, 0, 0, 9), OP(0x8d, 6, 0, 0, 0), EXIT) == 0);
    stopped(vm, NULL, 0, "calls helper 0x900000005");
    // A function by its handle, and what lies behind its first instruction.
    CHECK(LOAD(vm, OP(0x18, 6, 4, 0, 3), OP(0, 0, 0, 0, 0), OP(0x8d, 6, 0, 0, 0), EXIT, MOV(0, 1), MOV(0, 2), EXIT) == 0);
    CHECK(run(vm, NULL, 0) == 2);
    CHECK(LOAD(vm, OP(0x18, 6, 4, 0, 4), OP(0, 0, 0, 0, 0), OP(0x07, 6, 0, 0, 1), OP(0x8d, 6, 0, 0, 0), EXIT, MOV(0, 1), MOV(0, 2), EXIT) == 0);
    stopped(vm, NULL, 0, "calls instruction 5, where no function starts");
    ubpf_vm_destroy(vm);
}

static void memory(void) {
    ubpf_vm *vm = ubpf_vm_create();
    unsigned char bytes[8] = {9, 8, 7};
    CHECK(LOAD(vm, OP(0x71, 0, 1, 2, 0), OP(0x0f, 0, 2, 0, 0), EXIT) == 0);
    CHECK(run(vm, bytes, 3) == 10);
    CHECK(run(vm, bytes, 8) == 15);
    stopped(vm, bytes, 2, "instruction 0 (r0 = *(u8 *)(r1 +2)): reads");
    stopped(vm, NULL, 0, "reads 0x2");
    CHECK(LOAD(vm, OP(0x72, 1, 0, 2, 77), MOV(0, 0), EXIT) == 0);
    CHECK(run(vm, bytes, 3) == 0 && bytes[2] == 77);
    stopped(vm, bytes, 2, "writes");
    // A wrong size is stopped before the program starts.
    ubpf_function checked = ubpf_vm_compile(vm, UBPF_CHECKED);
    CHECK(checked && checked(bytes, SIZE_MAX) == UINT64_MAX && checked(NULL, 1) == UINT64_MAX);
    // The block of ubpf_vm_allow, before and after.
    CHECK(ubpf_vm_register(vm, 2, give) == 0);
    CHECK(LOAD(vm, CALL(2), OP(0x7a, 0, 0, 8, 5), OP(0x79, 0, 0, 8, 0), EXIT) == 0);
    stopped(vm, NULL, 0, "writes");
    CHECK(ubpf_vm_load(vm, (uint64_t[]){EXIT}, 8) == 0);
    CHECK(ubpf_vm_allow(vm, given, sizeof given) == 0);
    CHECK(LOAD(vm, CALL(2), OP(0x7a, 0, 0, 8, 5), OP(0x79, 0, 0, 8, 0), EXIT) == 0);
    CHECK(run(vm, NULL, 0) == 5);
    CHECK(LOAD(vm, CALL(2), OP(0x7a, 0, 0, 9, 5), EXIT) == 0);
    stopped(vm, NULL, 0, "writes");
    ubpf_vm_destroy(vm);
}

static void stack(void) {
    ubpf_vm *vm = ubpf_vm_create();
    // The stack starts as zeros, whatever ran before.
    CHECK(LOAD(vm, OP(0x79, 0, 10, -512, 0), OP(0x7a, 10, 0, -512, -1), EXIT) == 0);
    uint64_t result = 1;
    for (int i = 0; i < 3; i++) CHECK(ubpf_vm_run(vm, NULL, 0, &result) == 0 && result == 0);
    ubpf_function checked = ubpf_vm_compile(vm, UBPF_CHECKED);
    for (int i = 0; i < 3; i++) CHECK(checked && checked(NULL, 0) == 0);
    CHECK(LOAD(vm, OP(0x7a, 10, 0, 0, 1), MOV(0, 0), EXIT) == 0);
    stopped(vm, NULL, 0, "writes");
    // f(n) = n == 0 ? 0 : 1 + f(n - 1): eight frames.
    CHECK(LOAD(vm, OP(0x85, 0, 1, 0, 1), EXIT, MOV(0, 0), OP(0x15, 1, 0, 3, 0), OP(0x07, 1, 0, 0, -1), OP(0x85, 0, 1, 0, -4),
               OP(0x07, 0, 0, 0, 1), EXIT) == 0);
    CHECK(ubpf_vm_set_budget(vm, 0) == 0);
    CHECK(run(vm, NULL, 0) == 0);
    unsigned char seven[7], eight[8];
    CHECK(LOAD(vm, OP(0xbf, 1, 2, 0, 0), OP(0x85, 0, 1, 0, 1), EXIT, MOV(0, 0), OP(0x15, 1, 0, 3, 0), OP(0x07, 1, 0, 0, -1),
               OP(0x85, 0, 1, 0, -4), OP(0x07, 0, 0, 0, 1), EXIT) == 0);
    CHECK(run(vm, seven, 6) == 6);
    stopped(vm, eight, 8, "deeper than 8 frames");
    ubpf_vm_destroy(vm);
}

static ubpf_vm *machine;
static uint64_t limit(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
    (void)b, (void)c, (void)d, (void)e;
    return (uint64_t)ubpf_vm_set_budget(machine, a);
}

// A loop of 1000 rounds, with may_goto or without, and with 5000 instructions on a way that is not gone, under a budget for the rounds alone.
static void longWay(ubpf_vm *vm, int has_may_goto) {
    enum { COLD = 5000 };
    static uint64_t code[COLD + 16];
    size_t n = 0;
    code[n++] = MOV(0, 0);
    code[n++] = has_may_goto ? OP(0xe5, 0, 0, COLD + 4, 0) : MOV(3, 0);
    code[n++] = OP(0x07, 0, 0, 0, 1);                 // r0 += 1
    code[n++] = OP(0x35, 0, 0, COLD + 2, 1000);       // if r0 >= 1000 goto exit
    code[n++] = OP(0x55, 0, 0, -4, 0);                // if r0 != 0 goto the loop
    for (int i = 0; i < COLD; i++) code[n++] = OP(0xa7, 3, 0, 0, 1);
    code[n++] = OP(0x05, 0, 0, -(COLD + 5), 0);
    code[n++] = EXIT;
    CHECK(ubpf_vm_load(vm, code, n * sizeof *code) == 0);
    CHECK(ubpf_vm_set_budget(vm, 4001) == 0);
    CHECK(run(vm, NULL, 0) == 1000);
    CHECK(ubpf_vm_executed(vm) <= 4001);
}

static void budget(void) {
    ubpf_vm *vm = ubpf_vm_create();
    longWay(vm, 0);
    CHECK(ubpf_vm_load(vm, (uint64_t[]){EXIT}, 8) == 0);
    longWay(vm, 1);
    // What a run executed does not depend on what a helper does to the budget of later ones.
    machine = vm;
    CHECK(ubpf_vm_register(vm, 1, limit) == 0);
    CHECK(LOAD(vm, MOV(1, 3), CALL(1), MOV(0, 5), EXIT) == 0);
    CHECK(ubpf_vm_set_budget(vm, 1000) == 0);
    CHECK(ubpf_vm_run(vm, NULL, 0, NULL) == 0 && ubpf_vm_executed(vm) == 4);
    FAILS(vm, ubpf_vm_run(vm, NULL, 0, NULL), "too many instructions");
    CHECK(ubpf_vm_executed(vm) == 3);
    CHECK(ubpf_vm_set_budget(vm, 1 << 24) == 0);
    CHECK(LOAD(vm, OP(0x05, 0, 0, -1, 0)) == 0);
    stopped(vm, NULL, 0, "too many instructions");
    CHECK(LOAD(vm, MOV(0, 3), MOV(0, 4), EXIT) == 0);
    CHECK(ubpf_vm_set_budget(vm, 2) == 0);
    stopped(vm, NULL, 0, "too many instructions");
    CHECK(LOAD(vm, MOV(0, 3), MOV(0, 4), EXIT) == 0);
    CHECK(ubpf_vm_set_budget(vm, 3) == 0);
    CHECK(run(vm, NULL, 0) == 4);
    ubpf_vm_destroy(vm);
}

static void *concurrent(void *argument) {
    for (int i = 0; i < 300; i++) {
        ubpf_vm *vm = ubpf_vm_create();
        CHECK(LOAD(vm, 0xff) == -1);
        CHECK(ubpf_vm_register(vm, 1, add) == 0);
        CHECK(LOAD(vm, MOV(2, 0), MOV(3, 0), MOV(4, 0), MOV(5, 0), OP(0x79, 1, 1, 0, 0), CALL(1), EXIT) == 0);
        uint64_t word = (uint64_t)argument * 1000 + (uint64_t)i;
        CHECK(run(vm, &word, sizeof word) == word);
        ubpf_vm_destroy(vm);
    }
    return NULL;
}

static ubpf_function shared;
static void *callShared(void *argument) {
    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t word = i ^ (uint64_t)argument;
        CHECK(shared(&word, sizeof word) == word);
        if (i % 64 == 0) CHECK(shared(NULL, 0) == UINT64_MAX);
    }
    return NULL;
}

static void threads(void) {
    pthread_t threads[8];
    for (uint64_t i = 0; i < 8; i++) pthread_create(&threads[i], NULL, concurrent, (void *)i);
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
    ubpf_vm *vm = ubpf_vm_create();
    CHECK(LOAD(vm, OP(0x79, 0, 1, 0, 0), EXIT) == 0);
    shared = ubpf_vm_compile(vm, UBPF_CHECKED);
    CHECK(shared);
    for (uint64_t i = 0; i < 8; i++) pthread_create(&threads[i], NULL, callShared, (void *)(i << 32));
    for (int i = 0; i < 1000; i++) {
        const char *text = ubpf_vm_error(vm);
        CHECK(*text == 0 || strstr(text, "instruction 0 (r0 = *(u64 *)(r1 +0)): reads 0x0"));
    }
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
    CHECK(ubpf_vm_traps(vm) == 8 * ((100000 + 63) / 64));
    ubpf_vm_destroy(vm);
}

static void memoryIsGivenBack(void) {
    struct mallinfo2 before = {0};
    for (int i = 0; i < 2000; i++) {
        if (i == 100) before = mallinfo2();
        ubpf_vm *vm = ubpf_vm_create();
        for (int j = 0; j < 3; j++) {
            CHECK(LOAD(vm, 0xff) == -1);
            CHECK(LOAD(vm, MOV(0, 1), EXIT) == 0);
            CHECK(ubpf_vm_compile(vm, UBPF_CHECKED) && ubpf_vm_compile(vm, UBPF_UNCHECKED));
        }
        ubpf_vm_destroy(vm);
    }
    CHECK(mallinfo2().uordblks <= before.uordblks);
    FILE *maps = fopen("/proc/self/maps", "r");
    int lines = 0;
    for (int byte; (byte = getc(maps)) != EOF;) lines += byte == '\n';
    fclose(maps);
    CHECK(lines < 200);
}

int main(void) {
    withoutVM();
    arguments();
    refusals();
    helpers();
    memory();
    noMemory();
    stack();
    budget();
    threads();
    memoryIsGivenBack();
    if (failures) fprintf(stderr, "%d checks failed\n", failures);
    return failures != 0;
}
