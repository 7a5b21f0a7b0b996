// The shared-memory contract between the controller (ubpfrun) and the agent (libubpf.so).
//
// A session is memfds, passed over a socket:
//
//   image   written by the controller, then sealed against every write: what runs is what was verified.
//           header | maps[] | programs[] | instructions[] | read-only data
//   shared  read and written by both sides, sealed against resizing:
//           csession_shared | probe statistics[] | modules[] | map metadata ... | guest area (values, records)
//   plan    sealed like the image: what one target has to patch. A session has one image and one shared segment, however
//           many targets it spans, and one or more plans for each target.
//           header | sites[] | probes[] | fixups[] | code bytes
//
// Every reference is an offset from the start of its segment; no pointer is ever stored in one. All fields are
// little-endian and naturally aligned. The guest area holds only what programs may write (map values, ring records,
// .data, .bss); everything the maps' own logic depends on lies outside it, so a stray store by an unverified program
// can spoil values and nothing else.
#ifndef CSESSION_H
#define CSESSION_H

#include <stdint.h>

#define CSESSION_MAGIC 0x3170646f7366706eull
#define CSESSION_PLAN_MAGIC 0x316e616c70667062ull
#define CSESSION_VERSION 9u

// How a byte range of a segment is given.
struct csession_range {
    uint64_t offset;  // from the start of the segment
    uint64_t size;    // bytes
};

// Offsets of fields in the running kernel's task_struct; 0: not known.
struct csession_task {
    uint16_t pid, tgid, comm, real_parent, parent, group_leader, start_time, start_boottime, exit_code;
    uint16_t unused[3];
};

// The start of the image.
struct csession_image {
    uint64_t magic;    // CSESSION_MAGIC
    uint32_t version;  // CSESSION_VERSION
    uint32_t cpu_count;  // slots of per-CPU values
    uint64_t image_size;
    uint64_t shared_size;

    uint32_t map_count;
    uint32_t program_count;
    uint32_t instruction_count;  // of all programs together
    uint32_t statistics_capacity;
    uint32_t flags;      // enum csession_flag
    uint32_t statistic_shards;  // at least 1
    uint32_t owner_tid;  // the controller's thread that holds csession_shared.owner
    uint32_t owner_pid;
    uint64_t session_id;  // random; names the session towards an agent

    uint64_t maps_offset;          // struct csession_map[map_count]
    uint64_t programs_offset;      // struct csession_program[program_count]
    uint64_t instructions_offset;  // 16-byte executable instructions (UBPFVM)
    struct csession_range rodata;  // frozen maps' values, readable by programs

    uint64_t statistics_offset;    // in shared: struct csession_statistics[statistic_shards][statistics_capacity]
    uint64_t modules_offset;       // in shared: struct csession_module[modules_capacity]
    uint32_t modules_capacity;
    uint32_t log_map;              // index of the ring that takes bpf_trace_printk lines, or ~0
    struct csession_range guest;   // in shared: what programs may read and write
    struct csession_range keys;    // in shared: hash maps' nodes with their keys, which programs may read
    struct csession_task task;     // for bpf_get_current_task; zeros where no program calls it
    uint64_t cpu_slots_offset;     // in shared: cpu_count words of 64 bytes, the tid of each per-CPU slot's user
};

enum csession_flag {
    CSESSION_VERIFIED = 1,     // every program was accepted by the verifier: compiled code needs no checks
    CSESSION_FOLLOW_FORK = 2,  // children made by fork run the programs too
    CSESSION_ALLOW_WRITE = 4,     // programs may write to the target's memory (bpf_probe_write_user)
    CSESSION_ALLOW_OVERRIDE = 8,  // programs may return in place of probed functions (bpf_override_return)
    CSESSION_GUARDED_READS = 16,  // this kernel fixes up faults in the vDSO, and a program reads memory
};

// The start of a plan.
struct csession_plan {
    uint64_t magic;    // CSESSION_PLAN_MAGIC
    uint32_t version;  // CSESSION_VERSION
    uint32_t first_statistic;  // of this plan's first probe; probe n counts in statistics[first_statistic + n]
    uint64_t size;
    uint64_t session_id;
    uint32_t site_count;
    uint32_t probe_count;
    uint32_t fixup_count;
    uint32_t number;             // of this plan in its target; 0: the first one, whose modules stay
    uint64_t module_bias;        // other plans: load bias (l_addr) of the one module that has the sites; when it goes, the plan does
    uint64_t sites_offset;       // struct csession_site[site_count]
    uint64_t probes_offset;      // struct csession_probe[probe_count]
    uint64_t fixups_offset;      // struct csession_fixup[fixup_count]
    struct csession_range code;  // relocated windows, referred to by sites
    uint64_t cgroups_offset;     // first plan: uint64_t[cgroup_count], ids of the control groups that the target is in, from the root on
    uint32_t cgroup_count;       // 0: no program asks
    uint32_t unused;
};

// Where a map's values live.
enum csession_storage {
    CSESSION_STORAGE_SHARED = 0,  // values_offset counts from the start of shared
    CSESSION_STORAGE_IMAGE = 1,   // values_offset counts from the start of image; frozen
};

// One map. `type` and `flags` have the kernel's values (enum bpf_map_type, BPF_F_*).
struct csession_map {
    uint32_t type;
    uint32_t key_size;
    uint32_t value_size;
    uint32_t max_entries;
    uint32_t flags;
    uint32_t storage;         // enum csession_storage
    uint32_t value_stride;    // value_size rounded up to 8; the step between values
    uint32_t key_stride;      // key_size rounded up to 8; hash maps: the step between nodes, which are links and a key
    uint32_t bucket_count;    // hash maps, tries and stack traces: buckets; bloom filters: bits; a power of two
    uint32_t node_count;      // hash maps, tries and stack traces: entries and spares; bloom filters: hash functions
    uint64_t meta_offset;     // in shared: the map's own header, buckets, links, free list
    uint64_t keys_offset;     // in shared: hash maps' nodes, node_count * key_stride
    uint64_t values_offset;   // first value, or a ring's data
    uint64_t values_size;     // all values (per-CPU: cpu_count blocks of equal size), or a ring's data area
    uint64_t ring_size;       // rings: a power of two; records may reach past it into the second half of the data area
    uint32_t shape;           // maps of the same shape may stand for one another inside a map of maps
    uint32_t inner_shape;     // maps of maps: the shape of the maps inside; else 0
    uint32_t lock;            // hash maps and arrays: 1 + the offset of the struct bpf_spin_lock in a value; 0: there is none
    uint32_t kernel;          // arrays that programs in the kernel use too: 1 + the controller's descriptor of the kernel's map, whose
                              // memory the values are, in pages of their own; else 0
    char name[32];            // NUL-terminated
};

// One BPF program; its instructions (subprograms included) are contiguous.
struct csession_program {
    uint32_t first_instruction;  // index into the image's instructions
    uint32_t instruction_count;
    uint32_t type;               // enum bpf_prog_type
    uint32_t flags;
    char name[64];               // NUL-terminated
};

// How a site's bytes are changed. Names as in Documentation/Patching.md.
enum csession_tactic {
    CSESSION_TACTIC_JUMP = 0,         // T0: the first instruction is 5 bytes or longer: jmp rel32 replaces exactly one
    CSESSION_TACTIC_ISLAND = 1,       // T1: jmp rel8 to a jmp rel32 in dead padding
    CSESSION_TACTIC_WINDOW = 2,       // T2: jmp rel32 over several instructions
    CSESSION_TACTIC_TRAP = 3,         // T3: int3 in place of the first byte
};

enum csession_site_flag {
    CSESSION_SITE_FUNCTION = 1,  // a function's first instruction: flags and the red zone are dead, [rsp] is the return address
    CSESSION_SITE_LOADER = 2,    // the function that the dynamic loader calls at each change of its list (r_debug.r_brk)
};

// One place in the target's code that is patched, with every probe on it.
struct csession_site {
    uint64_t address;         // absolute, in the target
    uint64_t island;          // T1: absolute address of 5 dead bytes; else 0
    uint64_t resume;          // absolute address of the first instruction after the window
    uint32_t window;          // bytes of whole instructions that the relocated copy replaces
    uint32_t tactic;          // enum csession_tactic
    uint32_t flags;           // enum csession_site_flag
    uint32_t code_offset;     // of the relocated window, into the plan's code range
    uint32_t code_size;       // bytes; the agent appends a jump to `resume`
    uint32_t first_fixup;
    uint32_t fixup_count;
    uint32_t first_probe;     // probes of one site are contiguous: entry probes first
    uint32_t entry_count;
    uint32_t return_count;
    uint64_t counter;         // absolute address of a static probe's semaphore (uint16_t, <sys/sdt.h>), or 0
    uint8_t original[16];     // what must be found at `address` before anything is written
};

// A 32-bit displacement in a relocated window that depends on where the copy is put.
struct csession_fixup {
    uint64_t target;    // absolute address that the displacement must reach
    uint32_t field;     // offset of the 4-byte field in the site's code
    uint32_t end;       // offset of the end of its instruction: displacement = target - (copy + end)
};

// One program on one site.
struct csession_probe {
    uint32_t program;  // index
    uint32_t site;     // index
    uint64_t cookie;   // bpf_get_attach_cookie
};

// Counters of one probe in one shard. In the first shard they are relaxed atomics; in the others `hits` has one writer.
struct csession_statistics {
    uint64_t hits;    // runs of the program
    uint64_t missed;  // hits that could not run it: nested, no free return slot, no thread state
    uint64_t traps;   // runs that ended in a Trap
    uint64_t last_trap;  // kind << 32 | instruction, of the last one
};

// A module seen in a stack, written by the agent the first time an unwind meets it; so stacks can be named after exit.
struct csession_module {
    uint64_t start;
    uint64_t end;        // 0 while the entry is being written
    uint64_t bias;       // load bias (l_addr): run-time address = bias + p_vaddr
    char path[488];      // NUL-terminated; empty for the executable
};

// The state of a session, as the agent reports it. Values of csession_shared.agent_state.
enum csession_agent_state {
    CSESSION_AGENT_NONE = 0,
    CSESSION_AGENT_ATTACHED = 1,
    CSESSION_AGENT_FAILED = 2,
};

// The start of the shared segment.
struct csession_shared {
    uint64_t magic;
    uint64_t size;
    // Stacks taken from threads' memos and walked (Documentation/Stacks.md); a thread adds its hits now and then.
    uint64_t stack_hits;
    uint64_t stack_misses;
    uint64_t stack_crosscheck;   // nonzero: every stack from a memo is compared with a full walk
    uint64_t stack_differences;  // what that found
    // Shards of the statistics that threads have taken for themselves, so that they count without atomics; the first one is
    // everybody's. A probe's counters are the sums over all shards.
    uint64_t statistic_shards_taken;
    uint64_t unused;
    // A robust process-shared mutex (pthread_mutex_t), held by the controller for as long as the session lives. Its first
    // 32-bit word holds the owner's tid; when the controller dies, however it dies, the kernel sets FUTEX_OWNER_DIED in
    // it, and every probe finds the session ended. No thread, socket or signal in the target is needed for that.
    uint8_t owner[64];        // at offset 64; over-aligned fields would hide the struct from Swift
    uint32_t agent_state;     // enum csession_agent_state
    uint32_t agent_pid;
    uint32_t module_count;    // entries claimed in modules[]
    uint32_t reserved;
    uint64_t guest_faults;    // bad addresses given to bpf_probe_read_*
};

// Messages on the session's socket; fixed size, one datagram each (SOCK_SEQPACKET).
enum csession_message_kind {
    CSESSION_HELLO = 1,     // agent → controller: ready; value = threads of the process; waits for what is asked of it
    CSESSION_SESSION = 2,   // controller → agent: descriptors attached: image, shared, plan, those of the maps with `kernel`, the loader's socket
    CSESSION_REFUSED = 3,   // controller → agent: go on without probes
    CSESSION_ATTACHED = 4,  // agent → controller: answer to SESSION and PLAN; value = number of sites patched
    CSESSION_EXITING = 5,   // agent → controller: exit handlers run; waits for the peer to close
    CSESSION_MORE = 6,      // controller → agent: one descriptor attached, another plan of this session
    CSESSION_DETACH = 7,    // controller → agent: value = session_id, 0: every session whose controller is gone
    CSESSION_DETACHED = 8,  // agent → controller: answer to DETACH; value = sites whose code is the original again
    CSESSION_HOLD = 10,     // agent → controller: stop all threads but `site`: code changes under them
    CSESSION_GO = 11,       // controller → agent: they are stopped until RELEASE comes; error: they cannot be
    CSESSION_RELEASE = 12,  // agent → controller: the threads that it stopped may run on
    // On the loader's socket, which a session has that waits for libraries. The thread that opened a library speaks there.
    CSESSION_MODULES = 9,     // agent → controller: there are libraries that have not run yet; value = count of these messages;
                              // the thread waits for SEEN. error ETIMEDOUT: it did not wait any longer
    CSESSION_SEEN = 13,       // controller → agent: answer to MODULES `value`, after the plans (MORE, the same value) for it
    CSESSION_FORGOTTEN = 14,  // agent → controller: the module of plan `plan` is gone, and so is the plan
};

struct csession_message {
    uint32_t kind;
    uint32_t error;    // 0, or an errno value
    uint64_t value;
    uint32_t site;     // with an error: the site it is about, or ~0
    uint32_t pid;
    uint32_t plan;     // ATTACHED, FORGOTTEN: csession_plan.number
    uint32_t reserved;
    char text[104];    // an explanation for people, NUL-terminated
};

// Environment of a target that the controller starts.
#define CSESSION_ENV_SOCKET "UBPF_SOCKET"  // descriptor number of the session's socket
#define CSESSION_ENV_FOLLOW "UBPF_FOLLOW"  // abstract name of the socket where programs report that a target executes

#endif
