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
    uint64_t token;  // identifies a live frame; see cpatch_enter
    uint64_t site;   // as pushed by the thunk; later where the trampoline goes next
};

// Thunks in Swift tests and the planner's copies rely on these sizes.
enum { CPATCH_FRAME_REGS = 256, CPATCH_FRAME_TOKEN = 256 + 168, CPATCH_FRAME_SITE = 256 + 168 + 8 };

// ---- Thread state (thread.c) ----

enum { CPATCH_SLOT_CACHE = 4, CPATCH_BPF_STACK = 4096, CPATCH_ROWS = 4096 * 16 };

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
    uint64_t prepared;     // the context knows the session
    uint32_t index;
    uint32_t cached_slots;
    uint32_t slots[CPATCH_SLOT_CACHE];
};

/// The only thread-local data: initial-exec, in the static TLS block, so that reaching it takes one instruction.
struct cpatch_thread {
    struct cpatch_state *_Nullable state;
    volatile uint64_t guard;  // address of the token of the hit that is being handled on this thread; 0: none
    uint64_t wait;            // hits to let pass before this thread asks for a state again
};

/// Begins a hit: this thread's state, or null when the hit must not run programs (nested, or no state to be had).
CRUNTIME_RT struct cpatch_state *_Nullable cpatch_enter(struct cruntime_regs *_Nonnull regs);
/// Ends what `cpatch_enter` began.
CRUNTIME_RT void cpatch_leave(struct cpatch_state *_Nonnull state);

/// Sets the context's walk_low and walk_high to readable bounds around `rsp`.
CRUNTIME_RT void cpatch_find_bounds(struct cpatch_state *_Nonnull state, uint64_t rsp);

/// Thread states that exist, used or not; for tests.
uint32_t cpatch_state_count(void);

// ---- Return stubs (stubs.S, slots.c) ----

enum { CPATCH_STUB_PAGES = 64, CPATCH_STUBS_PER_PAGE = 255 };

/// Takes a slot for a function entered with its return address at `sp`: the address of its stub, or 0 when none is free.
CRUNTIME_RT uint64_t cpatch_slot_take(
    struct cpatch_state *_Nonnull state, uint64_t sp, uint64_t entry, uint32_t site);
/// Gives a slot back after its function returned; `state` is null when this hit is nested.
CRUNTIME_RT void cpatch_slot_give(struct cpatch_state *_Nullable state, uint32_t slot);
/// The site that a slot was taken for.
CRUNTIME_RT uint32_t cpatch_slot_site(uint32_t slot);
/// The real return address behind a stub's address, or 0 for any other address.
CRUNTIME_RT uint64_t cpatch_slot_for_stub(uint64_t address);
/// Slots that are taken now, the ones cached by threads not counted; for tests.
uint32_t cpatch_slots_in_use(void);

// ---- The process (process.c) ----

/// One patched site, as the hit path needs it.
struct cpatch_site {
    uint64_t relocated;       // the copy of the window
    uint64_t address;
    uint32_t first_probe, entry_count, return_count;
    uint32_t flags;           // enum csession_site_flag
    uint64_t thunk;
    uint8_t saved[16], saved_island[8];  // bytes before patching
    uint32_t patched;         // 1: island written, 2: site written
    uint32_t reserved;
};

/// Offsets for Swift, which cannot take the address of an array in a struct.
enum {
    CPATCH_SAVED_OFFSET = offsetof(struct cpatch_site, saved),
    CPATCH_SAVED_ISLAND_OFFSET = offsetof(struct cpatch_site, saved_island),
    CPATCH_ORIGINAL_OFFSET = offsetof(struct csession_site, original),
    CPATCH_OWNER_OFFSET = offsetof(struct csession_shared, owner),
};

/// The agent's only global state. Written by the constructor while the process has one thread, then only read.
struct cpatch_process {
    const uint8_t *_Nullable image;
    uint8_t *_Nullable shared;
    const struct cpatch_site *_Nullable sites;
    /// 1 in the process that opened the session, 0 in a forked child: on a MADV_WIPEONFORK page.
    const volatile uint64_t *_Nullable present;
    /// First word of csession_shared.owner.
    const volatile uint32_t *_Nullable owner;
    const struct csession_probe *_Nullable probes;
    struct csession_statistics *_Nullable statistics;
    /// Address of each program's machine code, 0 where the interpreter runs it; null where it runs all.
    const uint64_t *_Nullable code;
    uint32_t owner_tid;
    uint32_t site_count;
    uint64_t pid;
};
extern struct cpatch_process cpatch_the_process;
static inline CRUNTIME_RT struct cpatch_process *_Nonnull cpatch_this_process(void) { return &cpatch_the_process; }

/// Whether hits run programs: the session's controller lives and this is not a forked child.
static inline CRUNTIME_RT int32_t cpatch_is_live(void) {
    const struct cpatch_process *process = &cpatch_the_process;
    if (process->present == 0 || *process->present == 0) return 0;
    uint32_t owner = *process->owner;
    // Bit 30 is FUTEX_OWNER_DIED (linux/futex.h); bit 31 only says that there are waiters.
    return (owner & 0x7fffffffu) == process->owner_tid;
}

/// Adds to a counter in shared memory.
static inline CRUNTIME_RT void cpatch_count(uint64_t *_Nonnull counter) {
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}
static inline CRUNTIME_RT void cpatch_store(uint64_t *_Nonnull word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/// The session's socket that the controller left in UBPF_SOCKET; -1 when there is none or it is no such socket.
int32_t cpatch_given_socket(void);
/// The value of UBPF_PROG, or null.
const char *_Nullable cpatch_given_programs(void);
/// Removes UBPF_* variables and this library's entry of LD_PRELOAD from the environment, in place.
void cpatch_clean_environment(void);

/// One line of /proc/self/maps.
struct cpatch_mapping {
    uint64_t start, end;
    uint32_t readable, writable, executable, is_stack, is_heap, reserved;
};
/// Calls `visit` for each mapping until it returns 0; nonzero when the list was read to its end or stopped.
CRUNTIME_RT int32_t cpatch_each_mapping(
    int32_t (*_Nonnull visit)(const struct cpatch_mapping *_Nonnull, void *_Nullable), void *_Nullable data);
/// A free range of `size` bytes so near to `address` that 32-bit displacements reach, just below a mapping; or 0.
uint64_t cpatch_find_gap(uint64_t address, uint64_t size);

/// Number of threads of this process, 0 when that cannot be read.
uint32_t cpatch_thread_count(void);

/// Sends a message; 0 or -errno.
int32_t cpatch_send(int32_t socket, const struct csession_message *_Nonnull message);
/// Waits for a message with up to two descriptors; 0 or -errno (-EPIPE when the peer is gone).
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
const volatile uint64_t *_Nullable cpatch_presence(void);
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
