// Per-thread state: blocks of mmapped memory, claimed by threads and inherited from dead ones.
#include "cpatch.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <sys/uio.h>

enum { STATES = 4096, LOOK_FOR_DEAD = 8 };

// The first threads keep slots for deep chains of calls, later ones a few: 4,096 threads are to find some, too.
enum { GENEROUS = 64, FEW_SLOTS = 4 };

// One block: state | BPF stack | rows | memo. Pages are touched as they are used. Programs run on the target's own stack, as a
// function that it calls would: collectors that stop threads by signals look for roots from the stack pointer upwards.
enum {
    STATE_BYTES = 4096,
    ROWS_AT = STATE_BYTES + CPATCH_BPF_STACK,
    MEMO_AT = ROWS_AT + CPATCH_ROWS,
    BLOCK_BYTES = MEMO_AT + CRUNTIME_MEMO_BYTES,
};
_Static_assert(sizeof(struct cpatch_state) <= STATE_BYTES, "state grew");
_Static_assert(sizeof(struct cpatch_thread) <= 64, "thread-local data grew");

__thread struct cpatch_thread cpatch_self;

static struct {
    _Atomic uint32_t owner;  // tid; 0: free
    struct cpatch_state *state;
} states[STATES];
static _Atomic uint32_t state_count;
static _Atomic uint32_t dead_cursor;

// Once for each thread, and at attach and detach.
#pragma clang attribute push(__attribute__((minsize)), apply_to = function)

static uint32_t id(int64_t number) { return (uint32_t)cruntime_syscall(number, 0, 0, 0, 0, 0, 0); }

static struct cpatch_state *adopt(uint32_t index, uint32_t tid) {
    struct cpatch_state *state = states[index].state;
    if (state == NULL) return NULL;
    state->context.pid_tgid = cpatch_the_process.pid << 32 | tid;
    // Thread ids are given out again; by then the clock has gone on.
    state->context.thread_token = cruntime_monotonic_ns();
    // In a forked child, the parent goes on counting where this state did.
    if (state->epoch != cpatch_the_process.epoch) {
        state->prepared = 0;
        for (uint32_t i = 0; i < CPATCH_SESSIONS; i++) state->shards[i].serial = 0;
    }
    state->epoch = cpatch_the_process.epoch;
    for (uint32_t i = 0; i < 4; i++) state->bounds[i] = (struct cpatch_bounds){0, 0, 0};
    return state;
}

static struct cpatch_state *create(uint32_t index, uint32_t tid) {
    uint8_t *block = cpatch_allocate(BLOCK_BYTES, 0);
    if (block == NULL) return NULL;
    struct cpatch_state *state = (struct cpatch_state *)block;
    struct cruntime_context *context = &state->context;
    state->index = index;
    state->slot_room = index < GENEROUS ? CPATCH_SLOT_CACHE : FEW_SLOTS;
    context->stack_low = (uint64_t)block + STATE_BYTES;
    context->stack_high = context->stack_low + CPATCH_BPF_STACK;
    context->rows = block + ROWS_AT;
    context->memo = block + MEMO_AT;
    context->uid_gid = (uint64_t)id(SYS_getgid) << 32 | id(SYS_getuid);
    context->random = __builtin_ia32_rdtsc() ^ (uint64_t)tid << 32;
    states[index].state = state;
    return adopt(index, tid);
}

struct cpatch_state *cpatch_claim(void) {
    uint32_t tid = cruntime_tid();
    uint32_t count = atomic_load_explicit(&state_count, memory_order_acquire);
    if (count > STATES) count = STATES;
    // Inherit from a thread that ended: a few entries each time bound both the cost and the growth.
    uint32_t looks = count < LOOK_FOR_DEAD ? count : LOOK_FOR_DEAD;
    uint32_t cursor = atomic_fetch_add_explicit(&dead_cursor, looks, memory_order_relaxed);
    for (uint32_t i = 0; i < looks; i++) {
        uint32_t index = (cursor + i) % count;
        uint32_t owner = atomic_load_explicit(&states[index].owner, memory_order_acquire);
        if (owner == 0) continue;  // being created
        if (owner != tid
            && cruntime_syscall(SYS_tgkill, (int64_t)cpatch_the_process.pid, owner, 0, 0, 0, 0) != -ESRCH)
            continue;
        if (!atomic_compare_exchange_strong(&states[index].owner, &owner, tid)) continue;
        return adopt(index, tid);
    }
    do {
        count = atomic_load(&state_count);
        if (count >= STATES) return NULL;
    } while (!atomic_compare_exchange_weak(&state_count, &count, count + 1));
    struct cpatch_state *state = create(count, tid);
    atomic_store_explicit(&states[count].owner, tid, memory_order_release);
    return state;
}

uint32_t cpatch_state_count(void) { return atomic_load(&state_count); }

void cpatch_take_over(struct cpatch_state *state) {
    uint32_t tid = cruntime_tid();
    atomic_store(&states[state->index].owner, tid);
    adopt(state->index, tid);
}

uint64_t cpatch_take_shard(const struct cpatch_session *session) {
    struct csession_shared *shared = (struct csession_shared *)session->shared;
    uint64_t shards = ((const struct csession_image *)session->image)->statistic_shards;
    uint64_t *taken = &shared->statistic_shards_taken;
    // Shard 0 is everybody's.
    if (__atomic_load_n(taken, __ATOMIC_RELAXED) + 1 >= shards) return 0;
    uint64_t shard = __atomic_fetch_add(taken, 1, __ATOMIC_RELAXED) + 1;
    return shard < shards ? shard : 0;
}

void cpatch_hide_thread(void) { cpatch_self.ours = 1; }

void cpatch_set_hidden(uint32_t hidden) { cpatch_self.ours = hidden; }

int32_t cpatch_is_hidden(void) { return cpatch_self.ours != 0; }

// ---- Waiting for hits to end ----

static _Atomic uint32_t visitors;

void cpatch_visit(void) { atomic_fetch_add(&visitors, 1); }
void cpatch_unvisit(void) { atomic_fetch_sub(&visitors, 1); }

static void sleep_ms(int64_t ms) {
    struct timespec pause = {0, ms * 1000000};
    cruntime_syscall(SYS_nanosleep, (int64_t)&pause, 0, 0, 0, 0, 0);
}

uint32_t cpatch_quiesce(void) {
    // A hit's store to `active` comes before its loads of links in program order, but may sit in a store buffer. Those empty
    // within microseconds; membarrier(2) would say so for certain, and is a system call that a seccomp filter may kill for.
    sleep_ms(1);
    return cpatch_quiesce_within(2000000000ull);
}

uint32_t cpatch_quiesce_within(uint64_t nanoseconds) {
    uint64_t deadline = cruntime_monotonic_ns() + nanoseconds;
    uint32_t count = cpatch_state_count(), stuck = 0;
    for (uint32_t i = 0; i < count && i < STATES; i++) {
        const struct cpatch_state *state = states[i].state;
        if (state == NULL) continue;
        uint64_t seen = __atomic_load_n(&state->active, __ATOMIC_ACQUIRE);
        while (seen % 2 == 1 && __atomic_load_n(&state->active, __ATOMIC_ACQUIRE) == seen) {
            uint32_t owner = atomic_load(&states[i].owner);
            if (cruntime_thread_gone(owner)) break;
            if (cruntime_monotonic_ns() > deadline) {
                stuck++;
                break;
            }
            sleep_ms(1);
        }
    }
    while (atomic_load(&visitors) != 0) {
        if (cruntime_monotonic_ns() > deadline) return stuck + 1;
        sleep_ms(1);
    }
    return stuck;
}

// ---- Forked children ----

int32_t cpatch_adopt_child(void) {
    // One wait in vain is enough: a handler may have left the adopting thread by siglongjmp.
    static _Atomic int waited;
    volatile uint64_t *present = cpatch_the_process.present;
    uint64_t wiped = 0;
    // The child of a follow is alone at first; should it have made threads already, one of them does this, and the others wait: their hits count.
    // Not for ever: one may be a signal handler on that very thread.
    if (!__atomic_compare_exchange_n(present, &wiped, 2, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        for (int i = 0; *present == 2 && i < 1000 && !waited; i++) cruntime_yield();
        if (*present == 2) waited = 1;
        return *present == 1;
    }
    // Its parent's waits are not its own.
    waited = 0;
    cpatch_the_process.pid = id(SYS_getpid);
    // Its parent is of another PID namespace: that made it after unshare or setns. A filter for system calls may be in force, so
    // nobody else asks what the namespace is.
    if (id(SYS_getppid) == 0) cruntime_find_namespace();
    cruntime_fetch_from((uint32_t)cpatch_the_process.pid);
    cpatch_the_process.epoch++;
    atomic_store(&visitors, 0);
    __atomic_store_n(present, 1, __ATOMIC_SEQ_CST);
    return 1;
}

void cpatch_adopt_for_attach(void) {
    if (*cpatch_the_process.present == 0) cpatch_adopt_child();
}

// ---- Stack bounds ----

static uint64_t thread_pointer(void) { return (uint64_t)__builtin_thread_pointer(); }

/// Whether every page of [low, high) can be read; up to 256 pages.
static int readable(uint64_t low, uint64_t high) {
    struct iovec remote[64];
    uint8_t bytes[64];
    for (uint64_t page = low & ~4095ull; page < high;) {
        uint64_t n = 0;
        for (; n < 64 && page < high; n++, page += 4096) remote[n] = (struct iovec){(void *)page, 1};
        struct iovec local = {bytes, n};
        int64_t got = cruntime_syscall(
            SYS_process_vm_readv, cruntime_tid(), (int64_t)&local, 1, (int64_t)remote, (int64_t)n, 0);
        if (got != (int64_t)n) return 0;
    }
    return 1;
}

struct search {
    uint64_t address, before;
    struct cpatch_mapping found;
};

static int32_t visit(const struct cpatch_mapping *mapping, void *data) {
    struct search *search = data;
    if (mapping->end <= search->address) {
        search->before = mapping->end;
        return 1;
    }
    if (mapping->start <= search->address && mapping->readable) search->found = *mapping;
    return 0;
}

static struct cpatch_bounds look_up(uint64_t rsp) {
    enum { NEAR = 256 * 4096, MAIN = 128 << 20 };
    uint64_t page = rsp & ~4095ull;
    // glibc keeps a thread's TLS above its stack, in the same mapping: what lies between lives as long as the thread.
    uint64_t top = thread_pointer();
    if (rsp < top && top - rsp <= NEAR && readable(page, top)) return (struct cpatch_bounds){page, top, 1};
    struct search search = {rsp, 0, {0}};
    if (!cpatch_each_mapping(visit, &search) || search.found.end == 0)
        return (struct cpatch_bounds){page, page + 4096, 0};
    uint64_t low = search.found.start, high = search.found.end;
    if (search.found.is_stack) {
        // The main stack grows down: what is below its mapping now will be part of it when rsp is there.
        low = search.before;
        if (low < high - MAIN) low = high - MAIN;
        return (struct cpatch_bounds){low, high, 1};
    }
    if (rsp < top && top < high) return (struct cpatch_bounds){low, top, 1};
    // A fiber's or a signal handler's stack; look at no more than 64 pages, since each use checks them.
    if (high - page > 64 * 4096) high = page + 64 * 4096;
    return (struct cpatch_bounds){low, high, 0};
}

#pragma clang attribute pop

void cpatch_find_bounds(struct cpatch_state *state, uint64_t rsp) {
    struct cruntime_context *context = &state->context;
    uint64_t page = rsp & ~4095ull;
    context->walk_low = page;
    for (uint32_t i = 0; i < 4; i++) {
        const struct cpatch_bounds *bounds = &state->bounds[i];
        if (rsp < bounds->low || rsp >= bounds->high) continue;
        if (!bounds->lasting && !readable(page, bounds->high)) break;
        context->walk_high = bounds->high;
        return;
    }
    struct cpatch_bounds found = look_up(rsp);
    // The same stack, seen deeper than before, replaces its entry.
    uint32_t place = (uint32_t)(state->bounds_next++ % 4);
    for (uint32_t i = 0; i < 4; i++)
        if (state->bounds[i].high == found.high) place = i;
    state->bounds[place] = found;
    context->walk_high = found.high;
}
