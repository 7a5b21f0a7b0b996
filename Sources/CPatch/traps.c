// The handler of SIGTRAP behind live.c: threads that meet one of our breakpoints go on in the thunk, everything else goes to
// the program's own handler. Also what is known of the other threads.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "clive.h"

#pragma clang attribute push(__attribute__((minsize)), apply_to = function)

#define CALL(number, a, b, c, d) cpatch_call((number), (int64_t)(a), (int64_t)(b), (int64_t)(c), (int64_t)(d))

static struct cpatch_trap_counts counts;
const struct cpatch_trap_counts *cpatch_trap_counts(void) { return &counts; }
#define COUNT(what) __atomic_fetch_add(&counts.what, 1, __ATOMIC_RELAXED)

// ---- Where traps lead ----

// Open addressing; written by one thread at a time, read by handlers. A larger table replaces a full one, and the old one
// stays for handlers that still read it.
struct entry {
    _Atomic uint64_t pc, target;  // target 0: no trap of ours any more
};
struct table {
    uint64_t mask, used;
    struct entry *entries;
};
static struct entry first_entries[128];
static struct table first_table = {127, 0, first_entries};
static struct table *_Atomic the_table = &first_table;

static struct entry *find(const struct table *table, uint64_t pc) {
    uint64_t i = pc * 0x9e3779b97f4a7c15ull >> 32;
    for (;; i++) {
        struct entry *entry = &table->entries[i & table->mask];
        uint64_t key = atomic_load_explicit(&entry->pc, memory_order_acquire);
        if (key == pc || key == 0) return entry;
    }
}

static void fill(struct table *table, uint64_t pc, uint64_t target) {
    struct entry *entry = find(table, pc);
    table->used += atomic_load(&entry->pc) == 0;
    atomic_store(&entry->target, target);
    atomic_store_explicit(&entry->pc, pc, memory_order_release);
}

int32_t cpatch_trap_set(uint64_t pc, uint64_t target) {
    struct table *table = atomic_load(&the_table);
    if (table->used * 2 > table->mask) {
        uint64_t size = (table->mask + 1) * 4;
        uint8_t *memory = cpatch_allocate(size * sizeof(struct entry) + sizeof(struct table), 0);
        if (memory == NULL) return -ENOMEM;
        struct table *larger = (struct table *)(memory + size * sizeof(struct entry));
        *larger = (struct table){size - 1, 0, (struct entry *)memory};
        for (uint64_t i = 0; i <= table->mask; i++) {
            struct entry *entry = &table->entries[i];
            if (atomic_load(&entry->target) != 0) fill(larger, atomic_load(&entry->pc), atomic_load(&entry->target));
        }
        atomic_store(&the_table, larger);
        table = larger;
    }
    fill(table, pc, target);
    return 0;
}

// ---- The program's own handlers ----

// As the kernel has it (arch/x86/include/uapi/asm/signal.h).
struct action {
    void (*handler)(int, siginfo_t *, void *);
    uint64_t flags;
    void (*restorer)(void);
    uint64_t mask;
};
enum { RESTORER = 0x04000000, LAYERS = 4 };

// What lay below us when we were installed the first time, and at the last. In between are handlers that the program
// installed over ours; if one calls what it found, us, the signal goes on to the first.
static struct layers {
    struct action below[LAYERS];
    struct action *_Atomic first, *_Atomic last;
    uint32_t used;
    uint32_t ours;  // the handler is or was installed, and not taken back
} layers;

static int64_t sigaction_of(const struct action *set, struct action *get) {
    return CALL(SYS_rt_sigaction, SIGTRAP, set, get, sizeof(uint64_t));
}

// Unwinders know a signal's frame by these bytes (libgcc's x86_64_fallback_frame_state, gdb), if nothing else describes it.
void cpatch_restore(void);
__asm__(
    ".text\n.balign 16\n.hidden cpatch_restore\n.type cpatch_restore, @function\n"
    "nop\ncpatch_restore: movq $15, %rax\nsyscall\n.size cpatch_restore, . - cpatch_restore\n");

static void forward(int signal, siginfo_t *info, ucontext_t *context, struct action *action) {
    COUNT(forwarded);
    // Copied first: the kernel does so, too.
    struct action it = *action;
    uint64_t kind = (uint64_t)it.handler;
    if (kind > (uint64_t)SIG_IGN) {
        if (it.flags & SA_RESETHAND) action->handler = NULL;
        uint64_t mask = *(uint64_t *)&context->uc_sigmask | it.mask;
        if (!(it.flags & SA_NODEFER)) mask |= 1ull << (signal - 1);
        CALL(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof mask);
        it.handler(signal, info, context);
        // Not a tail call: the handler must not see our restorer as its caller, as `on_trap` does.
        __asm__ volatile("");
        return;
    }
    if (kind == (uint64_t)SIG_IGN && info->si_code <= 0) return;
    // The process dies of it, as it would have without us: the instruction is run again, or the signal sent again.
    it = (struct action){0};
    sigaction_of(&it, NULL);
    layers.ours = 0;
    greg_t *rip = &context->uc_mcontext.gregs[REG_RIP];
    if (info->si_code == SI_KERNEL && *(const uint8_t *)(*rip - 1) == 0xcc) {
        *rip -= 1;
        return;
    }
    CALL(SYS_rt_tgsigqueueinfo, CALL(SYS_getpid, 0, 0, 0, 0), cruntime_tid(), signal, info);
}

// Whether a signal comes from an instruction at `pc` rather than from a sender.
static int is_trap(const siginfo_t *info, uint64_t pc) {
    if (info->si_code == SI_KERNEL) return 1;
    // In a process with kernel uprobes, older kernels send it as if from the process (handle_swbp, kernel/events/uprobes.c).
    return info->si_code == SI_USER && info->si_pid == CALL(SYS_getpid, 0, 0, 0, 0) && *(const uint8_t *)pc == 0xcc;
}

static void on_trap(int signal, siginfo_t *info, void *user) {
    ucontext_t *context = user;
    greg_t *rip = &context->uc_mcontext.gregs[REG_RIP];
    // int3 leaves the pc behind itself.
    uint64_t pc = (uint64_t)*rip - 1;
    struct entry *entry = find(atomic_load(&the_table), pc);
    if (atomic_load(&entry->pc) == pc && is_trap(info, pc)) {
        uint64_t target = atomic_load(&entry->target);
        uint8_t byte = *(const uint8_t *)pc;
        if (byte != 0xcc) COUNT(late);
        if (target != 0) {
            COUNT(entries);
            *rip = (greg_t)target;
            return;
        }
        if (byte != 0xcc) {
            *rip = (greg_t)pc;
            return;
        }
    }
    // Who returns to our restorer was called by the kernel; any other caller is a handler that found us below itself.
    int by_kernel = __builtin_return_address(0) == (void *)&cpatch_restore;
    forward(signal, info, context, atomic_load(by_kernel ? &layers.last : &layers.first));
    __asm__ volatile("");
}

static int is_ours(const struct action *action) { return action->handler == on_trap; }

int32_t cpatch_trap_install(void) {
    struct action now;
    int64_t result = sigaction_of(NULL, &now);
    if (result != 0) return (int32_t)result;
    if (is_ours(&now)) return 0;
    for (;;) {
        // Known to the handler before it can run. The last place is used again and again.
        struct action *below = atomic_load(&layers.last);
        if (below == NULL || below->handler != now.handler || below->flags != now.flags || below->mask != now.mask) {
            below = &layers.below[layers.used < LAYERS ? layers.used++ : LAYERS - 1];
            *below = now;
        }
        if (atomic_load(&layers.first) == NULL || !layers.ours) atomic_store(&layers.first, below);
        atomic_store(&layers.last, below);
        uint64_t inherited = (uint64_t)now.handler <= (uint64_t)SIG_IGN
                                 ? SA_ONSTACK | SA_RESTART
                                 : now.flags & (SA_ONSTACK | SA_RESTART);
        struct action set = {on_trap, SA_SIGINFO | RESTORER | inherited, cpatch_restore, ~0ull};
        struct action old;
        result = sigaction_of(&set, &old);
        if (result != 0) return (int32_t)result;
        layers.ours = 1;
        if (is_ours(&old) || (old.handler == now.handler && old.flags == now.flags)) return 0;
        // The program installed another one in between.
        now = old;
    }
}

// ---- Other threads ----

static void append(char *path, uint32_t *length, const char *text) {
    while (*text != 0) path[(*length)++] = *text++;
    path[*length] = 0;
}

static uint32_t start_of_path(char *path, int32_t tid) {
    uint32_t length = 0;
    append(path, &length, "/proc/self/task/");
    char digits[12];
    uint32_t at = sizeof digits - 1;
    digits[at] = 0;
    for (digits[--at] = '/'; tid != 0; tid /= 10) digits[--at] = (char)('0' + tid % 10);
    append(path, &length, digits + at);
    return length;
}

// This thread's number as /proc has it, which may be mounted for another PID namespace than ours.
static int32_t own_number(void) {
    char path[64];
    int64_t length = CALL(SYS_readlink, "/proc/thread-self", path, sizeof path, 0);
    int32_t tid = 0;
    for (int64_t i = 0; i < length; i++) tid = path[i] >= '0' && path[i] <= '9' ? tid * 10 + path[i] - '0' : 0;
    return tid != 0 ? tid : (int32_t)cruntime_tid();
}

int32_t cpatch_each_thread(int32_t (*visit)(int32_t, char *, uint32_t, void *), void *data) {
    int64_t fd = CALL(SYS_open, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0);
    if (fd < 0) return (int32_t)fd;
    // struct linux_dirent64: ino, off, reclen, type, name.
    char entries[2048] __attribute__((aligned(8)));
    int64_t got;
    int32_t result = 0, own = own_number();
    while (result == 0 && (got = CALL(SYS_getdents64, fd, entries, sizeof entries, 0)) > 0)
        for (int64_t at = 0; at < got && result == 0; at += *(uint16_t *)(entries + at + 16)) {
            int32_t tid = 0;
            for (const char *c = entries + at + 19; *c >= '0' && *c <= '9'; c++) tid = tid * 10 + *c - '0';
            if (tid == 0 || tid == own) continue;
            char path[64];
            result = visit(tid, path, start_of_path(path, tid), data);
        }
    CALL(SYS_close, fd, 0, 0, 0);
    return result;
}

// The last four characters of a field's name as a number; no other field's name ends so (fs/proc/array.c).
#define NAME(a, b, c, d) ((uint32_t)a << 24 | (uint32_t)b << 16 | c << 8 | d)

int32_t cpatch_read_status(const char *path, struct cpatch_status *status) {
    // As the loader opens files: a filter that lets it do so lets us.
    int64_t fd = CALL(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return (int32_t)fd;
    *status = (struct cpatch_status){0};
    char buffer[512];
    uint64_t value = 0, first = 0;
    uint32_t name = 0;
    int in_value = 0;
    int64_t got;
    while ((got = CALL(SYS_read, fd, buffer, sizeof buffer, 0)) > 0)
        for (int64_t i = 0; i < got; i++) {
            char c = buffer[i];
            if (c == '\n') {
                switch (name) {
                    case NAME('g', 'P', 'n', 'd'): status->pending = value; break;
                    case NAME('c', 'o', 'm', 'p'): status->seccomp = value; break;
                    case NAME('t', 'a', 't', 'e'): status->state = first; break;
                }
                name = 0;
                value = first = 0;
                in_value = 0;
            } else if (!in_value) {
                if (c == ':')
                    in_value = 1;
                else
                    name = name << 8 | (uint8_t)c;
            } else if (c > ' ') {
                if (first == 0) first = (uint8_t)c;
                value = value << 4 | (uint64_t)(c >= 'a' ? c - 'a' + 10 : c - '0');
            }
        }
    CALL(SYS_close, fd, 0, 0, 0);
    return got < 0 ? (int32_t)got : 0;
}

static int32_t runs(int32_t tid, char *path, uint32_t length, void *data) {
    (void)tid, (void)data;
    struct cpatch_status status;
    append(path, &length, "status");
    int32_t failed = cpatch_read_status(path, &status);
    if (failed != 0) return failed != -ENOENT && failed != -ESRCH;
    return status.state != 't' && status.state != 'Z' && status.state != 'X';
}

int32_t cpatch_others_stand(void) { return cpatch_each_thread(runs, NULL) == 0; }

// Nanoseconds that a thread has run (Documentation/scheduler/sched-stats.rst), or 0.
static uint64_t run_time(const char *path) {
    char buffer[64];
    uint64_t value = 0;
    int64_t fd = CALL(SYS_open, path, O_RDONLY | O_CLOEXEC, 0, 0);
    if (fd < 0) return 0;
    int64_t got = CALL(SYS_read, fd, buffer, sizeof buffer, 0);
    for (int64_t i = 0; i < got && buffer[i] >= '0'; i++) value = value * 10 + (uint64_t)(buffer[i] - '0');
    CALL(SYS_close, fd, 0, 0, 0);
    return value;
}

// A thread that took a trap before it was gone is, until its handler is chosen, runnable: first in the exception's own
// code, then with the signal pending; or it is in a tracer's stop. Who sleeps is neither; who runs on has left the former.
struct unsettled {
    int32_t *tids;
    uint64_t *before;
    uint32_t count, capacity;
};

// Whether the thread of a path may still be on its way; its run time so far.
static int is_on_its_way(char *path, uint32_t length, uint64_t *ran) {
    struct cpatch_status status;
    uint32_t rest = length;
    append(path, &rest, "schedstat");
    *ran = run_time(path);
    append(path, &length, "status");
    if (cpatch_read_status(path, &status) != 0) return 0;
    return (status.pending & CPATCH_TRAP_SIGNALS) != 0 ? 2 : status.state == 'R' || status.state == 't';
}

static int32_t note(int32_t tid, char *path, uint32_t length, void *data) {
    struct unsettled *list = data;
    uint64_t ran;
    if (!is_on_its_way(path, length, &ran)) return 0;
    if (list->count == list->capacity) return 1;
    list->tids[list->count] = tid;
    list->before[list->count++] = ran;
    return 0;
}

void cpatch_pause(uint64_t nanoseconds) {
    struct {
        int64_t seconds, nanoseconds;
    } pause = {0, (int64_t)nanoseconds};
    CALL(SYS_nanosleep, &pause, 0, 0, 0);
}

static int32_t settle(uint64_t end) {
    uint64_t size = (uint64_t)cpatch_thread_count() * 16 + 4096;
    uint8_t *memory = cpatch_allocate(size, 0);
    if (memory == NULL) return -ENOMEM;
    struct unsettled list = {(int32_t *)(memory + size / 16 * 8), (uint64_t *)memory, 0, (uint32_t)(size / 16)};
    int32_t result = cpatch_each_thread(note, &list);
    while (result == 0 && list.count != 0) {
        cpatch_pause(1000000);
        uint32_t left = 0;
        for (uint32_t i = 0; i < list.count; i++) {
            char path[64];
            uint32_t length = start_of_path(path, list.tids[i]);
            uint64_t ran;
            int way = is_on_its_way(path, length, &ran);
            if (way == 0 || (way == 1 && ran > list.before[i])) continue;
            list.tids[left] = list.tids[i];
            list.before[left++] = list.before[i];
        }
        list.count = left;
        if (cruntime_monotonic_ns() >= end) result = -EAGAIN;
    }
    cpatch_release(memory, size);
    return result;
}

int32_t cpatch_release_traps(uint32_t milliseconds) {
    if (cpatch_trapping_sites() != 0) return -EBUSY;
    if (!layers.ours) return 0;
    if (settle(cruntime_monotonic_ns() + milliseconds * 1000000ull) != 0) return -EAGAIN;
    struct table *table = atomic_load(&the_table);
    for (uint64_t i = 0; i <= table->mask; i++) atomic_store(&table->entries[i].target, 0);
    struct action now;
    // Below a handler of the program's that may call us, things stay as they are.
    if (sigaction_of(NULL, &now) != 0 || !is_ours(&now)) return 0;
    struct action *below = atomic_load(&layers.last);
    // The program's set came with its restorer.
    if (sigaction_of(below, &now) != 0) return 0;
    // The program replaced ours just now: its own stays.
    if (!is_ours(&now)) sigaction_of(&now, NULL);
    layers.ours = 0;
    return 0;
}
#pragma clang attribute pop
