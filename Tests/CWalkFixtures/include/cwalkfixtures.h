// Call chains of awkward frames that end in a callback with the registers of the innermost one.
#ifndef CWALKFIXTURES_H
#define CWALKFIXTURES_H

#include "cruntime.h"

typedef void (*walk_callback)(struct cruntime_regs *_Nonnull regs, void *_Nullable user);

/// Enters `depth` nested functions of all shapes (see walk.c), chosen by the bits of `seed`, then calls back.
void walk_nested(int depth, uint64_t seed, walk_callback _Nonnull callback, void *_Nullable user);
/// Calls back from a qsort comparison, so that libc's own frames lie between.
void walk_in_qsort(walk_callback _Nonnull callback, void *_Nullable user);
/// Calls back from a signal handler on the interrupted thread's stack.
void walk_in_signal(walk_callback _Nonnull callback, void *_Nullable user);
/// Calls back on a new thread with a small stack.
void walk_on_thread(walk_callback _Nonnull callback, void *_Nullable user);
/// Calls back `times` times on a makecontext(3) stack, whose bounds it gives before.
void walk_in_context(
    int times, uint64_t *_Nonnull low, uint64_t *_Nonnull high, walk_callback _Nonnull callback, void *_Nullable user);
/// Calls `function`, of a library, which calls back from the frame that it makes.
void walk_through(void *_Nonnull function, walk_callback _Nonnull callback, void *_Nullable user);
/// The bounds of the calling thread's stack.
void walk_stack_bounds(uint64_t *_Nonnull low, uint64_t *_Nonnull high);

#endif
