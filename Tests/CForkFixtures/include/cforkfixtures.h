// fork(2) for tests; Swift does not import it.
#ifndef CFORKFIXTURES_H
#define CFORKFIXTURES_H

#include <stdint.h>

/// Runs `body` in a forked child, which ends with exit code 0 when it returns; the child's pid.
int32_t fork_run(void (*_Nonnull body)(void *_Nullable user), void *_Nullable user);
/// Kills a child with SIGKILL after `microseconds` and reaps it; its wait status.
int32_t fork_kill(int32_t pid, uint32_t microseconds);

#endif
