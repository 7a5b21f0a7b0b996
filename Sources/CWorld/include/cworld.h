// Helpers of tests: one function for each helper number, all of which ask whoever runs the program.
#ifndef CWORLD_H
#define CWORLD_H

#include <stdint.h>

/// Answers helper `number` with r1 to r5.
typedef uint64_t (*_Nonnull cworld_answer)(
    void *_Nonnull user, uint32_t number, uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5);

/// 256 addresses for `cruntime_context.user_helpers`; helpers that run programs (12, 164, 181) are the engine's.
extern const uint64_t cworld_helpers[256];

/// The first of them.
static inline const uint64_t *_Nonnull cworld_table(void) { return cworld_helpers; }

/// Who answers on this thread from now on; returns who did until now.
void *_Nullable cworld_enter(cworld_answer answer, void *_Nullable user);

#endif
