// SPDX-License-Identifier: Apache-2.0
//
// A program that runs BPF inside itself, interpreted and compiled. Build: cc embed.c $(pkg-config --cflags --libs ubpf)
#include <stdio.h>
#include <string.h>
#include <ubpf.h>

// r0 = the sum of the bytes of memory, r1 being its start and r2 its size; then helper 1 with r0.
static const uint64_t sum[] = {
    0x00000000000000b7,  // r0 = 0
    0x000000000000120f,  // r2 += r1
    0x000000000004211d,  // if r1 == r2 goto +4
    0x0000000000001371,  // r3 = *(u8 *)(r1 + 0)
    0x000000000000300f,  // r0 += r3
    0x0000000100000107,  // r1 += 1
    0x00000000fffb0005,  // goto -5
    0x00000000000001bf,  // r1 = r0
    0x0000000100000085,  // call 1
    0x0000000000000095,  // exit
};

// A program that reads 8 bytes behind its memory.
static const uint64_t outside[] = {
    0x000000000000210f,  // r1 += r2
    0x0000000000001079,  // r0 = *(u64 *)(r1 + 0)
    0x0000000000000095,  // exit
};

static uint64_t twice(uint64_t value, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
    (void)b, (void)c, (void)d, (void)e;
    return 2 * value;
}

static int failed(ubpf_vm *vm, const char *what) {
    fprintf(stderr, "%s: %s\n", what, ubpf_vm_error(vm));
    ubpf_vm_destroy(vm);
    return 1;
}

int main(void) {
    unsigned char memory[] = {1, 2, 3, 4, 5};
    uint64_t result;
    ubpf_vm *vm = ubpf_vm_create();

    if (ubpf_vm_register(vm, 1, twice) != 0) return failed(vm, "register");
    if (ubpf_vm_load(vm, sum, sizeof sum) != 0) return failed(vm, "load");
    if (ubpf_vm_run(vm, memory, sizeof memory, &result) != 0) return failed(vm, "run");
    printf("interpreted: %llu\n", (unsigned long long)result);

    ubpf_function function = ubpf_vm_compile(vm, UBPF_CHECKED);
    if (!function) return failed(vm, "compile");
    printf("compiled: %llu\n", (unsigned long long)function(memory, sizeof memory));

    // What a program may not do ends it, and not this process.
    if (ubpf_vm_load(vm, outside, sizeof outside) != 0) return failed(vm, "load");
    if (ubpf_vm_run(vm, memory, sizeof memory, &result) == 0) return 1;
    printf("stopped: %s\n", ubpf_vm_error(vm));
    function = ubpf_vm_compile(vm, UBPF_CHECKED);
    if (!function) return failed(vm, "compile");
    function(memory, sizeof memory);
    printf("stopped: %s\n", ubpf_vm_error(vm));
    printf("stopped runs of compiled code: %llu\n", (unsigned long long)ubpf_vm_traps(vm));
    ubpf_vm_destroy(vm);
    return 0;
}
