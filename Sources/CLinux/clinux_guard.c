#define _GNU_SOURCE
#include "clinux_guard.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cruntime.h"

enum { WORKS = 42, PAGE = 4096 };

static void fail(int signal) {
    (void)signal;
    _exit(1);
}

// Whether a read that begins at a readable word and goes on at `bad`, and one of `bad`, fail and leave zeros.
static int refuses(const uint8_t *bad) {
    uint8_t bytes[24];
    for (uint64_t before = 0; before <= 16; before += 8) {
        memset(bytes, 0x55, sizeof bytes);
        if (before != 0 && (uint64_t)bad % PAGE != 0) continue;
        if (cruntime_fetch(bytes, (uint64_t)bad - before, sizeof bytes) == 0) return 0;
        for (uint64_t i = 0; i < sizeof bytes; i++)
            if (bytes[i] != 0) return 0;
    }
    return 1;
}

static int works(void) {
    struct cruntime_guard guard;
    struct sigaction action = {.sa_handler = fail};
    for (int signal = 1; signal < 32; signal++) sigaction(signal, &action, NULL);
    sigset_t faults;
    sigemptyset(&faults);
    int forced[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
    for (uint64_t i = 0; i < sizeof forced / sizeof *forced; i++) sigaddset(&faults, forced[i]);
    sigprocmask(SIG_UNBLOCK, &faults, NULL);
    if (!cruntime_find_guard(&guard)) return 0;
    uint8_t *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int file = memfd_create("guard", MFD_CLOEXEC);
    if (pages == MAP_FAILED || file < 0 || ftruncate(file, PAGE) != 0) return 0;
    uint8_t *past = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
    if (past == MAP_FAILED || ftruncate(file, 0) != 0 || cruntime_set_guard(&guard, 1) != 0) return 0;
    for (uint64_t i = 0; i < 2 * PAGE; i++) pages[i] = (uint8_t)(i * 7 + 1);
    mprotect(pages + 2 * PAGE, PAGE, PROT_NONE);
    // Every size up to three words, up to and across the end of a page, and up to the end of what is there.
    for (uint64_t end = PAGE; end <= 2 * PAGE; end += PAGE)
        for (uint64_t size = 1; size <= 24; size++)
            for (uint64_t start = end - size - 8; start <= end - (end == PAGE ? 0 : size); start++) {
                uint8_t bytes[24];
                if (cruntime_fetch(bytes, (uint64_t)pages + start, size) != 0 || memcmp(bytes, pages + start, size) != 0) return 0;
            }
    if (!refuses(pages + 2 * PAGE) || !refuses(past) || !refuses((uint8_t *)8) || !refuses((uint8_t *)0x8000000000000000)
        || !refuses((uint8_t *)0xffffffff81000000) || !refuses((uint8_t *)-8ll))
        return 0;
    // What a handler of signals could not do.
    sigprocmask(SIG_BLOCK, &faults, NULL);
    return refuses(pages + 2 * PAGE) && cruntime_set_guard(&guard, 0) == 0 && memcmp((void *)guard.address, guard.original, guard.size) == 0;
}

int32_t clinux_guards_reads(void) {
    static _Atomic int32_t known;
    if (known != 0) return known > 0;
    struct cruntime_guard guard;
    if (!cruntime_find_guard(&guard)) {
        known = -1;
        return 0;
    }
    // No exit signal: nobody hears of the child.
    pid_t child = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        alarm(5);
        _exit(works() ? WORKS : 0);
    }
    int status = 0;
    while (child > 0 && waitpid(child, &status, __WALL) < 0 && errno == EINTR) {}
    known = child > 0 && status == WORKS << 8 ? 1 : -1;
    return known > 0;
}
