// Changing code while other threads run it; see clive.h for the protocol.
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

static void serialize(int membarrier) {
    if (membarrier && CALL(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0) return;
    struct cpatch_trap_counts *counts = (struct cpatch_trap_counts *)cpatch_trap_counts();
    __atomic_fetch_add(&counts->waits, 1, __ATOMIC_RELAXED);
    uint64_t end = cruntime_monotonic_ns() + TICK_NS;
    while (cruntime_monotonic_ns() < end) __builtin_ia32_pause();
}

// ---- One batch ----

// What stands at a place: as before, with traps, with its tail written, or as wanted.
enum step { BEFORE, TRAPS, TAILS, AFTER };

static int holds_boundary(const struct cpatch_change *change, uint32_t offset) {
    for (uint32_t i = 0; i < change->boundary_count; i++)
        if (change->boundary[i].offset == offset) return 1;
    return 0;
}

static uint8_t byte_at(const struct cpatch_change *change, uint32_t offset, enum step step) {
    uint8_t from = change->from[offset], to = change->to[offset];
    if (step == BEFORE || step == AFTER) return step == AFTER ? to : from;
    if (offset == 0) return INT3;
    if (holds_boundary(change, offset)) return cpatch_is_trap(from) ? from : to;
    return step == TAILS ? to : from;
}

static int64_t put(int64_t fd, const struct cpatch_change *change, enum step previous, enum step step) {
    uint8_t bytes[8];
    int differs = 0;
    for (uint32_t i = 0; i < change->size; i++) {
        bytes[i] = byte_at(change, i, step);
        differs |= bytes[i] != byte_at(change, i, previous);
    }
    if (!differs) return 0;
    int64_t done = cpatch_call(SYS_pwrite64, fd, (int64_t)bytes, change->size, (int64_t)change->address);
    return done == change->size ? 1 : done < 0 ? done : -EIO;
}

// Takes all places one step on, or back; 0 or -errno.
static int32_t take(
    int64_t fd, const struct cpatch_change *changes, uint32_t count, enum step previous, enum step step, int membarrier,
    uint32_t *failed) {
    int32_t result = 0;
    int wrote = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t done = put(fd, &changes[i], previous, step);
        wrote |= done != 0;
        if (done < 0 && result == 0) {
            *failed = i;
            result = (int32_t)done;
            // On the way back, the others are still put right.
            if (step > previous) break;
        }
    }
    if (wrote) serialize(membarrier);
    return result;
}

static int32_t check(const struct cpatch_change *change, uint32_t threads) {
    if (change->size != 1 && change->size != 2 && change->size != 5) return -EINVAL;
    if (change->boundary_count > CPATCH_BOUNDARIES) return -EINVAL;
    for (uint32_t i = 0; i < change->boundary_count; i++) {
        const struct cpatch_boundary *boundary = &change->boundary[i];
        if (boundary->offset == 0 || boundary->offset >= change->size || boundary->copy == 0) return -EINVAL;
        if (threads != 1 && !cpatch_is_trap(change->from[boundary->offset]) && !cpatch_is_trap(change->to[boundary->offset]))
            return -EINVAL;
    }
    uint8_t now[8];
    if (cruntime_read(now, change->address, change->size) != 0) return -ESTALE;
    for (uint32_t i = 0; i < change->size; i++)
        if (now[i] != change->from[i]) return i == 0 && now[i] == INT3 ? -EBUSY : -ESTALE;
    return 0;
}

// Whether a thread can meet a trap where these bytes are, and by which signals.
static uint64_t traps_of(const struct cpatch_change *change, const uint8_t *bytes) {
    uint64_t mask = bytes[0] == INT3 && change->entry != 0 ? 1 << (5 - 1) : 0;
    for (uint32_t i = 0; i < change->boundary_count; i++) {
        uint8_t byte = bytes[change->boundary[i].offset];
        if (cpatch_is_trap(byte)) mask |= byte == INT3 ? 1 << (5 - 1) : 1 << (4 - 1);
    }
    return mask;
}

// An int3 that is being taken back leads where it did until it is gone, as it stays if that fails.
static int is_installed_trap(const struct cpatch_change *change) { return change->from[0] == INT3; }

static int32_t publish(const struct cpatch_change *change) {
    if (change->entry != 0 && !is_installed_trap(change) && cpatch_trap_set(change->address, change->entry) != 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < change->boundary_count; i++)
        if (cpatch_trap_set(
                change->address + change->boundary[i].offset, change->boundary[i].copy | CPATCH_TRAP_INSIDE)
            != 0)
            return -ENOMEM;
    return 0;
}

static int32_t change_alone(const struct cpatch_change *changes, uint32_t count, uint32_t *failed) {
    for (uint32_t i = 0; i < count; i++) {
        int32_t result = cpatch_write_code(changes[i].address, changes[i].to, changes[i].size);
        if (result == 0) continue;
        *failed = i;
        do cpatch_write_code(changes[i].address, changes[i].from, changes[i].size);
        while (i-- > 0);
        return result;
    }
    return 0;
}

static int32_t change_live(const struct cpatch_change *changes, uint32_t count, uint32_t *failed) {
    int64_t fd = CALL(SYS_open, "/proc/self/mem", O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) return -EACCES;
    int membarrier = has_membarrier();
    int32_t result = 0;
    enum step step = BEFORE;
    while (result == 0 && step < AFTER) {
        result = take(fd, changes, count, step, step + 1, membarrier, failed);
        step++;
    }
    if (result != 0) {
        uint32_t ignored;
        for (; step > BEFORE; step--) take(fd, changes, count, step, step - 1, membarrier, &ignored);
        // Nothing could be forced into a read-only page.
        if (result == -EIO || result == -EPERM) result = -EACCES;
    }
    CALL(SYS_close, fd, 0, 0);
    return result;
}

int32_t cpatch_change_code(const struct cpatch_change *changes, uint32_t count, uint32_t threads, uint32_t *failed) {
    uint64_t mask = threads == 1 ? 0 : 1 << (5 - 1);
    for (uint32_t i = 0; i < count; i++) {
        *failed = i;
        int32_t result = check(&changes[i], threads);
        if (result != 0) return result;
        mask |= traps_of(&changes[i], changes[i].from) | traps_of(&changes[i], changes[i].to);
    }
    *failed = (uint32_t)NOWHERE;
    for (uint32_t i = 0; i < count; i++)
        if (publish(&changes[i]) != 0) return -ENOMEM;
    int32_t result = count == 0 || mask == 0 ? 0 : cpatch_trap_install(mask);
    if (result != 0) return result;
    result = threads == 1 ? change_alone(changes, count, failed) : change_live(changes, count, failed);
    if (result != 0) return result;
    for (uint32_t i = 0; i < count; i++) {
        if (is_installed_trap(&changes[i])) cpatch_trap_set(changes[i].address, changes[i].entry);
        trapping += (traps_of(&changes[i], changes[i].to) != 0) - (traps_of(&changes[i], changes[i].from) != 0);
    }
    return 0;
}
#pragma clang attribute pop
