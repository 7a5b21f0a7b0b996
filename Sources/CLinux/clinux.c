#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <unistd.h>

int64_t clinux_syscall(int64_t number, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f) {
    long result = syscall(number, a, b, c, d, e, f);
    return result < 0 ? -errno : result;
}
