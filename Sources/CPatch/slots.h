// Taking and giving back a return slot, as hits do it; the rest is in slots.c.
#ifndef CPATCH_SLOTS_H
#define CPATCH_SLOTS_H

#include "cpatch.h"

enum { CPATCH_SLOTS = CPATCH_STUB_PAGES * 256 };  // the first of each page is the page's header

struct cpatch_slot {
    _Atomic uint64_t ra;
    uint64_t entry;
};
extern __attribute__((visibility("hidden"))) struct cpatch_slot cpatch_slots[CPATCH_SLOTS];
extern __attribute__((visibility("hidden"))) const uint8_t cpatch_stub_pool[CPATCH_SLOTS * 16];

// Beside the slots, so that those stay 16 bytes.
struct cpatch_slot_info {
    _Atomic uint64_t sp;  // where the return address was, and the stub's is now; 0: free
    uint32_t site;
    uint32_t thread;
    _Atomic uint32_t next;  // in a free list: number of the next, 0 at the end
    uint64_t clock;         // cpatch_process.clock when it was taken
};
extern __attribute__((visibility("hidden"))) struct cpatch_slot_info cpatch_slot_infos[CPATCH_SLOTS];

/// A free slot when the thread has none of its own; 0 when all are in use.
__attribute__((visibility("hidden"))) uint32_t cpatch_slot_find(struct cpatch_state *_Nonnull state, uint64_t sp);
/// Gives a slot back to all threads.
__attribute__((visibility("hidden"))) void cpatch_slot_release(uint32_t slot);

static inline uint64_t cpatch_stub_of(uint32_t slot) { return (uint64_t)cpatch_stub_pool + (uint64_t)slot * 16; }
/// What a stub's `call` pushes: the address of its second instruction.
static inline uint64_t cpatch_pushed_by(uint32_t slot) { return cpatch_stub_of(slot) + 6; }

/// Fills a slot for a function entered with its return address at `sp`: the address of its stub.
static inline uint64_t cpatch_slot_use(
    uint32_t slot, const struct cpatch_state *_Nonnull state, uint64_t sp, uint64_t entry, uint32_t site, uint64_t clock) {
    struct cpatch_slot_info *info = &cpatch_slot_infos[slot];
    info->site = site;
    info->thread = (uint32_t)state->context.pid_tgid;
    info->clock = clock;
    cpatch_slots[slot].entry = entry;
    atomic_store_explicit(&cpatch_slots[slot].ra, *(const uint64_t *)sp, memory_order_relaxed);
    // Last: from here on the slot may be looked at by `reclaim`. The stub's address is not yet in place, and must not be
    // missed: write it now; the stub's own call will write the same.
    *(volatile uint64_t *)sp = cpatch_pushed_by(slot);
    atomic_store_explicit(&info->sp, sp, memory_order_release);
    return cpatch_stub_of(slot);
}

/// Marks a slot as free. The return address stays in it: harmless, and right for a function that returns twice.
static inline void cpatch_slot_empty(uint32_t slot) {
    atomic_store_explicit(&cpatch_slot_infos[slot].sp, 0, memory_order_release);
}

#endif
