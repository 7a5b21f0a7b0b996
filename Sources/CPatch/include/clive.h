// Changing code that other threads may be running, and the signal handlers of places that keep a breakpoint.
//
// A change of one byte, the first of an instruction, needs nobody's cooperation: whoever comes meets the old instruction or
// the new one. All others are made while no other thread runs.
#ifndef CLIVE_H
#define CLIVE_H

#include "cpatch.h"

/// One place whose bytes change.
struct cpatch_change {
    uint64_t address;
    /// For a breakpoint (an int3 in `from` or `to`): where a thread that meets it goes on, the thunk when it is set, the
    /// relocated first instruction when it is taken back. Must be complete, and may never be unmapped. Else 0.
    uint64_t entry;
    uint32_t size;  // changed bytes: 1, 2 or 5
    uint8_t from[8], to[8];
};

/// Changes code at all places or at none; 0 or -errno, and then `failed` is the place it is about, or ~0.
///
/// With `quiet` no other thread runs, or can until this returns; without, all changes are of one byte. When it returns, every
/// processor sees the new bytes. Calls must not overlap. Nothing has changed after an error:
/// -EINVAL a size makes no sense or is too large for code that runs; -EBUSY there is a breakpoint; -ESTALE other bytes than
/// `from`; -EACCES code can only be written by making its page not executable (no /proc/self/mem, or
/// proc_mem.force_override), which other threads would not survive; -ENOMEM; another error of the write or of the handlers'
/// installation.
int32_t cpatch_change_code(
    const struct cpatch_change *_Nonnull changes, uint32_t count, int32_t quiet, uint32_t *_Nonnull failed);

/// Whether all other threads are stopped by a tracer, or have ended.
int32_t cpatch_others_stand(void);

/// SIGTRAP, as a mask of blocked signals.
enum { CPATCH_TRAP_SIGNALS = 1 << (5 - 1) };

/// Breakpoints that are in place now.
uint32_t cpatch_trapping_sites(void);
/// Gives the program its handler back when nothing can trap any more.
///
/// 0: ours is gone (or the program replaced it: then ours stays reachable through it, and passes everything on);
/// -EBUSY: a place needs it; -EAGAIN: a thread may still be on its way to it, which `milliseconds` did not settle.
int32_t cpatch_release_traps(uint32_t milliseconds);

/// Sleeps, less than a second.
void cpatch_pause(uint64_t nanoseconds);

/// What the handler did; relaxed atomics.
struct cpatch_trap_counts {
    uint64_t entries;    // threads that met a breakpoint of ours
    uint64_t late;       // that came when it was gone already
    uint64_t forwarded;  // signals that were not ours
    uint64_t waits;      // changes that waited for timer interrupts, as there was no membarrier
};
const struct cpatch_trap_counts *_Nonnull cpatch_trap_counts(void);

// ---- Between live.c and traps.c ----

/// A system call of up to four arguments; out of line, for these files are to be small.
int64_t cpatch_call(int64_t number, int64_t a, int64_t b, int64_t c, int64_t d);

/// Says where a trap at `pc` leads to; 0 or -ENOMEM.
int32_t cpatch_trap_set(uint64_t pc, uint64_t target);
/// Installs our handler of SIGTRAP; 0 or -errno.
int32_t cpatch_trap_install(void);
/// Fields of a status file under /proc: SigPnd, Seccomp, and the letter of State.
struct cpatch_status {
    uint64_t pending, seccomp, state;
};
int32_t cpatch_read_status(const char *_Nonnull path, struct cpatch_status *_Nonnull status);
/// Calls `visit` for the other threads until it returns nonzero, with the start of "/proc/self/task/TID/"; that value, 0
/// at the end, or -errno.
int32_t cpatch_each_thread(
    int32_t (*_Nonnull visit)(int32_t tid, char *_Nonnull path, uint32_t length, void *_Nullable data),
    void *_Nullable data);
#endif
