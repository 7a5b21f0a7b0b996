// What the dynamic loader does to its list of modules, seen from its call of r_debug.r_brk, and the socket by which that is told.
//
// Everything but the sockets' taking over runs on a thread of the program that has the loader's lock: nothing here waits without
// an end, allocates, or asks libc.
#define _GNU_SOURCE
#include "clive.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

// Run at dlopen and dlclose, not by programs.
#pragma clang attribute push(__attribute__((minsize)), apply_to = function)

#define CALL(number, a, b, c, d) cruntime_syscall((number), (int64_t)(a), (int64_t)(b), (int64_t)(c), (int64_t)(d), 0, 0)

// ---- The loader's list ----

// struct r_debug_extended (<link.h> of glibc 2.35): one for each namespace of dlmopen. An older loader has the first only.
struct debug {
    int version;
    const struct link_map *map;
    uint64_t brk;
    int state;
    uint64_t base;
    const struct debug *next;
};
_Static_assert(offsetof(struct debug, state) == offsetof(struct r_debug, r_state), "as in <link.h>");

enum { NAMESPACES = 16 };  // DL_NNS

// The last module of each namespace when the loader was last at rest: a namespace's list only grows at its end. (That a change
// begins is said too late: the first library is in the list by then.) Written under the agent's lock.
static const struct link_map *tails[NAMESPACES];
// The count of losses that the tails are newer than; with another count since, nothing is known.
static uint64_t noted_at;
static _Atomic uint64_t losses = 1;
static _Atomic uint32_t removes;

int32_t cpatch_loader_removes(void) { return atomic_load(&removes) != 0; }

void cpatch_loader_lose(void) { atomic_fetch_add(&losses, 1); }

static const struct debug *first_debug(void) { return (const struct debug *)&_r_debug; }

static const struct debug *next_debug(const struct debug *debug) { return debug->version >= 2 ? debug->next : NULL; }

// Whether a module of this load bias, or any with `bias` ~0, is in the list; or in the part of it that is new.
static int has(uint64_t bias, int only_fresh) {
    uint32_t i = 0;
    for (const struct debug *debug = first_debug(); debug != NULL && i < NAMESPACES; debug = next_debug(debug), i++) {
        int counts = !only_fresh || tails[i] == NULL;
        for (const struct link_map *map = debug->map; map != NULL; map = map->l_next) {
            if (counts && (bias == ~0ull || map->l_addr == bias)) return 1;
            counts |= map == tails[i];
        }
    }
    return 0;
}

static int32_t note_tails(struct dl_phdr_info *info, size_t size, void *data) {
    (void)info, (void)size, (void)data;
    uint32_t i = 0;
    for (uint32_t j = 0; j < NAMESPACES; j++) tails[j] = NULL;
    for (const struct debug *debug = first_debug(); debug != NULL && i < NAMESPACES; debug = next_debug(debug), i++)
        for (const struct link_map *map = debug->map; map != NULL; map = map->l_next) tails[i] = map;
    return 1;
}

struct question {
    uint64_t bias;
    int answer;
};
static int32_t look(struct dl_phdr_info *info, size_t size, void *data) {
    (void)info, (void)size;
    struct question *question = data;
    question->answer = has(question->bias, 0);
    return 1;
}

int32_t cpatch_loader_lists(uint64_t bias) {
    struct question question = {bias, 0};
    dl_iterate_phdr(look, &question);
    return question.answer;
}

void cpatch_loader_begin(void) {
    struct cpatch_interlude interlude;
    cpatch_interlude_begin(&interlude);
    uint64_t now = atomic_load(&losses);
    // Holds the lock of the list, which this thread has no other way to.
    dl_iterate_phdr(note_tails, NULL);
    noted_at = now;
    cpatch_interlude_end(&interlude);
}

void cpatch_loader_end(void) {
    uint64_t now = atomic_load(&losses);
    note_tails(NULL, 0, NULL);
    noted_at = now;
}

int32_t cpatch_loader_has(uint64_t bias) { return has(bias, 0); }

int32_t cpatch_loader_is_known(void) { return noted_at == atomic_load(&losses); }

int32_t cpatch_loader_is_fresh(uint64_t bias) { return cpatch_loader_is_known() && has(bias, 1); }

int32_t cpatch_loader_is_at_rest(void) {
    int state = RT_CONSISTENT;
    for (const struct debug *debug = first_debug(); debug != NULL && state == RT_CONSISTENT; debug = next_debug(debug))
        state = debug->state;
    if (state != RT_DELETE) {
        if (state == RT_CONSISTENT) atomic_store(&removes, 0);
        return state == RT_CONSISTENT;
    }
    // Who changes code now finds it mapped until that is done, and nobody begins.
    atomic_store(&removes, 1);
    uint64_t deadline = cruntime_monotonic_ns() + 1000000000ull;
    struct timespec pause = {0, 50000};
    while (cpatch_is_locked() && cruntime_monotonic_ns() < deadline) CALL(SYS_nanosleep, &pause, 0, 0, 0);
    return 0;
}

// ---- Its socket ----

void cpatch_watch_open(struct cpatch_watch *watch, int32_t descriptor) {
    *watch = (struct cpatch_watch){.socket = -1};
    if (descriptor < 0) return;
    // The time before, without a watch, was not seen.
    cpatch_loader_lose();
    int64_t moved = -1;
    for (int64_t high = 1000; high >= 100 && moved < 0; high /= 2) moved = CALL(SYS_fcntl, descriptor, F_DUPFD_CLOEXEC, high, 0);
    struct stat status;
    if (moved < 0 || CALL(SYS_fstat, moved, &status, 0, 0) != 0) return;
    watch->device = status.st_dev;
    watch->inode = status.st_ino;
    // A controller that does not read must not stop the program.
    CALL(SYS_fcntl, moved, F_SETFL, O_NONBLOCK, 0);
    watch->socket = (int32_t)moved;
}

int32_t cpatch_watch_lives(const struct cpatch_watch *watch) {
    struct stat status;
    return watch->socket >= 0 && CALL(SYS_fstat, watch->socket, &status, 0, 0) == 0 && status.st_dev == watch->device
        && status.st_ino == watch->inode;
}

void cpatch_watch_close(struct cpatch_watch *watch) {
    if (cpatch_watch_lives(watch)) cpatch_close(watch->socket);
    watch->socket = -1;
}

int32_t cpatch_receive_until(int32_t socket, struct csession_message *message, int32_t *descriptors, uint64_t deadline) {
    for (uint32_t i = 0; i < CPATCH_DESCRIPTORS; i++) descriptors[i] = -1;
    for (;;) {
        uint64_t now = cruntime_monotonic_ns();
        uint64_t left = deadline > now ? (deadline - now + 999999) / 1000000 : 0;
        struct pollfd peer = {.fd = socket, .events = POLLIN};
        int64_t ready = CALL(SYS_poll, &peer, 1, left, 0);
        if (ready == -EINTR) continue;
        if (ready == 0) return -ETIMEDOUT;
        return ready < 0 ? (int32_t)ready : cpatch_receive(socket, message, descriptors);
    }
}

// ---- On a thread of the program ----

int32_t cpatch_is_filtered(void) {
    struct cpatch_status status;
    return cpatch_read_status("/proc/thread-self/status", &status) != 0 || status.seccomp != 0;
}

void cpatch_interlude_begin(struct cpatch_interlude *interlude) {
    const uint64_t faults = 1 << (SIGILL - 1) | 1 << (SIGTRAP - 1) | 1 << (SIGBUS - 1) | 1 << (SIGFPE - 1)
        | 1 << (SIGSEGV - 1) | 1u << (SIGSYS - 1);
    uint64_t others = ~faults;
    interlude->signals = 0;
    CALL(SYS_rt_sigprocmask, SIG_BLOCK, &others, &interlude->signals, sizeof others);
    interlude->hidden = (uint64_t)cpatch_is_hidden();
    cpatch_set_hidden(1);
}

void cpatch_interlude_end(const struct cpatch_interlude *interlude) {
    cpatch_set_hidden((uint32_t)interlude->hidden);
    CALL(SYS_rt_sigprocmask, SIG_SETMASK, &interlude->signals, 0, sizeof interlude->signals);
}
#pragma clang attribute pop
