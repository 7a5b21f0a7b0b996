// SPDX-License-Identifier: Apache-2.0
//
// Run BPF programs inside a program of your own: interpreted, or compiled to x86-64 machine code.
//
// Link with `cc app.c $(pkg-config --cflags --libs ubpf)`. Nothing happens in a process that calls none of this. Programs are BPF
// instructions (RFC 9669, up to ISA v4), without maps; they see one block of memory, their stack, and the helpers that you register.
//
//     ubpf_vm *vm = ubpf_vm_create();
//     uint64_t result;
//     if (ubpf_vm_load(vm, code, sizeof code) != 0 || ubpf_vm_run(vm, memory, size, &result) != 0)
//         fprintf(stderr, "%s\n", ubpf_vm_error(vm));
//     ubpf_vm_destroy(vm);
//
// Functions that return int return 0 on success, and -1 with a text in ubpf_vm_error(). A VM may be used by one thread at a time; the
// compiled function of a loaded VM may be called by any number of threads at once.
#ifndef UBPF_H
#define UBPF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A program with its helpers.
typedef struct ubpf_vm ubpf_vm;

/// A function that programs call by number; its result becomes r0.
typedef uint64_t (*ubpf_helper)(uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5);

/// A compiled program: r1 is `memory`, r2 is `size`; returns r0.
typedef uint64_t (*ubpf_function)(void *memory, size_t size);

/// What compiled code guards against.
enum ubpf_mode {
    /// Every memory access, the depth of calls and the number of instructions are checked; the process cannot be harmed.
    UBPF_CHECKED = 0,
    /// Nothing is checked: only for programs that are known to be right.
    UBPF_UNCHECKED = 1,
};

/// Helpers have numbers below this.
#define UBPF_MAX_HELPERS 256

/// A new VM without a program, or NULL when there is no memory.
ubpf_vm *ubpf_vm_create(void);

/// Frees a VM and its compiled code.
void ubpf_vm_destroy(ubpf_vm *vm);

/// Why the last call on `vm` failed, in one line; valid until the next call; "" if it did not fail.
const char *ubpf_vm_error(const ubpf_vm *vm);

/// Makes `helper` callable as number `id`. Register helpers before loading: a program that calls an unknown one is refused. Code that is
/// compiled already keeps what it was compiled with where it calls by number; a call through a register finds what is registered when it runs.
int ubpf_vm_register(ubpf_vm *vm, uint32_t id, ubpf_helper helper);

/// Lets programs read and write `size` bytes at `memory` in addition; one such block a VM. Before compiling.
int ubpf_vm_allow(ubpf_vm *vm, void *memory, size_t size);

/// Instructions that a checked run may execute before it is stopped; 0: no limit. Default 16,777,216. Before compiling. Where ways of
/// similar length part, compiled code counts the shorter one: it is never stopped where ubpf_vm_run() is not, but may execute a few times as many.
int ubpf_vm_set_budget(ubpf_vm *vm, uint64_t instructions);

/// Loads `size` bytes (at most 16 MB) of little-endian BPF instructions in place of any earlier program, which stays where they are refused. Every
/// instruction, jump and call is checked.
int ubpf_vm_load(ubpf_vm *vm, const void *instructions, size_t size);

/// Loads a program from an ELF object (at most 256 MB) that clang made (`-target bpf`): the function or section called `name`, NULL for the first section with
/// code, with the functions that it calls. Programs that use maps or global data are refused.
int ubpf_vm_load_elf(ubpf_vm *vm, const void *object, size_t size, const char *name);

/// Interprets the program with r1 = `memory` and r2 = `size`, checked; r0 goes to `result`, unless that is NULL. Memory must be writable.
int ubpf_vm_run(ubpf_vm *vm, void *memory, size_t size, uint64_t *result);

/// Instructions that the last ubpf_vm_run() executed.
uint64_t ubpf_vm_executed(const ubpf_vm *vm);

/// Compiles the program; NULL on failure. The code lives as long as the VM and its program.
///
/// A checked function that is stopped returns UINT64_MAX; ubpf_vm_traps() and ubpf_vm_error() tell.
ubpf_function ubpf_vm_compile(ubpf_vm *vm, enum ubpf_mode mode);

/// Calls of the checked compiled function that were stopped.
uint64_t ubpf_vm_traps(const ubpf_vm *vm);

/// The compiled function's machine code, for a disassembler: its bytes, and their number in `size`; NULL before compiling.
const void *ubpf_vm_code(const ubpf_vm *vm, size_t *size);

/// Version of the library, for comparison with UBPF_VERSION.
uint32_t ubpf_version(void);
#define UBPF_VERSION 1u

#ifdef __cplusplus
}
#endif

#endif
