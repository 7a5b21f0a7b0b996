// Changing code of a running process; see clive.h.
#include "clive.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>

// Run at attach and detach, not by programs.
#pragma clang attribute push(__attribute__((minsize)), apply_to = function)

#define CALL(number, a, b, c) cpatch_call((number), (int64_t)(a), (int64_t)(b), (int64_t)(c), 0)

__attribute__((noinline, visibility("hidden"))) int64_t cpatch_call(
    int64_t number, int64_t a, int64_t b, int64_t c, int64_t d) {
    return cruntime_syscall(number, a, b, c, d, 0, 0);
}

enum { INT3 = 0xcc, NOWHERE = -1 };

static uint32_t trapping;

uint32_t cpatch_trapping_sites(void) { return trapping; }

// ---- Serializing all processors ----

// How long every processor that runs one of our threads surely takes a timer interrupt in, and with it an iret.
//
// Kernels tick 100 times a second or more often. (A processor that is excluded from ticks by nohz_full may not; caches are
// coherent, so what it could still hold is what it has decoded already, a few hundred instructions.)
enum { TICK_NS = 12000000 };

// Whether membarrier may be called: a seccomp filter could kill for it, and filters cannot be asked.
static int has_membarrier(void) {
    struct cpatch_status status;
    if (cpatch_read_status("/proc/thread-self/status", &status) != 0 || status.seccomp != 0) return 0;
    return CALL(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0;
}

static void serialize(void) {
    if (has_membarrier() && CALL(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0) return;
    struct cpatch_trap_counts *counts = (struct cpatch_trap_counts *)cpatch_trap_counts();
    __atomic_fetch_add(&counts->waits, 1, __ATOMIC_RELAXED);
    uint64_t end = cruntime_monotonic_ns() + TICK_NS;
    while (cruntime_monotonic_ns() < end) __builtin_ia32_pause();
}

// ---- One batch ----

static int is_trap(const uint8_t *bytes, const struct cpatch_change *change) {
    return change->entry != 0 && bytes[0] == INT3;
}

static int32_t check(const struct cpatch_change *change, int quiet) {
    if (change->size != 1 && change->size != 2 && change->size != 5) return -EINVAL;
    if (change->size != 1 && !quiet) return -EINVAL;
    uint8_t now[8];
    if (cruntime_read(now, change->address, change->size) != 0) return -ESTALE;
    for (uint32_t i = 0; i < change->size; i++)
        if (now[i] != change->from[i]) return i == 0 && now[i] == INT3 ? -EBUSY : -ESTALE;
    return 0;
}

// One store of a byte, or several while nobody runs.
static int32_t put(int64_t fd, const struct cpatch_change *change, const uint8_t *bytes, int quiet) {
    int64_t done = fd < 0
        ? fd
        : cpatch_call(SYS_pwrite64, fd, (int64_t)bytes, change->size, (int64_t)change->address);
    if (done == change->size && cruntime_compare((const void *)change->address, bytes, change->size) == 0) return 0;
    // Where nothing can be forced into a read-only page: it cannot be executed for a moment.
    return quiet ? cpatch_write_code(change->address, bytes, change->size) : -EACCES;
}

int32_t cpatch_change_code(const struct cpatch_change *changes, uint32_t count, int32_t quiet, uint32_t *failed) {
    int sets_traps = 0;
    for (uint32_t i = 0; i < count; i++) {
        *failed = i;
        int32_t result = check(&changes[i], quiet);
        if (result != 0) return result;
        if (is_trap(changes[i].to, &changes[i])) sets_traps = 1;
    }
    *failed = (uint32_t)NOWHERE;
    for (uint32_t i = 0; i < count; i++)
        if (is_trap(changes[i].to, &changes[i]) && cpatch_trap_set(changes[i].address, changes[i].entry) != 0)
            return -ENOMEM;
    int32_t result = !sets_traps ? 0 : cpatch_trap_install();
    if (result != 0) return result;
    int64_t fd = CALL(SYS_open, "/proc/thread-self/mem", O_RDWR | O_CLOEXEC, 0);
    uint32_t done = 0;
    while (done < count && (result = put(fd, &changes[done], changes[done].to, quiet)) == 0) done++;
    if (result != 0) {
        *failed = done;
        while (done-- > 0) put(fd, &changes[done], changes[done].from, quiet);
    }
    if (fd >= 0) CALL(SYS_close, fd, 0, 0);
    if (count != 0) serialize();
    if (result != 0) return result;
    for (uint32_t i = 0; i < count; i++) {
        // Who trapped before the int3 was gone goes on at the code that is there now.
        if (is_trap(changes[i].from, &changes[i])) cpatch_trap_set(changes[i].address, changes[i].entry);
        trapping += (uint32_t)(is_trap(changes[i].to, &changes[i]) - is_trap(changes[i].from, &changes[i]));
    }
    return 0;
}
#pragma clang attribute pop
