// What runs at a probe before Swift does: trampolines, return stubs and their unwind information, thread state.
//
// Everything here runs inside somebody else's process. Nothing allocates from the target's heap, takes a lock, leaves
// errno changed or calls into libc on the probe path.
#ifndef CPATCH_H
#define CPATCH_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "cruntime.h"
#include "csession.h"

// ---- Trampolines (trampoline.S) ----

/// Where the thunk of a function's first instruction jumps, with the site's index pushed above the return address.
void cpatch_enter_function(void);
/// What the thunk of any other instruction calls, with the red zone skipped and the site's index pushed.
void cpatch_enter_instruction(void);

/// Addresses of the two, for thunks.
static inline CRUNTIME_RT uint64_t cpatch_enter_function_address(void) { return (uint64_t)&cpatch_enter_function; }
static inline CRUNTIME_RT uint64_t cpatch_enter_instruction_address(void) {
    return (uint64_t)&cpatch_enter_instruction;
}

/// The stack frame of a hit, as trampoline.S builds it. Offsets are fixed there.
struct cpatch_frame {
    uint8_t xmm[16][16];
    struct cruntime_regs regs;
    uint64_t token;  // identifies a live frame; see hit.c
    uint64_t site;   // as pushed by the thunk; later where the trampoline goes next
};

/// A patched instruction was reached (trampoline.S): runs its entry programs. Returns where the trampoline goes on: the relocated
/// window, or a return stub when the site has return probes.
__attribute__((visibility("hidden"))) uint64_t cpatch_hit_enter(struct cpatch_frame *_Nonnull frame, uint32_t site);
/// A probed function returned: runs the return programs of its site and gives the slot back.
__attribute__((visibility("hidden"))) void cpatch_hit_leave(struct cpatch_frame *_Nonnull frame, uint32_t slot);

// Thunks in Swift tests and the planner's copies rely on these sizes.
enum { CPATCH_FRAME_REGS = 256, CPATCH_FRAME_TOKEN = 256 + 168, CPATCH_FRAME_SITE = 256 + 168 + 8 };

// ---- Thread state (thread.c) ----

enum { CPATCH_SLOT_CACHE = 32, CPATCH_BPF_STACK = 4096, CPATCH_ROWS = 4096 * 16 };

/// A stack that this thread was seen on: [low, high) is readable from any stack pointer inside it upwards.
struct cpatch_bounds {
    uint64_t low, high;
    uint64_t lasting;  // the stack lives as long as the thread; otherwise every use checks that it is still mapped
};

/// What one thread needs to run programs. Owned by a thread while `owner` is its tid; memory from mmap, never returned.
struct cpatch_state {
    struct cruntime_context context;
    struct cpatch_bounds bounds[4];
    uint64_t bounds_next;
    uint64_t prepared;     // serial of the session that the context and `counters` know; 0: none
    struct csession_statistics *_Nullable counters;  // where this thread counts in that session
    uint64_t counts_alone; // whether it is the only one to count there
    uint64_t active;       // odd while this thread is in a hit, from before it reads links; changes with every hit
    uint64_t epoch;        // cpatch_process.epoch when the thread's ids were read
    uint32_t index;
    uint32_t slot_room;    // most slots to keep
    uint32_t cached_slots;
    uint32_t slots[CPATCH_SLOT_CACHE];
    struct {
        uint64_t serial;   // of the session; 0: none
        uint64_t shard;
    } shards[16];          // by the session's place in the table
};

/// The only thread-local data: initial-exec, in the static TLS block, so that reaching it takes one instruction.
struct cpatch_thread {
    struct cpatch_state *_Nullable state;
    volatile uint64_t guard;  // address of the token of the hit that is being handled on this thread; 0: none
    uint32_t wait;            // hits to let pass before this thread asks for a state again
    uint32_t ours;            // a thread of the agent's own: probes do not see it
};

/// A state for a thread that has none; null when all are taken.
struct cpatch_state *_Nullable cpatch_claim(void);
/// Makes a state that came over a fork this thread's.
void cpatch_take_over(struct cpatch_state *_Nonnull state);
struct cpatch_session;
/// Where a state counts in a session: a shard of its own, or 0, which is everybody's.
uint64_t cpatch_take_shard(const struct cpatch_session *_Nonnull session);
/// The thread's own; for the hit path alone (hit.c, thread.c).
extern __thread struct cpatch_thread cpatch_self __attribute__((tls_model("initial-exec"), visibility("hidden")));

/// Makes probes invisible to hits of the calling thread.
void cpatch_hide_thread(void);
void cpatch_set_hidden(uint32_t hidden);
/// Whether the calling thread is hidden.
CRUNTIME_RT int32_t cpatch_is_hidden(void);

/// Begins and ends a look at a site's links by a thread that has no state.
CRUNTIME_RT void cpatch_visit(void);
CRUNTIME_RT void cpatch_unvisit(void);

/// Waits until every hit that may still see what was unlinked has ended; the hits that had not after two seconds.
///
/// Such a hit was left by a jump out of a signal handler, or its thread does not get to run.
uint32_t cpatch_quiesce(void);
/// The same for what was unlinked more than a few milliseconds ago, with another patience.
uint32_t cpatch_quiesce_within(uint64_t nanoseconds);

/// Sets the context's walk_low and walk_high to readable bounds around `rsp`.
CRUNTIME_RT void cpatch_find_bounds(struct cpatch_state *_Nonnull state, uint64_t rsp);

/// Thread states that exist, used or not; for tests.
uint32_t cpatch_state_count(void);

// ---- Return stubs (stubs.S, slots.c) ----

enum { CPATCH_STUB_PAGES = 48, CPATCH_STUBS_PER_PAGE = 255 };

/// The real return address behind a stub's address, or 0 for any other address.
CRUNTIME_RT uint64_t cpatch_slot_for_stub(uint64_t address);
/// Slots that are taken now, the ones cached by threads not counted; for tests.
uint32_t cpatch_slots_in_use(void);

// ---- The process (process.c) ----

/// Sessions that one process takes part in at a time, and sites that it ever has.
enum { CPATCH_SESSIONS = 16, CPATCH_SITES = 32768 };

/// The loader's socket of a session that waits for libraries. The program may have closed it, and used its number again.
struct cpatch_watch {
    int32_t socket;        // -1: none
    uint32_t reserved;
    uint64_t device, inode;
    uint64_t asked, seen;  // MODULES sent, and the last one that was answered
};

/// One session that this process takes part in. Changed only under the agent's lock, and while no link leads to it.
struct cpatch_session {
    const uint8_t *_Nullable image;
    uint8_t *_Nullable shared;
    uint64_t image_size, shared_size;
    /// First word of csession_shared.owner.
    const volatile uint32_t *_Nullable owner;
    uint32_t owner_tid;
    uint32_t flags;        // enum csession_flag
    /// Shard 0 of the statistics, and how many there are to a shard.
    struct csession_statistics *_Nullable counters;
    uint64_t counters_size;
    /// Address of each program's machine code, 0 where the interpreter runs it; null where it runs all.
    const uint64_t *_Nullable code;
    uint64_t code_table_size;
    uint64_t code_address, code_size;
    uint64_t id;           // csession_image.session_id
    uint64_t serial;       // never used twice; 0: this entry is free
    uint64_t epoch;        // cpatch_process.epoch when it was opened
    /// What each program needs, enum cpatch_need; behind `code`. Null where that is.
    const uint8_t *_Nullable needs;
    struct cpatch_plan *_Nullable plans;
    /// Plans whose module is gone: hits may still read the newest for a moment.
    struct cpatch_plan *_Nullable retired;
    uint64_t retired_at;
    struct cpatch_watch watch;
    int32_t socket;        // that it came by, and ends with; -1: it stays
    uint32_t reserved;
    /// As in `cruntime_context`; in the first plan.
    const uint64_t *_Nullable cgroups;
    uint64_t cgroup_count;
};

/// What a hit has to do for a program beside running it.
enum cpatch_need {
    CPATCH_NEED_NOTHING = 0,
    /// It calls functions of ours: vector registers are saved first, and what the run holds is given back.
    CPATCH_NEED_CALLS = 1,
    /// It may take stacks: the bounds of this one have to be known.
    CPATCH_NEED_WALK = 2,
};

/// One program of a link, ready to run.
struct cpatch_run {
    uint64_t code;         // 0: interpreted
    uint64_t cookie;
    uint32_t program;
    uint32_t needs;        // enum cpatch_need
    uint64_t reserved;
};

/// The probes of one plan on one site. Written before it is linked, then only read until it is unlinked.
struct cpatch_link {
    struct cpatch_link *_Nullable next;  // of the same site
    const struct cpatch_session *_Nonnull session;
    const struct cpatch_run *_Nonnull runs;  // entry probes, then return probes
    uint32_t entry_count, return_count;
    uint64_t since;        // cpatch_process.clock when it was linked: returns of earlier calls are not its own
    uint32_t first_statistic;  // of the same probes
    uint32_t site;
    uint32_t loader;       // CPATCH_LOADER_LINK: hits are the dynamic loader's; no probes
    uint32_t unused;
    uint64_t counter;      // as in csession_site
};
enum { CPATCH_LOADER_LINK = 1u << 31 };
// No count of return programs, either: a program wants the function not to run.
enum { CPATCH_OVERRIDE = 1 << 30 };
_Static_assert(sizeof(struct cpatch_link) == 64, "a link is a cache line");

/// One plan of a session, as mapped; its links and then their runs follow it in memory.
struct cpatch_plan {
    struct cpatch_plan *_Nullable next;
    const uint8_t *_Nonnull base;
    uint64_t size;
    uint64_t own_size;     // bytes of this struct with its links and runs
    uint32_t link_count;
    uint32_t run_count;
    uint64_t module_bias;  // as in csession_plan
    uint32_t number;
    uint32_t is_listed;    // the loader's list had the module when the plan came
    uint32_t is_gone;      // and has it no more, which the controller does not know yet
    uint32_t reserved;
    struct cpatch_link links[];
};
_Static_assert(sizeof(struct cpatch_plan) == 64, "a link is a cache line");
static inline struct cpatch_link *_Nonnull cpatch_plan_link(struct cpatch_plan *_Nonnull plan, uint32_t index) {
    return &plan->links[index];
}
/// Where a session's first plan, and the one after a plan, is noted; for taking plans out.
static inline struct cpatch_plan *_Nullable *_Nonnull cpatch_first_plan(struct cpatch_session *_Nonnull session) {
    return &session->plans;
}
static inline struct cpatch_plan *_Nullable *_Nonnull cpatch_next_plan(struct cpatch_plan *_Nonnull plan) {
    return &plan->next;
}
static inline struct cpatch_run *_Nonnull cpatch_plan_run(struct cpatch_plan *_Nonnull plan, uint32_t index) {
    return (struct cpatch_run *)&plan->links[plan->link_count] + index;
}

/// One place in the code that was ever patched. Never freed: a thread may be in its thunk at any time.
struct cpatch_site {
    uint64_t relocated;       // the copy of the window
    uint64_t address;
    struct cpatch_link *_Nullable links;  // published with release, read with acquire
    uint32_t flags;           // enum csession_site_flag
    uint32_t patched;         // enum cpatch_patched
    uint64_t thunk;
    uint64_t landing;         // where the patched jump leads: the thunk, or an island in front of it
    uint64_t island;          // T1: address of the dead bytes
    uint32_t tactic, window;
    uint8_t saved[16], saved_island[8];  // bytes before patching
    uint32_t older;           // site with the same address and other bytes, or ~0
};

enum cpatch_patched {
    CPATCH_ORIGINAL = 0,
    CPATCH_PATCHED = 1,
    /// Somebody else changed the code after us: it leads through our thunk for as long as they like.
    CPATCH_FOREIGN = 2,
};

/// Offsets for Swift, which cannot take the address of an array in a struct.
enum {
    CPATCH_SAVED_OFFSET = offsetof(struct cpatch_site, saved),
    CPATCH_SAVED_ISLAND_OFFSET = offsetof(struct cpatch_site, saved_island),
    CPATCH_ORIGINAL_OFFSET = offsetof(struct csession_site, original),
    CPATCH_OWNER_OFFSET = offsetof(struct csession_shared, owner),
};

/// The agent's only global state. Hits read it; it changes under the agent's lock.
struct cpatch_process {
    struct cpatch_site *_Nullable sites;
    uint32_t site_count;
    uint32_t follows;      // a session wants forked children to run its programs
    /// 1 in the process that opened the session, 0 in a forked child: on a MADV_WIPEONFORK page.
    volatile uint64_t *_Nullable present;
    uint64_t pid;
    uint64_t clock;        // grows with every attach
    uint64_t epoch;        // grows with every fork that was followed into its child
};
extern struct cpatch_process cpatch_the_process;
static inline CRUNTIME_RT struct cpatch_process *_Nonnull cpatch_this_process(void) { return &cpatch_the_process; }

/// The table of sessions.
extern struct cpatch_session cpatch_sessions[CPATCH_SESSIONS];
static inline CRUNTIME_RT struct cpatch_session *_Nonnull cpatch_session_at(uint32_t index) {
    return &cpatch_sessions[index];
}

/// Takes a followed fork's child over, at its first hit; whether hits may go on to look at sessions.
CRUNTIME_RT int32_t cpatch_adopt_child(void);

/// Makes a process that was forked from a target one of its own, before it gets a session.
void cpatch_adopt_for_attach(void);

/// Whether this is the process that was attached to, or a child that a session follows into.
static inline CRUNTIME_RT int32_t cpatch_is_present(void) {
    const struct cpatch_process *process = &cpatch_the_process;
    if (process->present == 0) return 0;
    if (__builtin_expect(*process->present == 1, 1)) return 1;
    return process->follows ? cpatch_adopt_child() : 0;
}

/// Whether a session's hits run programs: its controller lives, and the process is one of its targets.
static inline CRUNTIME_RT int32_t cpatch_session_is_live(const struct cpatch_session *_Nonnull session) {
    // Bit 30 is FUTEX_OWNER_DIED (linux/futex.h); bit 31 only says that there are waiters.
    return (*session->owner & 0x7fffffffu) == session->owner_tid
        && (session->epoch == cpatch_the_process.epoch || (session->flags & CSESSION_FOLLOW_FORK) != 0);
}

/// Whether a session's controller lives.
static inline _Bool cpatch_owner_lives(const struct cpatch_session *_Nonnull session) {
    return (*session->owner & 0x7fffffffu) == session->owner_tid;
}

/// A site's or link's first or next link.
static inline CRUNTIME_RT struct cpatch_link *_Nullable cpatch_first_link(const struct cpatch_site *_Nonnull site) {
    return __atomic_load_n(&site->links, __ATOMIC_ACQUIRE);
}
static inline CRUNTIME_RT struct cpatch_link *_Nullable cpatch_next_link(const struct cpatch_link *_Nonnull link) {
    return __atomic_load_n(&link->next, __ATOMIC_ACQUIRE);
}
/// Puts a link at the end of its site's list.
void cpatch_append_link(struct cpatch_site *_Nonnull site, struct cpatch_link *_Nonnull link);
/// Takes a link out; hits that are under way may still see it until `cpatch_quiesce`.
void cpatch_remove_link(struct cpatch_site *_Nonnull site, struct cpatch_link *_Nonnull link);

/// The number of the newest site at an address, or ~0.
uint32_t cpatch_site_index(uint64_t address);
/// Enters a site of the table under its address; -1 without memory. `cpatch_site_remove` undoes the newest one.
int32_t cpatch_site_insert(uint32_t number);
void cpatch_site_remove(uint32_t number);

/// The agent's lock: one change of sessions and code at a time, and none while the loader unmaps a library.
void cpatch_lock(void);
void cpatch_unlock(void);
/// Takes the lock unless it is not to be had until `deadline` (CLOCK_MONOTONIC); for the thread that has the loader's.
int32_t cpatch_lock_until(uint64_t deadline);
/// Whether somebody has the lock.
int32_t cpatch_is_locked(void);

// ---- The dynamic loader (loader.c) ----
//
// The loader calls an empty function (r_debug.r_brk) before and after it changes its list of modules, with its lock held. All
// of these are for the thread that is in that call.

/// Whether the loader has completed a change; to be asked once at each call.
int32_t cpatch_loader_is_at_rest(void);
/// Whether its list has a module with this load bias.
int32_t cpatch_loader_has(uint64_t bias);
/// Whether a module with this load bias, or any with ~0, has come with this change: no code of it has run, no constructor either.
int32_t cpatch_loader_is_fresh(uint64_t bias);
/// Whether all changes since `cpatch_loader_begin` were seen; otherwise nothing counts as fresh.
int32_t cpatch_loader_is_known(void);
/// This change has been dealt with. Under the agent's lock, as is the next.
void cpatch_loader_end(void);
/// Begins to watch, once the site is in place; for any thread.
void cpatch_loader_begin(void);
/// As `cpatch_loader_has`, for any thread.
int32_t cpatch_loader_lists(uint64_t bias);
/// A change went unseen.
void cpatch_loader_lose(void);
/// Whether the loader is unmapping: what is left of a module must not be written to.
int32_t cpatch_loader_removes(void);

/// Takes over a loader's socket, under a number out of the program's way.
void cpatch_watch_open(struct cpatch_watch *_Nonnull watch, int32_t descriptor);
/// Whether the socket is still the same one.
int32_t cpatch_watch_lives(const struct cpatch_watch *_Nonnull watch);
void cpatch_watch_close(struct cpatch_watch *_Nonnull watch);
/// As `cpatch_receive`, until `deadline` (CLOCK_MONOTONIC): -ETIMEDOUT.
int32_t cpatch_receive_until(
    int32_t socket, struct csession_message *_Nonnull message, int32_t *_Nonnull descriptors, uint64_t deadline);

/// Whether a seccomp filter might kill the calling thread for a system call.
int32_t cpatch_is_filtered(void);

/// Has the calling thread do something of ours: no signal handler of the program runs, no probe sees it.
struct cpatch_interlude {
    uint64_t signals;
    uint64_t hidden;
};
void cpatch_interlude_begin(struct cpatch_interlude *_Nonnull interlude);
void cpatch_interlude_end(const struct cpatch_interlude *_Nonnull interlude);

/// The session's socket that the controller left in UBPF_SOCKET; -1 when there is none or it is no such socket.
int32_t cpatch_given_socket(void);
/// The value of UBPF_PROG, or null.
const char *_Nullable cpatch_given_programs(void);
/// Removes UBPF_* variables and this library's entry of LD_PRELOAD from the environment, in place.
void cpatch_clean_environment(void);

/// One line of /proc/self/maps.
struct cpatch_mapping {
    uint64_t start, end;
    uint32_t readable, writable, executable, is_stack, is_heap, is_vdso;
};
/// Calls `visit` for each mapping until it returns 0; nonzero when the list was read to its end or stopped.
CRUNTIME_RT int32_t cpatch_each_mapping(
    int32_t (*_Nonnull visit)(const struct cpatch_mapping *_Nonnull, void *_Nullable), void *_Nullable data);
/// A free range of `size` bytes so near to `address` that 32-bit displacements reach, just below a mapping; or 0.
uint64_t cpatch_find_gap(uint64_t address, uint64_t size);

/// Has reads of the process's memory fault in a place where the kernel lets them fail, if its vDSO has one (cruntime_guard.c). Only where
/// the controller has seen this kernel do so.
void cpatch_guard_reads(void);
/// Makes the vDSO what it was. No hit can be under way.
void cpatch_unguard_reads(void);

/// Number of threads of this process, 0 when that cannot be read.
uint32_t cpatch_thread_count(void);

/// Sends a message; 0 or -errno.
int32_t cpatch_send(int32_t socket, const struct csession_message *_Nonnull message);
enum { CPATCH_DESCRIPTORS = 20 };
/// Descriptors of a message; -1 where there is none.
struct cpatch_descriptors {
    int32_t number[CPATCH_DESCRIPTORS];
};
void cpatch_close_all(const struct cpatch_descriptors *_Nonnull files);
/// Puts the kernel's memory where a session has the values of arrays that the kernel has too. Their descriptors, from the fourth on, are
/// taken out of `files`: the fourth is then the one behind them. 0 or -errno.
int32_t cpatch_map_arrays(const uint8_t *_Nonnull image, uint8_t *_Nonnull shared, struct cpatch_descriptors *_Nonnull files);
/// Waits for a message with its descriptors; 0 or -errno (-EPIPE when the peer is gone).
int32_t cpatch_receive(int32_t socket, struct csession_message *_Nonnull message, int32_t *_Nonnull descriptors);
/// Maps all of a descriptor shared; its size in `size`, or null.
uint8_t *_Nullable cpatch_map(int32_t descriptor, int32_t writable, uint64_t *_Nonnull size);
/// Anonymous memory, or null; at `hint` exactly when it is not 0.
uint8_t *_Nullable cpatch_allocate(uint64_t size, uint64_t hint);
/// Makes memory from `cpatch_allocate` read-execute (or read-only); 0 or -errno.
int32_t cpatch_protect(void *_Nonnull memory, uint64_t size, int32_t executable);
/// Unmaps.
void cpatch_release(void *_Nonnull memory, uint64_t size);
/// A page that reads 1 here and 0 in forked children; null when the kernel lacks MADV_WIPEONFORK.
volatile uint64_t *_Nullable cpatch_presence(void);
/// Writes to code: through /proc/self/mem so that pages stay as they are, else by mprotect; 0 or -errno.
int32_t cpatch_write_code(uint64_t address, const uint8_t *_Nonnull bytes, uint64_t size);

/// Starts `ubpfrun` as a detached helper that talks over the returned descriptor; -errno when there is none.
int32_t cpatch_start_helper(const char *_Nonnull programs);
/// Keeps `socket` to say CSESSION_EXITING when the program ends.
void cpatch_notify_exit(int32_t socket);
/// One line on stderr if the library was started with UBPF_LOG=stderr.
void cpatch_log(const uint8_t *_Nonnull text);
/// Closes a descriptor.
void cpatch_close(int32_t descriptor);

#endif
