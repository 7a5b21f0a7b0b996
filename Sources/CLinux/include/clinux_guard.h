// Whether this kernel fixes up faults of the vDSO (cruntime_guard.c).
#ifndef CLINUX_GUARD_H
#define CLINUX_GUARD_H

#include <stdint.h>

/// Whether a child of this process could change its vDSO, read by it, and got nothing worse than an answer for addresses of every bad kind.
///
/// Tried out once. The kernel is the targets', too.
int32_t clinux_guards_reads(void);

#endif
