// Which return stubs are taken, and by what. Lock-free: sharded stacks of free slots, and a few cached per thread.
#include "slots.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>

enum {
    SLOTS = CPATCH_SLOTS,
    SHARDS = 16,
    PER_SHARD = SLOTS / SHARDS,
    RECLAIM_WINDOW = 64,
};

struct cpatch_slot_info cpatch_slot_infos[SLOTS];
#define infos cpatch_slot_infos

// A free list's head carries a counter that changes with every operation, against ABA.
static struct shard {
    _Alignas(64) _Atomic uint64_t head;  // counter << 32 | number
    _Atomic uint32_t fresh;              // slots handed out for the first time, so that start-up touches nothing
} shards[SHARDS];

__attribute__((constructor(101))) static void register_pool(void) {
    cruntime_register_stubs((struct cruntime_stubs){
        (uint64_t)cpatch_stub_pool, (uint64_t)cpatch_stub_pool + sizeof cpatch_stub_pool, (uint64_t)cpatch_slots});
}

static uint32_t pop(struct shard *shard, uint32_t index) {
    uint64_t head = atomic_load_explicit(&shard->head, memory_order_acquire);
    while ((uint32_t)head != 0) {
        uint32_t next = atomic_load_explicit(&infos[(uint32_t)head].next, memory_order_relaxed);
        uint64_t changed = ((head >> 32) + 1) << 32 | next;
        if (atomic_compare_exchange_weak_explicit(
                &shard->head, &head, changed, memory_order_acquire, memory_order_acquire))
            return (uint32_t)head;
    }
    uint32_t fresh = atomic_load_explicit(&shard->fresh, memory_order_relaxed);
    while (fresh < PER_SHARD) {
        if (!atomic_compare_exchange_weak_explicit(
                &shard->fresh, &fresh, fresh + 1, memory_order_relaxed, memory_order_relaxed))
            continue;
        uint32_t slot = index * PER_SHARD + fresh;
        if (slot % 256 != 0) return slot;
        fresh++;
    }
    return 0;
}

static void push(struct shard *shard, uint32_t slot) {
    uint64_t head = atomic_load_explicit(&shard->head, memory_order_relaxed);
    uint64_t changed;
    do {
        atomic_store_explicit(&infos[slot].next, (uint32_t)head, memory_order_relaxed);
        changed = ((head >> 32) + 1) << 32 | slot;
    } while (!atomic_compare_exchange_weak_explicit(
        &shard->head, &head, changed, memory_order_release, memory_order_relaxed));
}

static int thread_is_dead(uint32_t tid) {
    return cruntime_syscall(SYS_tgkill, (int64_t)cpatch_the_process.pid, tid, 0, 0, 0, 0) == -ESRCH;
}

// A function that never returned (an exception, longjmp or pthread_exit passed it) leaves its slot taken. Such a slot is
// found when none is free: the word that holds a taken slot's return address no longer does. That alone is not trusted,
// since a callee may move its return address (tail calls with more stack arguments); the frame must also be gone: on
// this thread's stack below the stack pointer, or unmapped, or of a thread that ended.
static int is_abandoned(uint32_t slot, uint32_t tid, uint64_t sp_now) {
    uint64_t sp = atomic_load_explicit(&infos[slot].sp, memory_order_acquire);
    if (sp == 0) return 0;
    uint64_t word = 0;
    int64_t failed = cruntime_read(&word, sp, sizeof word);
    // A filter that forbids the look says nothing about the frame.
    if (failed != 0) return failed == -EFAULT;
    if (word == cpatch_pushed_by(slot)) return 0;
    if (infos[slot].thread == tid) return sp <= sp_now;
    return thread_is_dead(infos[slot].thread);
}

static _Atomic uint32_t reclaim_cursor;
static _Atomic uint32_t reclaim_pause;  // exhausted hits to let pass before looking again
static _Atomic uint32_t reclaim_penalty;

static uint32_t reclaim(uint32_t tid, uint64_t sp_now) {
    uint32_t pause = atomic_load_explicit(&reclaim_pause, memory_order_relaxed);
    if (pause != 0) {
        atomic_store_explicit(&reclaim_pause, pause - 1, memory_order_relaxed);
        return 0;
    }
    uint32_t found = 0;
    uint32_t start = atomic_fetch_add_explicit(&reclaim_cursor, RECLAIM_WINDOW, memory_order_relaxed);
    for (uint32_t i = 0; i < RECLAIM_WINDOW; i++) {
        uint32_t slot = (start + i) % SLOTS;
        if (slot % 256 == 0 || !is_abandoned(slot, tid, sp_now)) continue;
        uint64_t sp = atomic_load_explicit(&infos[slot].sp, memory_order_relaxed);
        if (sp == 0 || !atomic_compare_exchange_strong(&infos[slot].sp, &sp, 0)) continue;
        // Given back and taken again at the same address since it was looked at?
        uint64_t word = 0;
        int64_t failed = cruntime_read(&word, sp, sizeof word);
        if (failed == 0 ? word == cpatch_pushed_by(slot) : failed != -EFAULT) {
            atomic_store_explicit(&infos[slot].sp, sp, memory_order_release);
            continue;
        }
        if (found == 0)
            found = slot;
        else
            push(&shards[slot / PER_SHARD], slot);
    }
    // Deep recursion takes every slot for good reason: look ever more rarely while looking finds nothing.
    uint32_t penalty = atomic_load_explicit(&reclaim_penalty, memory_order_relaxed);
    penalty = found != 0 ? 0 : (penalty < 256 ? penalty * 2 + 1 : penalty);
    atomic_store_explicit(&reclaim_penalty, penalty, memory_order_relaxed);
    atomic_store_explicit(&reclaim_pause, penalty, memory_order_relaxed);
    return found;
}

uint32_t cpatch_slot_find(struct cpatch_state *state, uint64_t sp) {
    uint32_t slot = 0;
    for (uint32_t i = 0; i < SHARDS && slot == 0; i++) {
        uint32_t index = (state->index + i) % SHARDS;
        slot = pop(&shards[index], index);
    }
    return slot != 0 ? slot : reclaim((uint32_t)state->context.pid_tgid, sp);
}

void cpatch_slot_release(uint32_t slot) {
    cpatch_slot_empty(slot);
    push(&shards[slot / PER_SHARD], slot);
}

uint64_t cpatch_slot_for_stub(uint64_t address) {
    uint64_t offset = address - (uint64_t)cpatch_stub_pool;
    if (offset >= sizeof cpatch_stub_pool || offset % 4096 < 16) return 0;
    return atomic_load_explicit(&cpatch_slots[offset / 16].ra, memory_order_relaxed);
}

uint32_t cpatch_slots_in_use(void) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < SLOTS; i++) count += atomic_load(&infos[i].sp) != 0;
    return count;
}
