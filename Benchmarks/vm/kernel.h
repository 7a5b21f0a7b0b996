// The kernel's JIT as one more engine.
#ifndef KERNEL_H
#define KERNEL_H

#include <stdint.h>

/// Loads the object; without privileges, or without libbpf, there are just no kernel programs.
void kernel_open(const char *object);
/// Descriptor of a program that was loaded, or -1 and why.
int kernel_program(const char *name, const char **why);
/// Runs a program once over a copy of `memory`, which becomes what the program left; its 32-bit result.
uint32_t kernel_value(int program, void *memory, uint32_t size);
/// Mean ns of `repeat` runs. Both end the process where a run fails.
double kernel_run(int program, int repeat);

#endif
