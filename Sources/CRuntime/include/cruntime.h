// Primitives for code that runs inside a target: no libc state, no allocation, no locks, errno untouched.
#ifndef CRUNTIME_H
#define CRUNTIME_H

#include <stddef.h>
#include <stdint.h>

/// Marks a function that Swift code on the probe path may call: it neither allocates nor locks.
#define CRUNTIME_RT __attribute__((swift_attr("@_noLocks")))

/// The program context of uprobes and uretprobes: x86-64 `struct pt_regs` (arch/x86/include/asm/ptrace.h).
struct cruntime_regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t orig_rax, rip, cs, eflags, rsp, ss;
};

/// Why a program was stopped. Kinds 1.. are `Trap.Kind` in UBPFVM.
struct cruntime_trap {
    uint32_t kind;         // 0: none
    uint32_t instruction;  // index within the program
    uint64_t value;        // the offending address, divisor, helper id, ...
};

/// A ring record that the running program has reserved and not yet given back.
struct cruntime_reservation {
    uint64_t address;  // of the record's data; 0: unused
    uint32_t size;     // bytes of data
    uint32_t map;      // index of the ring
};

/// Reservations that one run can hold at a time.
#define CRUNTIME_RESERVATIONS 4

/// A range that compiled code checks addresses against with one subtraction and one comparison: `address - low <= span`.
struct cruntime_window {
    uint64_t low;
    uint64_t span;  // bytes of the range minus 8, so that an access of up to 8 bytes at the last address stays inside
};

struct cruntime_context;

/// Somebody who watches an interpreted run, one instruction at a time.
struct cruntime_observer {
    /// Called before each instruction with its index and r0 to r10; 0 ends the run.
    int32_t (*_Nonnull step)(
        void *_Nullable user, struct cruntime_context *_Nonnull context, uint32_t instruction, const uint64_t *_Nonnull registers);
    void *_Nullable user;
    uint64_t budget;  // instructions left
};

/// Everything one run of a program needs; lives in the per-thread state of the agent, or in a test.
struct cruntime_context {
    // The session, as mapped in this process.
    const uint8_t *_Nullable image;
    uint8_t *_Nullable shared;
    // Guest memory, as absolute address ranges [low, high).
    uint64_t guest_low, guest_high;      // map values and records: read and write
    uint64_t rodata_low, rodata_high;    // frozen maps' values: read only
    uint64_t context_low, context_high;  // the program's context: read only unless context_writable
    uint64_t stack_low, stack_high;      // BPF stack: 8 frames of 512 bytes
    uint64_t packet_low, packet_high;    // test memory, or empty
    uint32_t context_writable;
    uint32_t program;                    // index of the running program (the last tail call's target)
    uint32_t tail_calls;                 // taken so far in this run
    int32_t cpu_slot;                    // per-CPU slot this run owns; -1 until one is needed
    uint64_t budget;                     // instructions left before Trap.budget
    // What helpers answer.
    struct cruntime_regs *_Nullable regs;  // of the probed thread, for stacks; null where there is none
    uint64_t cookie;
    uint64_t function_ip;
    uint64_t pid_tgid;                   // tgid << 32 | tid
    uint64_t uid_gid;                    // gid << 32 | uid
    // Stack walking: readable bounds of the stack that regs->rsp is on, this thread's row cache and its stack memo.
    uint64_t walk_low, walk_high;
    void *_Nullable rows;
    void *_Nullable memo;  // CRUNTIME_MEMO_BYTES of zeros at first; null for none
    struct cruntime_trap trap;
    uint64_t callbacks_depth;
    uint64_t random;                     // state of bpf_get_prandom_u32
    uint64_t keys_low, keys_high;        // keys of hash maps: read only
    // Where the program belongs to an embedder: addresses of its helpers by number, 0 for none. There are no other helpers then.
    const uint64_t *_Nullable user_helpers;
    uint64_t thread_token;  // of the thread that runs this: no two threads have the same
    struct cruntime_reservation reservations[CRUNTIME_RESERVATIONS];
    struct cruntime_observer *_Nullable observer;  // of interpreted runs; null for none
    // For compiled code: the stack pointer that a trap returns to, and a spill.
    uint64_t machine_stack, machine_scratch;
    struct cruntime_window stack_window, guest_window, packet_window, context_window;
    // What is left to do when the run ends (enum cruntime_effect), and with what.
    uint64_t effects;
    uint64_t lock;                             // address of the bpf_spin_lock that the run holds; 0: none
    uint64_t process_signals, thread_signals;  // to be sent; bit n is signal n + 1
    uint64_t override_value;                   // what the probed function is to return instead of running
    uint64_t drain;                            // address of the lock of the user ring that the run drains; 0: none
    // Ids of the control groups that the process is in, from the root on.
    const uint64_t *_Nullable cgroups;
    uint64_t cgroup_count;
};

/// What a run leaves to its end.
enum cruntime_effect {
    CRUNTIME_HOLDS_LOCK = 1,
    // What only the agent does, for a hit: elsewhere nobody is killed by a program that is tried out.
    CRUNTIME_SENDS_SIGNALS = 2,
    CRUNTIME_OVERRIDES = 4,
    CRUNTIME_DRAINS = 8,
};

/// A thread's stack memo (Runtime/StackMemo.swift): a header page, sets of entries of 64 bytes, a ring of 16-byte words.
enum {
    CRUNTIME_MEMO_SETS = 256,
    CRUNTIME_MEMO_WAYS = 16,
    CRUNTIME_MEMO_ENTRIES = CRUNTIME_MEMO_SETS * CRUNTIME_MEMO_WAYS,
    CRUNTIME_MEMO_RING = 1 << 16,
    CRUNTIME_MEMO_HEADER = 4096,
    CRUNTIME_MEMO_BYTES = CRUNTIME_MEMO_HEADER + CRUNTIME_MEMO_ENTRIES * 64 + CRUNTIME_MEMO_RING * 16,
};

/// Offsets for generated code; Embedded Swift cannot ask a struct for them.
enum {
    CRUNTIME_GUEST = offsetof(struct cruntime_context, guest_low),
    CRUNTIME_RODATA = offsetof(struct cruntime_context, rodata_low),
    CRUNTIME_CONTEXT = offsetof(struct cruntime_context, context_low),
    CRUNTIME_STACK = offsetof(struct cruntime_context, stack_low),
    CRUNTIME_PACKET = offsetof(struct cruntime_context, packet_low),
    CRUNTIME_KEYS = offsetof(struct cruntime_context, keys_low),
    CRUNTIME_CONTEXT_WRITABLE = offsetof(struct cruntime_context, context_writable),
    CRUNTIME_BUDGET = offsetof(struct cruntime_context, budget),
    CRUNTIME_PID_TGID = offsetof(struct cruntime_context, pid_tgid),
    CRUNTIME_CPU_SLOT = offsetof(struct cruntime_context, cpu_slot),
    CRUNTIME_TRAP = offsetof(struct cruntime_context, trap),
    CRUNTIME_MACHINE_STACK = offsetof(struct cruntime_context, machine_stack),
    CRUNTIME_MACHINE_SCRATCH = offsetof(struct cruntime_context, machine_scratch),
    CRUNTIME_STACK_WINDOW = offsetof(struct cruntime_context, stack_window),
    CRUNTIME_GUEST_WINDOW = offsetof(struct cruntime_context, guest_window),
    CRUNTIME_PACKET_WINDOW = offsetof(struct cruntime_context, packet_window),
    CRUNTIME_CONTEXT_WINDOW = offsetof(struct cruntime_context, context_window),
};

/// Tells an observer of an instruction; 0 ends the run.
CRUNTIME_RT static inline int32_t cruntime_observe(
    struct cruntime_observer *_Nonnull observer, struct cruntime_context *_Nonnull context, uint32_t instruction,
    const uint64_t *_Nonnull registers) {
    return observer->step(observer->user, context, instruction, registers);
}

/// Calls compiled code: `code(context, r1, r2)`.
CRUNTIME_RT static inline uint64_t cruntime_run(
    uint64_t code, struct cruntime_context *_Nonnull context, uint64_t r1, uint64_t r2) {
    typedef uint64_t (*compiled)(struct cruntime_context *, uint64_t, uint64_t);
    return ((compiled)code)(context, r1, r2);
}

/// Entries of `cruntime_context.user_helpers`.
#define CRUNTIME_USER_HELPERS 256

/// Calls an embedder's helper.
CRUNTIME_RT static inline uint64_t cruntime_call_user(
    uint64_t helper, uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5) {
    typedef uint64_t (*function)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
    return ((function)helper)(r1, r2, r3, r4, r5);
}

/// Calls a helper as compiled code does: the arguments, then the context.
CRUNTIME_RT static inline uint64_t cruntime_call_helper(
    uint64_t (*_Nonnull helper)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, struct cruntime_context *_Nonnull), uint64_t r1,
    uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5, struct cruntime_context *_Nonnull context) {
    return helper(r1, r2, r3, r4, r5, context);
}

/// Bytes of a BPF stack: eight frames of 512.
#define CRUNTIME_STACK_SIZE 4096

/// Goes on with a run of an embedder's compiled program.
typedef uint64_t (*_Nonnull cruntime_body)(
    void *_Nullable memory, size_t size, void *_Nonnull vm, uint64_t code, struct cruntime_context *_Nonnull context,
    uint64_t stack_high);

/// Calls `body` with a zeroed context and the end of a stack that nobody cleared, both on the native stack.
uint64_t cruntime_enter_checked(
    void *_Nullable memory, size_t size, void *_Nonnull vm, uint64_t code, cruntime_body body);

/// Calls compiled code without checks: of the context it looks at little, and only that is set.
uint64_t cruntime_enter_unchecked(
    void *_Nullable memory, size_t size, const uint64_t *_Nonnull user_helpers, uint64_t code);

/// What this CPU offers to compiled code (CPUID).
enum { CRUNTIME_CPU_BMI2 = 1, CRUNTIME_CPU_SGX = 2 };
uint32_t cruntime_cpu_features(void);

/// A raw system call; returns the kernel's value (-errno on failure) and leaves errno alone.
CRUNTIME_RT int64_t cruntime_syscall(int64_t number, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f);

/// CLOCK_MONOTONIC in nanoseconds (bpf_ktime_get_ns), by the vDSO.
CRUNTIME_RT uint64_t cruntime_monotonic_ns(void);
/// CLOCK_MONOTONIC_COARSE in nanoseconds (bpf_ktime_get_coarse_ns): as of the last timer tick, at a fraction of the cost.
CRUNTIME_RT uint64_t cruntime_coarse_ns(void);
/// CLOCK_BOOTTIME in nanoseconds.
CRUNTIME_RT uint64_t cruntime_boottime_ns(void);
/// CLOCK_TAI in nanoseconds.
CRUNTIME_RT uint64_t cruntime_tai_ns(void);

/// The CPU that the caller runs on (rseq where glibc registered it, else getcpu).
CRUNTIME_RT uint32_t cruntime_cpu(void);

/// The NUMA node that the caller runs on (getcpu).
CRUNTIME_RT uint32_t cruntime_numa_node(void);

/// Device and inode of the process's PID namespace, as stat(2) has them; 0 or -errno.
CRUNTIME_RT int64_t cruntime_pid_namespace(uint64_t *_Nonnull device, uint64_t *_Nonnull inode);

/// Thread id of the caller, from the kernel.
CRUNTIME_RT uint32_t cruntime_tid(void);

/// Whether thread `tid` runs no more: it does not exist, or is a zombie that has given up its memory.
CRUNTIME_RT int32_t cruntime_thread_gone(uint32_t tid);

// Threads that share a session may be of several PID namespaces, where one number means several threads. So locks and records hold an
// owner: the thread's number (22 bits) and a mark of its namespace (9 bits), 0 for the machine's own.

/// Finds the mark of this process's namespace; 0 until then.
CRUNTIME_RT void cruntime_find_namespace(void);

/// The mark of this process's namespace, in its place in an owner.
CRUNTIME_RT uint32_t cruntime_namespace_mark(void);

/// The calling thread as an owner.
CRUNTIME_RT static inline uint32_t cruntime_owner(void) { return cruntime_tid() | cruntime_namespace_mark(); }

enum cruntime_owner_state {
    CRUNTIME_OWNER_LIVES = 0,
    CRUNTIME_OWNER_GONE = 1,
    CRUNTIME_OWNER_FOREIGN = 2,  // of another namespace: nobody here can tell
};

/// What is known of an owner's thread (enum cruntime_owner_state).
CRUNTIME_RT int32_t cruntime_owner_state(uint32_t owner);

/// Lets another thread run.
CRUNTIME_RT void cruntime_yield(void);

/// Copies `size` bytes from anywhere in this process; 0, or -EFAULT and zeros, and no signal, where the range is not readable.
CRUNTIME_RT int64_t cruntime_read(void *_Nonnull destination, uint64_t source, uint64_t size);

/// Copies `count` words of 8 bytes, at least one; not 0, and no signal, where one cannot be read.
typedef int32_t (*cruntime_words)(void *_Nonnull destination, uint64_t source, uint64_t count);
/// What `cruntime_fetch` copies by; null: as `cruntime_read`, by process_vm_readv(2).
void cruntime_fetch_by(cruntime_words _Nullable words);
/// This process's number, which `cruntime_fetch` else asks the kernel for.
void cruntime_fetch_from(uint32_t pid);
/// As `cruntime_read`, the fastest way there is; for programs' helpers, who are waited for before that way is taken back.
CRUNTIME_RT int64_t cruntime_fetch(void *_Nonnull destination, uint64_t source, uint64_t size);
/// The same by `words`, whatever else reads by.
int64_t cruntime_fetch_with(cruntime_words _Nonnull words, void *_Nonnull destination, uint64_t source, uint64_t size);

/// A function of the vDSO, and what makes a `cruntime_words` of it (cruntime_guard.c).
struct cruntime_guard {
    uint64_t address, vdso;
    uint32_t size;
    uint8_t original[256], code[256];
};
/// Finds this process's, and makes the code; 0 where there is no place for it.
int32_t cruntime_find_guard(struct cruntime_guard *_Nonnull guard);
/// Makes the code for `size` bytes of `original`; 0 where that is another function than the one we know.
int32_t cruntime_make_guard(struct cruntime_guard *_Nonnull guard);
/// Changes it, and has reads use it, or makes it what it was; 0 or -errno. Nobody reads meanwhile.
int32_t cruntime_set_guard(const struct cruntime_guard *_Nonnull guard, int32_t guarded);

/// Writes bytes that nobody can reach yet on a page that is in use, and read-only perhaps; 0 or -errno.
int32_t cruntime_write_live(uint64_t address, const uint8_t *_Nonnull bytes, uint64_t size);

/// By `cruntime_fetch`: copies a NUL-terminated string of at most `size` bytes including its NUL; its length with NUL, or -EFAULT.
CRUNTIME_RT int64_t cruntime_read_string(void *_Nonnull destination, uint64_t source, uint64_t size);

/// As `cruntime_read_string`, of `available` bytes that are there; 0 where they hold no end of the string.
CRUNTIME_RT int64_t cruntime_copy_string(
    void *_Nonnull destination, uint64_t source, uint64_t size, uint64_t available);

struct csession_task;
/// The address of a thread's task_struct, for programs to read fields at.
CRUNTIME_RT uint64_t cruntime_task_address(uint64_t pid);
/// Whether an address is one of a task_struct, or inside of it.
CRUNTIME_RT int32_t cruntime_is_task(uint64_t address);
/// Reads `size` bytes of one field of a task_struct; 0, or -EFAULT and zeros where they are no field that there is.
CRUNTIME_RT int64_t cruntime_task_read(
    const struct csession_task *_Nonnull layout, uint64_t pid_tgid, uint64_t address, void *_Nonnull destination, uint64_t size);

/// The same for a string, which only the name is; its length with NUL, or -EFAULT.
CRUNTIME_RT int64_t cruntime_task_read_string(
    const struct csession_task *_Nonnull layout, uint64_t pid_tgid, uint64_t address, void *_Nonnull destination, uint64_t size);

/// Copies `size` bytes to anywhere in this process where it may write itself; 0, or -EFAULT.
CRUNTIME_RT int64_t cruntime_write(uint64_t destination, const void *_Nonnull source, uint64_t size);

/// Finds the unwind tables of the module that holds `pc` (glibc 2.35+ _dl_find_object); 0 when there is none.
struct cruntime_module {
    uint64_t start, end;             // mapped range
    uint64_t bias;                   // l_addr
    const uint8_t *_Nullable eh_frame_hdr;
    const char *_Nullable path;      // l_name; empty for the executable
};
CRUNTIME_RT int32_t cruntime_find_module(uint64_t pc, struct cruntime_module *_Nonnull out);

/// Where a process's return stubs are. A probed function returns to a stub; its slot holds the real return address.
///
/// Stubs and slots lie in parallel 4096-byte pages: the slot of the stub at `low + n` is at `slots + (n & ~15)` and starts
/// with the real return address.
struct cruntime_stubs {
    uint64_t low, high;  // return addresses in [low, high) are stubs; empty until the pool registers itself
    uint64_t slots;
};
void cruntime_register_stubs(struct cruntime_stubs stubs);

/// The real return address where `ra` points into a return stub, else `ra` itself. For stack walks.
CRUNTIME_RT uint64_t cruntime_resolve_stub(uint64_t ra);
/// Address of the word that holds the real return address of stub address `ra`; 0 for any other address.
CRUNTIME_RT uint64_t cruntime_stub_slot(uint64_t ra);

/// Words of the dynamic loader that change with every dlopen and dlclose.
struct cruntime_generation {
    uint64_t words[3];
};
/// Reads them; 0 where this process's loader does not let them be found.
CRUNTIME_RT int32_t cruntime_get_generation(struct cruntime_generation *_Nonnull out);

/// memcpy, memset, memcmp without vector instructions, so that a target's AVX state survives.
CRUNTIME_RT void cruntime_copy(void *_Nonnull to, const void *_Nonnull from, uint64_t size);
/// As memmove: the ranges may overlap.
CRUNTIME_RT void cruntime_move(void *_Nonnull to, const void *_Nonnull from, uint64_t size);
CRUNTIME_RT void cruntime_zero(void *_Nonnull to, uint64_t size);
CRUNTIME_RT int32_t cruntime_compare(const void *_Nonnull a, const void *_Nonnull b, uint64_t size);

/// A thread's name, NUL-terminated.
struct cruntime_comm {
    char bytes[16];
};

/// The caller's name (prctl PR_GET_NAME).
CRUNTIME_RT void cruntime_get_comm(struct cruntime_comm *_Nonnull out);

/// Room for a stack: 127 frames (kernel.perf_event_max_stack).
struct cruntime_frames {
    uint64_t frames[127];
};

/// Room for a piece of a string.
struct cruntime_text {
    uint8_t bytes[64];
};

/// Room for a key of an LPM trie: a length and up to 256 bytes.
struct cruntime_key {
    uint64_t words[33];
};

/// Pause for a spin loop.
CRUNTIME_RT void cruntime_pause(void);

#endif
