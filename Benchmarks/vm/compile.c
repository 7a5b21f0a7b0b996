// Programs made here, of shapes that a compiler with a loop inside a loop would be slow at: what an instruction costs must not depend on how
// many there are.
#include "compile.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "subject.h"

// One slot (RFC 9669, section 3).
static uint64_t slot(uint8_t opcode, int dst, int src, int16_t offset, int32_t imm) {
    return opcode | (uint64_t)dst << 8 | (uint64_t)src << 12 | (uint64_t)(uint16_t)offset << 16 | (uint64_t)(uint32_t)imm << 32;
}
enum { MOV = 0xb7, EXIT = 0x95, JUMP = 0x05, JUMP_LONG = 0x06, CALL = 0x85, CALLX = 0x8d, WIDE = 0x18 };

// Arithmetic and memory without a jump.
static size_t straight_line(uint64_t *code, int count) {
    size_t n = 0;
    code[n++] = slot(MOV, 0, 0, 0, 1);
    for (int i = 0; n < (size_t)count - 1; i++) switch (i % 5) {
            case 0: code[n++] = slot(0x79, 3, 1, (int16_t)(i % 1024 * 8), 0); break;  // r3 = *(u64 *)(r1 + ...)
            case 1: code[n++] = slot(0xaf, 0, 3, 0, 0); break;                         // r0 ^= r3
            case 2: code[n++] = slot(0x27, 0, 0, 0, 31); break;                        // r0 *= 31
            case 3: code[n++] = slot(0x67, 3, 0, 0, 7); break;                         // r3 <<= 7
            default: code[n++] = slot(0x0f, 0, 3, 0, 0); break;                        // r0 += r3
        }
    code[n++] = slot(EXIT, 0, 0, 0, 0);
    return n;
}

// To the last of a chain of `goto -2`, of which each goes to the one before: what the first needs is known at the last only after all others.
static size_t backward_chain(uint64_t *code, int count) {
    size_t n = 0;
    code[n++] = slot(MOV, 0, 0, 0, 7);
    code[n++] = slot(JUMP_LONG, 0, 0, 0, count);
    code[n++] = slot(EXIT, 0, 0, 0, 0);
    for (int i = 0; i < count; i++) code[n++] = slot(JUMP, 0, 0, -2, 0);
    return n;
}

// A call of each of as many functions.
static size_t calls(uint64_t *code, int count) {
    size_t n = 0;
    for (int i = 0; i < count; i++) code[n] = slot(CALL, 0, 1, 0, (int32_t)(count + 1 + 2 * i - ((int)n + 1))), n++;
    code[n++] = slot(EXIT, 0, 0, 0, 0);
    for (int i = 0; i < count; i++) code[n++] = slot(MOV, 0, 0, 0, i), code[n++] = slot(EXIT, 0, 0, 0, 0);
    return n;
}

// The same through registers.
static size_t register_calls(uint64_t *code, int count) {
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        code[n] = slot(WIDE, 2, 4, 0, (int32_t)(3 * count + 1 + 2 * i - ((int)n + 1)));
        code[n + 1] = 0;
        code[n + 2] = slot(CALLX, 2, 0, 0, 0);
        n += 3;
    }
    code[n++] = slot(EXIT, 0, 0, 0, 0);
    for (int i = 0; i < count; i++) code[n++] = slot(MOV, 0, 0, 0, i), code[n++] = slot(EXIT, 0, 0, 0, 0);
    return n;
}

// One instruction again and again, between others that use its result.
static size_t repeated(uint64_t *code, int count, uint64_t instruction) {
    size_t n = 0;
    code[n++] = slot(0x7b, 10, 1, -8, 0);  // *(u64 *)(r10 - 8) = r1
    code[n++] = slot(MOV, 0, 0, 0, 7);
    code[n++] = slot(MOV, 6, 0, 0, 3);
    while (n < (size_t)count - 1) code[n++] = instruction;
    code[n++] = slot(EXIT, 0, 0, 0, 0);
    return n;
}
static size_t divisions(uint64_t *code, int count) { return repeated(code, count, slot(0x3f, 0, 6, 0, 0)); }       // r0 /= r6
static size_t fetches(uint64_t *code, int count) { return repeated(code, count, slot(0xdb, 10, 6, -8, 0x51)); }    // r6 = fetch_and
static size_t helpers(uint64_t *code, int count) {
    size_t n = 0;
    while (n < (size_t)count - 6) {
        for (int r = 1; r <= 5; r++) code[n++] = slot(MOV, r, 0, 0, r);
        code[n++] = slot(CALL, 0, 0, 0, 1);
    }
    code[n++] = slot(EXIT, 0, 0, 0, 0);
    return n;
}
static uint64_t helper(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) { return a + b + c + d + e; }

// A 64-bit immediate takes two slots.
static size_t count_instructions(const uint64_t *code, size_t slots) {
    size_t count = 0;
    for (size_t i = 0; i < slots; i++, count++) i += (code[i] & 0xff) == WIDE;
    return count;
}

static const struct {
    const char *name;
    size_t (*make)(uint64_t *code, int count);
    int count;
} shapes[] = {
    {"straight line", straight_line, 6000},    {"straight line", straight_line, 100000}, {"goto -2", backward_chain, 15000},
    {"goto -2", backward_chain, 60000},        {"functions", calls, 500},                {"functions", calls, 2000},
    {"callx", register_calls, 500},            {"callx", register_calls, 2000},  {"divisions", divisions, 6000},
    {"fetch_and", fetches, 6000},              {"helper calls", helpers, 6000},
};

_Static_assert(sizeof shapes / sizeof *shapes == SHAPES, "compile.h says how many");

enum { TRIES = 50 };
static const double enough_ns = 3e8;

// The best of some compilations. A VM keeps its code, so each has a VM of its own; `build` is that of a program of the object, else NULL.
static struct compilation timed(const char *name, const struct build *build, const uint64_t *code, size_t slots, enum ubpf_mode mode) {
    struct compilation result = {.name = name, .instructions = count_instructions(code, slots), .microseconds = 1e18};
    double started = now();
    for (int i = 0; i < TRIES && (i == 0 || now() - started < enough_ns); i++) {
        ubpf_vm *vm = build ? load(name, build) : ubpf_vm_create();
        if (!vm || (!build && (ubpf_vm_register(vm, 1, helper) != 0 || ubpf_vm_load(vm, code, slots * 8) != 0)))
            die(name, vm ? ubpf_vm_error(vm) : "no memory");
        double start = cpu_time();
        if (!ubpf_vm_compile(vm, mode)) die(name, ubpf_vm_error(vm));
        double us = (cpu_time() - start) / 1000;
        if (us < result.microseconds) result.microseconds = us;
        ubpf_vm_code(vm, &result.bytes);
        ubpf_vm_destroy(vm);
    }
    return result;
}

void compile_shapes(struct compilation results[SHAPES][2]) {
    uint64_t *code = malloc(sizeof *code * 200000);
    if (!code) die("compilations", "no memory");
    for (int i = 0; i < SHAPES; i++) {
        size_t slots = shapes[i].make(code, shapes[i].count);
        results[i][0] = timed(shapes[i].name, NULL, code, slots, UBPF_UNCHECKED);
        results[i][1] = timed(shapes[i].name, NULL, code, slots, UBPF_CHECKED);
    }
    free(code);
}

// The section of a program; its slots in `slots`.
static const uint64_t *code_of(const struct build *build, const char *name, size_t *slots) {
    const Elf64_Ehdr *header = build->object;
    const Elf64_Shdr *sections = (const void *)((const char *)build->object + header->e_shoff);
    const char *names = (const char *)build->object + sections[header->e_shstrndx].sh_offset;
    for (int i = 0; i < header->e_shnum; i++) {
        const char *section = names + sections[i].sh_name;
        if (strncmp(section, "bench/", 6) != 0 || strcmp(section + 6, name) != 0) continue;
        *slots = sections[i].sh_size / 8;
        return (const uint64_t *)((const char *)build->object + sections[i].sh_offset);
    }
    die(name, "has no section");
    return NULL;
}

void compile_program(const char *name, const struct build *build, struct compilation results[2]) {
    size_t slots = 0;
    const uint64_t *code = code_of(build, name, &slots);
    results[0] = timed(name, build, code, slots, UBPF_UNCHECKED);
    results[1] = timed(name, build, code, slots, UBPF_CHECKED);
}
