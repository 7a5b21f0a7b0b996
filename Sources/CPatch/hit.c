// A hit, from the trampoline to the programs and back.
//
// This is C because vector registers hold the probed function's arguments: here the compiler is told to use general ones only,
// which Swift cannot be. So a program that calls nothing of ours runs without those registers being saved at all. Whatever may
// use them (Swift, libc) is called behind `keep`. Everything on the usual way is inlined into the two functions at the end.
#include "cpatch.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>

#include "slots.h"

// A token is its own address, changed so that no pointer to it looks the same.
#define TOKEN 0x75627066746f6b65ull

// Instructions that one run of a program may execute; a verified program needs far fewer.
enum { BUDGET = 1000000, RETRY = 256 };

#define ALWAYS static inline __attribute__((always_inline))
#define RARELY __attribute__((noinline, cold))
#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

_Static_assert(offsetof(struct cpatch_frame, regs) == CPATCH_FRAME_REGS, "see trampoline.S");
_Static_assert(offsetof(struct cpatch_frame, token) == CPATCH_FRAME_TOKEN, "see trampoline.S");
_Static_assert(offsetof(struct cpatch_frame, site) == CPATCH_FRAME_SITE, "see trampoline.S");

// Of the Swift side (Hit.swift).
void ubpf_agent_prepare(struct cruntime_context *context, const struct cpatch_session *session);
void ubpf_agent_interpret(struct cruntime_context *context, const struct cpatch_session *session, uint32_t program);
void ubpf_agent_end(struct cruntime_context *context);
// Of LoaderWatch.swift.
void ubpf_agent_loader(void);

struct hit {
    struct cpatch_frame *frame;
    uint32_t is_kept;
};

// ---- Vector registers ----

// Sixteen xmm, by legacy SSE moves; see trampoline.S about the rest of them.
#define EACH_VECTOR(move)                                                                                 \
    move(0, "0") move(1, "16") move(2, "32") move(3, "48") move(4, "64") move(5, "80") move(6, "96")      \
    move(7, "112") move(8, "128") move(9, "144") move(10, "160") move(11, "176") move(12, "192")          \
    move(13, "208") move(14, "224") move(15, "240")
#define SAVE(number, offset) "movups %%xmm" #number ", " offset "(%0)\n\t"
#define LOAD(number, offset) "movups " offset "(%0), %%xmm" #number "\n\t"

static __attribute__((noinline)) void save_vectors(struct cpatch_frame *frame) {
    __asm__ volatile(EACH_VECTOR(SAVE) : : "r"(frame->xmm) : "memory");
}

static __attribute__((noinline)) void load_vectors(const struct cpatch_frame *frame) {
    __asm__ volatile(EACH_VECTOR(LOAD) : : "r"(frame->xmm) : "memory");
}

ALWAYS void keep(struct hit *hit) {
    if (!hit->is_kept) save_vectors(hit->frame);
    hit->is_kept = 1;
}

ALWAYS void restore(const struct hit *hit) {
    if (hit->is_kept) load_vectors(hit->frame);
}

// ---- Beginning and end ----

// A hit that was left by siglongjmp from a signal handler leaves its guard behind. Its frame is then dead, and one of two
// things tells so: something else uses that stack and has overwritten the token; or this hit's frame lies above the other
// one on the same stack, where only frames of callers can be. A handler's own stack proves nothing, wherever it lies.
static RARELY int guard_is_stale(uint64_t guard, uint64_t frame) {
    uint64_t word = 0;
    // A filter that forbids the look says nothing about the frame.
    int64_t failed = cruntime_read(&word, guard, sizeof word);
    if (failed == -EFAULT || (failed == 0 && word != (guard ^ TOKEN))) return 1;
    if (failed != 0) return 0;
    const struct cpatch_state *state = cpatch_self.state;
    if (frame <= guard || state == NULL) return 0;
    stack_t other;
    if (cruntime_syscall(SYS_sigaltstack, 0, (int64_t)&other, 0, 0, 0, 0) != 0 || (other.ss_flags & SS_ONSTACK)) return 0;
    for (uint32_t i = 0; i < 4; i++) {
        const struct cpatch_bounds *bounds = &state->bounds[i];
        if (bounds->lasting && guard >= bounds->low && frame < bounds->high) return 1;
    }
    return 0;
}

// This thread's state, or null when there is none to be had.
static RARELY struct cpatch_state *find_state(struct cpatch_thread *self) {
    // With every state taken, asking for one costs system calls; most hits then do without.
    if (self->wait != 0) {
        self->wait--;
        return NULL;
    }
    struct cpatch_state *state = cpatch_claim();
    self->state = state;
    if (state == NULL) self->wait = RETRY;
    return state;
}

// Begins a hit: this thread's state, or null when the hit must not run programs (nested, or no state to be had). Until `leave`,
// what the site's links lead to stays in memory.
ALWAYS struct cpatch_state *enter(struct hit *hit) {
    struct cpatch_thread *self = &cpatch_self;
    if (unlikely(self->ours)) return NULL;
    uint64_t *token = &hit->frame->token;
    uint64_t guard = self->guard;
    if (unlikely(guard != 0)) {
        keep(hit);
        if (!guard_is_stale(guard, (uint64_t)token)) return NULL;
        // A run was left in its middle: nothing that it did to the context is relied upon.
        if (self->state != NULL) self->state->prepared = 0;
    }
    // One store makes this hit known; whatever interrupts before runs as if this hit had not begun.
    *token = (uint64_t)token ^ TOKEN;
    atomic_signal_fence(memory_order_seq_cst);
    self->guard = (uint64_t)token;
    atomic_signal_fence(memory_order_seq_cst);
    struct cpatch_state *state = self->state;
    if (unlikely(state == NULL || state->epoch != cpatch_the_process.epoch)) {
        keep(hit);
        if (state == NULL)
            state = find_state(self);
        else
            cpatch_take_over(state);  // the thread that forked goes on in the child under another id
        if (state == NULL) {
            *(volatile uint64_t *)token = 0;
            self->guard = 0;
            return NULL;
        }
    }
    // Odd from here on, before the site's links are read; see cpatch_quiesce.
    __atomic_store_n(&state->active, (state->active + 2) | 1, __ATOMIC_RELAXED);
    atomic_signal_fence(memory_order_seq_cst);
    return state;
}

ALWAYS void leave(const struct hit *hit, struct cpatch_state *state) {
    __atomic_store_n(&state->active, state->active + 1, __ATOMIC_RELEASE);
    atomic_signal_fence(memory_order_seq_cst);
    *(volatile uint64_t *)&hit->frame->token = 0;
    atomic_signal_fence(memory_order_seq_cst);
    cpatch_self.guard = 0;
}

// ---- Counting ----

// Counts a hit that ran nothing, for return probes alone or for entry probes too.
static RARELY void count_missed(const struct cpatch_site *site, int entries, uint64_t clock) {
    if (cpatch_self.ours) return;
    // Without a state (or within another hit, where it does no harm) this holds the links in memory.
    cpatch_visit();
    for (const struct cpatch_link *link = cpatch_first_link(site); link != NULL; link = cpatch_next_link(link)) {
        if (!cpatch_session_is_live(link->session) || link->since > clock) continue;
        if (entries && link->loader) cpatch_loader_lose();
        struct csession_statistics *counters = link->session->counters + link->first_statistic;
        for (uint32_t i = entries ? 0 : link->entry_count; i < link->entry_count + link->return_count; i++)
            __atomic_fetch_add(&counters[i].missed, 1, __ATOMIC_RELAXED);
    }
    cpatch_unvisit();
}

// One instruction, so that a signal handler's hit cannot come between load and store.
ALWAYS void count(uint64_t *counter, uint64_t is_alone) {
    if (likely(is_alone))
        __asm__("incq %0" : "+m"(*counter) : : "cc");
    else
        __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static RARELY void count_trap(struct cpatch_state *state, struct csession_statistics *counters) {
    struct cruntime_trap *trap = &state->context.trap;
    __atomic_fetch_add(&counters->traps, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&counters->last_trap, (uint64_t)trap->kind << 32 | trap->instruction, __ATOMIC_RELAXED);
    trap->kind = 0;
}

// ---- Programs ----

// Makes the context this session's, and finds out where this thread counts in it.
static RARELY void prepare(struct cpatch_state *state, const struct cpatch_session *session) {
    struct cruntime_context *context = &state->context;
    state->prepared = 0;
    ubpf_agent_prepare(context, session);
    context->trap.kind = 0;
    context->context_window.span = sizeof(struct cruntime_regs) - 8;
    uint64_t place = (uint64_t)(session - cpatch_sessions);
    if (state->shards[place].serial != session->serial) {
        state->shards[place].shard = cpatch_take_shard(session);
        state->shards[place].serial = session->serial;
    }
    uint64_t shard = state->shards[place].shard;
    state->counters = session->counters + shard * session->counters_size;
    state->counts_alone = shard != 0;
    state->prepared = session->serial;
}

// What a run left to its end. Whether the function at hand is not to run.
static RARELY uint32_t end_run(struct cruntime_context *context) {
    ubpf_agent_end(context);
    uint32_t overrides = context->effects & CRUNTIME_OVERRIDES && context->trap.kind == 0 ? CPATCH_OVERRIDE : 0;
    context->effects = 0;
    return overrides;
}

// 0, or CPATCH_OVERRIDE where the function at hand is not to run.
ALWAYS uint32_t run_programs(
    struct hit *hit, struct cpatch_state *state, const struct cpatch_site *site, const struct cpatch_link *link,
    uint32_t first, uint32_t end) {
    uint32_t overrides = 0;
    struct cruntime_context *context = &state->context;
    struct cruntime_regs *regs = &hit->frame->regs;
    const struct cpatch_session *session = link->session;
    if (unlikely(state->prepared != session->serial)) {
        keep(hit);
        prepare(state, session);
    }
    context->regs = regs;
    context->context_low = (uint64_t)regs;
    context->context_high = (uint64_t)(regs + 1);
    context->context_window.low = (uint64_t)regs;
    context->function_ip = site->address;
    struct csession_statistics *counters = state->counters + link->first_statistic;
    for (uint32_t i = first; i < end; i++) {
        const struct cpatch_run *run = &link->runs[i];
        uint32_t needs = run->needs;
        context->cookie = run->cookie;
        context->program = run->program;
        context->tail_calls = 0;
        context->callbacks_depth = 0;
        context->budget = BUDGET;
        if (needs != CPATCH_NEED_NOTHING) {
            keep(hit);
            context->cpu_slot = -1;
            if (needs & CPATCH_NEED_WALK) cpatch_find_bounds(state, regs->rsp);
        }
        if (likely(run->code != 0)) {
            cruntime_run(run->code, context, (uint64_t)regs, 0);
            if (needs != CPATCH_NEED_NOTHING) {
                uint64_t held = context->effects;
                for (uint32_t j = 0; j < CRUNTIME_RESERVATIONS; j++) held |= context->reservations[j].address;
                if (unlikely(held != 0 || context->cpu_slot >= 0)) overrides |= end_run(context);
            }
        } else {
            ubpf_agent_interpret(context, session, run->program);
            if (unlikely(context->effects != 0)) overrides |= end_run(context);
        }
        count(&counters[i].hits, state->counts_alone);
        if (unlikely(context->trap.kind != 0)) count_trap(state, &counters[i]);
    }
    return overrides;
}

// Where a function goes on that is not to run: its caller gets what a program says (bpf_override_return).
extern const uint8_t cpatch_return[] __attribute__((visibility("hidden")));
__asm__(
    ".text\n.hidden cpatch_return\n.type cpatch_return, @function\n"
    "cpatch_return:\n.cfi_startproc\nret\n.cfi_endproc\n.size cpatch_return, . - cpatch_return\n");

static RARELY uint64_t override(struct hit *hit, const struct cpatch_state *state) {
    hit->frame->regs.rax = state->context.override_value;
    return (uint64_t)cpatch_return;
}

// A hit on the loader's own function. It ends first, so that nobody waits for it.
static RARELY uint64_t loader_changed(
    struct hit *hit, struct cpatch_state *state, const struct cpatch_site *site, uint64_t target) {
    leave(hit, state);
    keep(hit);
    // Somebody's return probe on it goes without.
    count_missed(site, 0, UINT64_MAX);
    ubpf_agent_loader();
    restore(hit);
    return target;
}

// Whether hits of this process concern us at all.
ALWAYS int is_present(void) {
    if (likely(*cpatch_the_process.present == 1)) return 1;
    return cpatch_is_present();
}

uint64_t cpatch_hit_enter(struct cpatch_frame *frame, uint32_t number) {
    const struct cpatch_site *site = &cpatch_the_process.sites[number];
    struct hit hit = {frame, 0};
    uint64_t target = site->relocated;
    frame->regs.rip = site->address;
    if (unlikely(cpatch_first_link(site) == NULL || !is_present())) return target;
    struct cpatch_state *state = enter(&hit);
    if (unlikely(state == NULL)) {
        keep(&hit);
        count_missed(site, 1, UINT64_MAX);
        restore(&hit);
        return target;
    }
    uint64_t clock = cpatch_the_process.clock;
    uint32_t returns = 0;
    for (const struct cpatch_link *link = cpatch_first_link(site); link != NULL; link = cpatch_next_link(link)) {
        if (unlikely(!cpatch_session_is_live(link->session))) continue;
        returns |= link->return_count | link->loader;
        if (link->entry_count != 0) returns |= run_programs(&hit, state, site, link, 0, link->entry_count);
    }
    if (returns != 0) {
        if (unlikely(returns & CPATCH_LOADER_LINK)) return loader_changed(&hit, state, site, target);
        if (unlikely(returns & CPATCH_OVERRIDE)) {
            target = override(&hit, state);
            if (returns == CPATCH_OVERRIDE) {
                leave(&hit, state);
                restore(&hit);
                return target;
            }
        }
        uint32_t slot = 0;
        if (likely(state->cached_slots > 0)) {
            slot = state->slots[--state->cached_slots];
        } else {
            keep(&hit);
            slot = cpatch_slot_find(state, frame->regs.rsp);
        }
        if (likely(slot != 0))
            target = cpatch_slot_use(slot, state, frame->regs.rsp, target, number, clock);
        else
            count_missed(site, 0, UINT64_MAX);
    }
    leave(&hit, state);
    restore(&hit);
    return target;
}

// `regs.rip` is already the real return address. Sessions that came after the call do not see its return.
void cpatch_hit_leave(struct cpatch_frame *frame, uint32_t slot) {
    const struct cpatch_site *site = &cpatch_the_process.sites[cpatch_slot_infos[slot].site];
    uint64_t clock = cpatch_slot_infos[slot].clock;
    struct hit hit = {frame, 0};
    if (unlikely(cpatch_first_link(site) == NULL || !is_present())) {
        cpatch_slot_release(slot);
        return;
    }
    struct cpatch_state *state = enter(&hit);
    if (unlikely(state == NULL)) {
        keep(&hit);
        count_missed(site, 0, clock);
        cpatch_slot_release(slot);
        restore(&hit);
        return;
    }
    if (likely(state->cached_slots < state->slot_room)) {
        cpatch_slot_empty(slot);
        state->slots[state->cached_slots++] = slot;
    } else {
        cpatch_slot_release(slot);
    }
    for (const struct cpatch_link *link = cpatch_first_link(site); link != NULL; link = cpatch_next_link(link)) {
        if (link->return_count == 0 || link->since > clock || unlikely(!cpatch_session_is_live(link->session))) continue;
        run_programs(&hit, state, site, link, link->entry_count, link->entry_count + link->return_count);
    }
    leave(&hit, state);
    restore(&hit);
}
