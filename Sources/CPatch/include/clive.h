// Changing code that other threads may be running, without stopping them, and the signal handlers that this needs.
//
// The protocol, for any number of places at once: a trap at the first byte of each place and at each instruction that
// starts inside the changed bytes; then the other bytes; then the first bytes. Between the steps every processor is made to
// serialize. Each step changes either single first bytes of instructions, or bytes that no thread can execute.
#ifndef CLIVE_H
#define CLIVE_H

#include "cpatch.h"

/// An instruction that starts inside the changed bytes, and its relocated copy, where a thread that stands there goes on.
struct cpatch_boundary {
    uint64_t copy;
    uint32_t offset;  // from the change's address; 1...4
    uint32_t reserved;
};

enum { CPATCH_BOUNDARIES = 4 };

/// One place whose bytes change.
///
/// With other threads, the byte at each boundary must be a trap (`cpatch_is_trap`) in `from` or in `to`. A jump that was written
/// while there was one thread has nobody inside: without boundaries then, and without them when it is taken back.
struct cpatch_change {
    uint64_t address;
    /// Where a thread that meets our trap at `address` goes on, now or later: the thunk when a jump is written, the
    /// relocated first instruction when one is taken back. Must be complete, and may never be unmapped. 0 is for
    /// bytes that nobody can reach.
    uint64_t entry;
    uint32_t size;  // changed bytes: 1, 2 or 5
    uint32_t boundary_count;
    uint8_t from[8], to[8];
    struct cpatch_boundary boundary[CPATCH_BOUNDARIES];
};

enum {
    CPATCH_CHANGE_FROM_OFFSET = offsetof(struct cpatch_change, from),
    CPATCH_CHANGE_TO_OFFSET = offsetof(struct cpatch_change, to),
    CPATCH_CHANGE_BOUNDARY_OFFSET = offsetof(struct cpatch_change, boundary),
};

/// Whether an instruction that begins with this byte ends in SIGILL or SIGTRAP on every x86-64 processor.
///
/// 62 (EVEX) and d5 (REX2) are invalid on older ones only.
static inline CRUNTIME_RT int32_t cpatch_is_trap(uint8_t byte) {
    // One bit for each byte: 06 07 0e 16 17 1e 1f 27 2f 37 3f | 60 61 | 9a | cc ce d4 ea.
    const uint64_t bits[4] = {0x80808080c0c040c0ull, 0x0000000300000000ull, 0x0000000004000000ull, 0x0000040000105000ull};
    return (int32_t)(bits[byte >> 6] >> (byte & 63) & 1);
}

/// Changes code at all places or at none; 0 or -errno, and then `failed` is the place it is about, or ~0.
///
/// `threads` is the number of threads of the process, this one included; with 1 the bytes are written as they are.
/// Calls must not overlap. Nothing has changed after an error:
/// -EINVAL a size or a boundary makes no sense; -EBUSY there is a breakpoint; -ESTALE other bytes than `from`;
/// -EACCES code can only be written by making its page not executable (no /proc/self/mem, or proc_mem.force_override),
/// which the other threads would not survive; -ENOMEM; another error of the write or of the handlers' installation.
int32_t cpatch_change_code(
    const struct cpatch_change *_Nonnull changes, uint32_t count, uint32_t threads, uint32_t *_Nonnull failed);

/// Writes bytes that nobody can reach yet on a page that is in use; 0 or -errno.
int32_t cpatch_write_live(uint64_t address, const uint8_t *_Nonnull bytes, uint64_t size);

/// Threads whose blocked signals contain one of `mask` (bit n - 1 is signal n), this one not counted; up to `capacity`
/// of their ids. -errno when /proc/self/task cannot be read.
///
/// A trap in such a thread kills the process.
int32_t cpatch_threads_that_block(uint64_t mask, int32_t *_Nullable tids, uint32_t capacity);
/// SIGILL and SIGTRAP.
enum { CPATCH_TRAP_SIGNALS = 1 << (4 - 1) | 1 << (5 - 1) };

/// The process that traces one of the other threads, but for `except`; 0 if none does, or -errno.
///
/// A debugger takes our traps for its own and does not hand them on: then nothing may be changed.
int32_t cpatch_tracer(int32_t except);

/// Places that are in place now and can trap: int3 sites, and jumps with instructions inside.
uint32_t cpatch_trapping_sites(void);
/// Puts our handlers on top again if the program has replaced them since and they are needed; 0 or -errno.
int32_t cpatch_keep_traps(void);
/// Gives the program its handlers back when nothing can trap any more.
///
/// 0: ours are gone (or the program replaced them: then ours stay reachable through it, and pass everything on);
/// -EBUSY: a place needs them; -EAGAIN: a thread may still be on its way to a handler, which `milliseconds` did not settle.
int32_t cpatch_release_traps(uint32_t milliseconds);

/// Sleeps, less than a second.
void cpatch_pause(uint64_t nanoseconds);

/// What the handlers did; relaxed atomics.
struct cpatch_trap_counts {
    uint64_t entries;    // threads that met our trap at a place's first byte
    uint64_t rescues;    // threads that stood inside
    uint64_t late;       // that came when their trap was gone already
    uint64_t forwarded;  // signals that were not ours
    uint64_t waits;      // steps that waited for timer interrupts, as there was no membarrier
};
const struct cpatch_trap_counts *_Nonnull cpatch_trap_counts(void);

// ---- Between live.c and traps.c ----

/// A system call of up to four arguments; out of line, for these files are to be small.
int64_t cpatch_call(int64_t number, int64_t a, int64_t b, int64_t c, int64_t d);

/// Marks the target of a thread that stood inside a window.
#define CPATCH_TRAP_INSIDE (1ull << 63)
/// Says where a trap at `pc` leads to; 0 or -ENOMEM.
int32_t cpatch_trap_set(uint64_t pc, uint64_t target);
/// Installs the handlers for the signals of `mask`; 0 or -errno.
int32_t cpatch_trap_install(uint64_t mask);
/// Fields of a status file under /proc: SigPnd, SigBlk, Seccomp, TracerPid, and the letter of State.
struct cpatch_status {
    uint64_t pending, blocked, seccomp, tracer, state;
};
int32_t cpatch_read_status(const char *_Nonnull path, struct cpatch_status *_Nonnull status);
/// Calls `visit` for the other threads until it returns nonzero, with the start of "/proc/self/task/TID/"; that value, 0
/// at the end, or -errno.
int32_t cpatch_each_thread(
    int32_t (*_Nonnull visit)(int32_t tid, char *_Nonnull path, uint32_t length, void *_Nullable data),
    void *_Nullable data);
#endif
