// How the library begins and ends: its constructor, the environment it cleans, the helper it may start.
#define _GNU_SOURCE
#include "cpatch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALL(number, a, b, c) cruntime_syscall((number), (int64_t)(a), (int64_t)(b), (int64_t)(c), 0, 0, 0)

/// In Agent: opens the session that the environment names.
extern void ubpf_agent_start(void);

static uint64_t length(const char *text) {
    uint64_t n = 0;
    while (text[n] != 0) n++;
    return n;
}

static int starts_with(const char *text, const char *prefix) {
    for (; *prefix != 0; text++, prefix++)
        if (*text != *prefix) return 0;
    return 1;
}

static const char *environment(const char *name) {
    if (environ == NULL) return NULL;
    uint64_t n = length(name);
    for (char **entry = environ; *entry != NULL; entry++)
        if (starts_with(*entry, name) && (*entry)[n] == '=') return *entry + n + 1;
    return NULL;
}

static int logs;

void cpatch_log(const uint8_t *text) {
    if (!logs) return;
    CALL(SYS_write, 2, "libubpf: ", 9);
    CALL(SYS_write, 2, text, length((const char *)text));
    CALL(SYS_write, 2, "\n", 1);
}

void cpatch_close(int32_t descriptor) { CALL(SYS_close, descriptor, 0, 0); }

__attribute__((constructor)) static void start(void) {
    // The usual case, a program that has nothing to do with us, costs this walk over its environment.
    if (environment(CSESSION_ENV_SOCKET) == NULL && environment("UBPF_PROG") == NULL
        && environment(CSESSION_ENV_FOLLOW) == NULL)
        return;
    if (getauxval(AT_SECURE) != 0) return;
    const char *where = environment("UBPF_LOG");
    logs = where != NULL && starts_with(where, "stderr") && where[6] == 0;
    ubpf_agent_start();
}

/// The descriptor that a variable names, if it is a session's socket.
static int32_t given_number(const char *text) {
    int32_t number = 0;
    if (*text == 0) return -1;
    for (; *text != 0; text++) {
        if (*text < '0' || *text > '9' || number > 1000000) return -1;
        number = number * 10 + (*text - '0');
    }
    // A variable that outlived its socket must not make us write into whatever has its number now.
    int type = 0;
    socklen_t size = sizeof type;
    int64_t failed = cruntime_syscall(
        SYS_getsockopt, number, SOL_SOCKET, SO_TYPE, (int64_t)&type, (int64_t)&size, 0);
    return failed == 0 && type == SOCK_SEQPACKET ? number : -1;
}

/// Whether programs that this one executes take part in the session too.
static int follows;

/// Reports to the controller of the program that executed this one; a socket or -1.
static int32_t report(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t n = length(name);
    // An abstract name (unix(7)): a zero byte first, no zero at the end.
    if (n == 0 || n >= sizeof address.sun_path) return -1;
    cruntime_copy(address.sun_path + 1, name, n);
    int64_t number = CALL(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (number < 0) return -1;
    if (CALL(SYS_connect, number, &address, offsetof(struct sockaddr_un, sun_path) + 1 + n) == 0) return (int32_t)number;
    CALL(SYS_close, number, 0, 0);
    return -1;
}

int32_t cpatch_given_socket(void) {
    const char *text = environment(CSESSION_ENV_SOCKET);
    const char *follow = environment(CSESSION_ENV_FOLLOW);
    if (follow != NULL) {
        // The first program of all has the number too; whoever it executes has a stale one.
        follows = 1;
        int32_t number = text == NULL ? -1 : given_number(text);
        if (number < 0) number = report(follow);
        if (number < 0) follows = 0;
        return number;
    }
    return text == NULL ? -1 : given_number(text);
}

const char *cpatch_given_programs(void) { return environment("UBPF_PROG"); }

// ---- The environment ----

/// Removes entries named libubpf.so from the list "a:b c"; whether anything is left.
static int drop_our_entries(char *list) {
    char *to = list;
    const char *from = list;
    while (*from != 0) {
        while (*from == ':' || *from == ' ') from++;
        const char *end = from;
        const char *base = from;
        for (; *end != 0 && *end != ':' && *end != ' '; end++)
            if (*end == '/') base = end + 1;
        if (end == from) break;
        int ours = end - base == 10 && starts_with(base, "libubpf.so");
        if (!ours) {
            if (to != list) *to++ = ':';
            while (from < end) *to++ = *from++;
        }
        from = end;
    }
    *to = 0;
    return to != list;
}

void cpatch_clean_environment(void) {
    if (environ == NULL) return;
    char **to = environ;
    uint64_t removed = 0;
    for (char **entry = environ; *entry != NULL; entry++) {
        int drop = starts_with(*entry, "UBPF_") && !(follows && starts_with(*entry, CSESSION_ENV_FOLLOW "="));
        if (!follows && starts_with(*entry, "LD_PRELOAD=")) drop = !drop_our_entries(*entry + 11);
        if (drop)
            removed++;
        else
            *to++ = *entry;
    }
    if (removed == 0) return;
    // On the initial stack the auxiliary vector follows the terminating null, and some programs find it by walking over
    // the environment. What is now between the two must read as part of it: pairs of AT_IGNORE where they fit, else an
    // AT_NULL that ends it.
    *to++ = NULL;
    for (uint64_t i = 0; i < removed; i += 2) {
        *to++ = (char *)(removed % 2 == 0 ? (uint64_t)AT_IGNORE : (uint64_t)AT_NULL);
        if (i + 1 < removed) *to++ = NULL;
    }
}

// ---- The helper ----

enum { ARGUMENTS = 64, TEXT = 4096 };

/// Splits on blanks into `arguments` from `count` on; the new count.
static uint32_t split(char *text, char **arguments, uint32_t count) {
    while (*text != 0) {
        while (*text == ' ' || *text == '\t') *text++ = 0;
        if (*text == 0 || count + 1 >= ARGUMENTS) break;
        arguments[count++] = text;
        while (*text != 0 && *text != ' ' && *text != '\t') text++;
    }
    return count;
}

static void run(const char *path, char **arguments) { CALL(SYS_execve, path, arguments, environ); }

/// Runs `directory[0, n)` + `tail`.
static void run_at(const char *directory, uint64_t n, const char *tail, char **arguments) {
    char path[TEXT];
    if (n + length(tail) + 1 > sizeof path) return;
    cruntime_copy(path, directory, n);
    cruntime_copy(path + n, tail, length(tail) + 1);
    run(path, arguments);
}

static void become_helper(const char *programs) {
    static char text[2 * TEXT];
    static char *arguments[ARGUMENTS] = {"ubpfrun", "--helper-socket", "3"};
    const char *more = environment("UBPF_ARGS");
    uint64_t n = length(programs), m = more != NULL ? length(more) : 0;
    if (n + m + 2 > sizeof text) return;
    cruntime_copy(text, programs, n);
    text[n] = ' ';
    if (more != NULL) cruntime_copy(text + n + 1, more, m);
    arguments[split(text, arguments, 3)] = NULL;
    const char *given = environment("UBPF_RUN");
    const char *search = environment("PATH");
    cpatch_clean_environment();
    if (given != NULL) {
        run(given, arguments);
        return;  // what was asked for by name is not replaced by something else
    }
    struct cruntime_module module;
    if (cruntime_find_module((uint64_t)&become_helper, &module) && module.path != NULL) {
        uint64_t directory = 0;
        for (uint64_t i = 0; module.path[i] != 0; i++)
            if (module.path[i] == '/') directory = i + 1;
        run_at(module.path, directory, "../bin/ubpfrun", arguments);
        run_at(module.path, directory, "ubpfrun", arguments);
    }
    while (search != NULL && *search != 0) {
        uint64_t end = 0;
        while (search[end] != 0 && search[end] != ':') end++;
        if (end > 0) run_at(search, end, "/ubpfrun", arguments);
        search += end + (search[end] == ':');
    }
}

/// fork without libc: no handlers run, and with no exit signal the program never hears of the child.
static int64_t quiet_fork(void) { return cruntime_syscall(SYS_clone, 0, 0, 0, 0, 0, 0); }

static void leave(int status) {
    for (;;) CALL(SYS_exit_group, status, 0, 0);
}

static int32_t start_helper(const char *programs) {
    int pair[2];
    int64_t failed = cruntime_syscall(
        SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (int64_t)pair, 0, 0);
    if (failed != 0) return (int32_t)failed;
    int64_t child = quiet_fork();
    if (child == 0) {
        // Twice, so that the helper is init's child and wait() in the program never meets it.
        if (quiet_fork() == 0) {
            if (pair[1] != 3) {
                CALL(SYS_dup2, pair[1], 3, 0);
            } else {
                CALL(SYS_fcntl, 3, F_SETFD, 0);
            }
            CALL(SYS_close_range, 4, ~0u, 0);
            become_helper(programs);
            leave(127);
        }
        leave(0);
    }
    CALL(SYS_close, pair[1], 0, 0);
    if (child > 0) {
        while (cruntime_syscall(SYS_wait4, child, 0, __WALL, 0, 0, 0) == -EINTR) {}
        // Out of the way of programs that expect the lowest numbers.
        for (int64_t high = 1000; high >= 100; high /= 2) {
            int64_t moved = CALL(SYS_fcntl, pair[0], F_DUPFD_CLOEXEC, high);
            if (moved < 0) continue;
            CALL(SYS_close, pair[0], 0, 0);
            return (int32_t)moved;
        }
        return pair[0];
    }
    CALL(SYS_close, pair[0], 0, 0);
    return (int32_t)child;
}

int32_t cpatch_start_helper(const char *programs) {
    // The helper becomes a child of the nearest reaper. The init of a PID namespace is its own: it would wait for the helper,
    // and the helper for it. A subreaper need not be one for the moment that this takes.
    if (CALL(SYS_getpid, 0, 0, 0) == 1) return -EBUSY;
    int reaps = 0;
    if (CALL(SYS_prctl, PR_GET_CHILD_SUBREAPER, &reaps, 0) == 0 && reaps) CALL(SYS_prctl, PR_SET_CHILD_SUBREAPER, 0, 0);
    int32_t socket = start_helper(programs);
    if (reaps) CALL(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0);
    return socket;
}

// ---- The end ----

static struct {
    int32_t socket;
    uint64_t device, inode;
} farewell = {-1, 0, 0};

void cpatch_notify_exit(int32_t socket) {
    struct stat status;
    if (CALL(SYS_fstat, socket, &status, 0) != 0) return;
    farewell.device = status.st_dev;
    farewell.inode = status.st_ino;
    farewell.socket = socket;
}

__attribute__((destructor)) static void end(void) {
    if (farewell.socket < 0) return;
    // A child that was forked without exec also comes here; and the program may have closed and reused the number.
    if ((uint64_t)cruntime_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0) != cpatch_the_process.pid) return;
    struct stat status;
    if (CALL(SYS_fstat, farewell.socket, &status, 0) != 0) return;
    if (status.st_dev != farewell.device || status.st_ino != farewell.inode) return;
    struct csession_message message = {.kind = CSESSION_EXITING, .site = ~0u, .pid = (uint32_t)cpatch_the_process.pid};
    if (cpatch_send(farewell.socket, &message) != 0) return;
    // The report is wanted before the program is gone; but no helper may keep a program from ending.
    struct pollfd peer = {.fd = farewell.socket, .events = POLLIN | POLLRDHUP};
    uint64_t deadline = cruntime_monotonic_ns() + 10000000000ull;
    for (;;) {
        uint64_t now = cruntime_monotonic_ns();
        if (now >= deadline) return;
        int64_t ready = CALL(SYS_poll, &peer, 1, (deadline - now) / 1000000);
        if (ready == -EINTR) continue;
        if (ready <= 0 || (peer.revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL)) != 0) return;
        struct csession_message ignored;
        int32_t none[CPATCH_DESCRIPTORS];
        if (cpatch_receive(farewell.socket, &ignored, none) != 0) return;
    }
}
