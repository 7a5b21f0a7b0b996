// A copy loop that the kernel itself keeps from faulting.
//
// Since Linux 5.11, where it is built with CONFIG_X86_SGX and whatever the processor, the vDSO has a function that enters enclaves
// (arch/x86/entry/vdso/vsgx.S), and the kernel an exception table for one instruction of it, ENCLU (extable.c): when the instruction at that
// address faults, the thread goes on elsewhere in the function. That is decided before anybody thinks of a signal, so it matters not
// what is blocked, who handles what, or who debugs. Where there are no enclaves nobody calls the function, and a process's vDSO is its own
// as soon as it is written to. Only that one place has a fixup; so the loop has one load, and it is there.
#define _GNU_SOURCE
#include "cruntime.h"
#include "cruntime_dynamic.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

// Run at attach and detach, not by programs.
#pragma clang attribute push(__attribute__((minsize)), apply_to = function)

int32_t cruntime_write_live(uint64_t address, const uint8_t *bytes, uint64_t size) {
    int64_t fd = cruntime_syscall(SYS_open, (int64_t)"/proc/thread-self/mem", O_RDWR | O_CLOEXEC, 0, 0, 0, 0);
    if (fd < 0) return (int32_t)fd;
    int64_t done = cruntime_syscall(SYS_pwrite64, fd, (int64_t)bytes, (int64_t)size, (int64_t)address, 0, 0);
    cruntime_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
    return done == (int64_t)size ? 0 : (done < 0 ? (int32_t)done : -EIO);
}

// The function keeps its first and last instructions at their places: unwind information describes the frame that they make.
static const uint8_t endbr[] = {0xf3, 0x0f, 0x1e, 0xfa};           // endbr64, in kernels built for it
static const uint8_t prologue[] = {0x55, 0x48, 0x89, 0xe5, 0x53};  // push %rbp; mov %rsp, %rbp; push %rbx
static const uint8_t epilogue[] = {0x5b, 0xc9, 0xc3};              // pop %rbx; leave; ret
static const uint8_t enclu[] = {0x0f, 0x01, 0xd7};
static const uint8_t loop[] = {
    0x48, 0x8b, 0x06,        // 1: mov (%rsi), %rax
    0x48, 0x89, 0x07,        // mov %rax, (%rdi)
    0x48, 0x83, 0xc6, 0x08,  // add $8, %rsi
    0x48, 0x83, 0xc7, 0x08,  // add $8, %rdi
    0xff, 0xca,              // dec %edx
    0x75, 0xee,              // jnz 1b
    0x31, 0xc0,              // xor %eax, %eax
};
enum { NOP = 0x90, JUMP = 0xeb, FAIL = 8 };

static uint32_t find(const struct cruntime_guard *guard, uint32_t from, const uint8_t *bytes) {
    while (from + 3 <= guard->size && cruntime_compare(guard->original + from, bytes, 3) != 0) from++;
    return from;
}

int32_t cruntime_find_guard(struct cruntime_guard *guard) {
    const struct cruntime_place *function = &cruntime_dynamic.enter_enclave;
    if (function->address == 0 || function->size > sizeof guard->code || (cruntime_cpu_features() & CRUNTIME_CPU_SGX)) return 0;
    guard->address = function->address;
    guard->vdso = cruntime_dynamic.vdso;
    guard->size = (uint32_t)function->size;
    cruntime_copy(guard->original, (const void *)function->address, guard->size);
    return cruntime_make_guard(guard);
}

int32_t cruntime_make_guard(struct cruntime_guard *guard) {
    uint32_t load = find(guard, 0, enclu), out = find(guard, load, epilogue);
    uint32_t start = cruntime_compare(guard->original, endbr, sizeof endbr) == 0 ? sizeof endbr : 0;
    uint32_t body = start + sizeof prologue;
    if (cruntime_compare(guard->original + start, prologue, sizeof prologue) != 0 || load < body + 2 || load >= 128
        || out < load + sizeof loop || out + 3 + FAIL > guard->size || find(guard, load + 3, enclu) + 3 <= guard->size)
        return 0;
    for (uint32_t i = 0; i < guard->size; i++) guard->code[i] = NOP;
    cruntime_copy(guard->code, guard->original, body);
    guard->code[body] = JUMP;
    guard->code[body + 1] = (uint8_t)(load - body - 2);
    cruntime_copy(guard->code + load, loop, sizeof loop);
    cruntime_copy(guard->code + out, epilogue, sizeof epilogue);
    // Wherever behind the epilogue the kernel has a fault go on, it comes here.
    uint8_t fail[FAIL] = {0x83, 0xc8, 0xff, 0xe9};  // or $-1, %eax; jmp
    uint32_t back = out - guard->size;
    cruntime_copy(fail + 4, &back, 4);
    cruntime_copy(guard->code + guard->size - FAIL, fail, FAIL);
    return 1;
}

int32_t cruntime_set_guard(const struct cruntime_guard *guard, int32_t guarded) {
    if (!guarded) cruntime_fetch_by(NULL);
    const uint8_t *bytes = guarded ? guard->code : guard->original;
    int32_t failed = cruntime_write_live(guard->address, bytes, guard->size);
    if (failed == 0 && guarded) cruntime_fetch_by((cruntime_words)guard->address);
    return failed;
}
#pragma clang attribute pop
