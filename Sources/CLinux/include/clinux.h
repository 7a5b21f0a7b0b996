// System calls and structures of Linux that Swift cannot reach (variadic functions, kernel headers); no logic.
#ifndef CLINUX_H
#define CLINUX_H

#include <stdint.h>

/// syscall(2) with up to six arguments; returns -errno on failure.
int64_t clinux_syscall(int64_t number, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f);

#endif
