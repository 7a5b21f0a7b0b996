// Patches functions while threads run them. `live-torture key=value...`; the last line says what happened.
//
//   toggles=N threads=N hz=N (SIGALRM)  bug=none|wide|blocked  handlers=none|before|after  seccomp=none|errno|kill
//   sites=HEX (bit per fixture)  blocked=N (of the threads, block all signals)  die=HOW
//
// With bug=wide all five bytes of jumps are written, with bug=blocked threads that block signals meet breakpoints.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "clive.h"

// What hits call; nothing here gets there.
void ubpf_agent_prepare(void) { abort(); }
void ubpf_agent_interpret(void) { abort(); }
void ubpf_agent_end(void) { abort(); }
void ubpf_agent_loader(void) { abort(); }
void ubpf_agent_start(void) {}

long in_word(long, long), over_word(long, long), over_line(long, long), over_page(long, long);
long one_instruction(long, long), breakpoint(long, long);
void own_int3(void), own_ud2(void), own_fault(void);

enum { SITES = 6, BREAKPOINT = 5 };
static struct fixture {
    long (*function)(long, long);
    const char *name;
    uint32_t window;
} fixtures[SITES] = {
    {in_word, "in_word", 7},     {over_word, "over_word", 7},           {over_line, "over_line", 7},
    {over_page, "over_page", 7}, {one_instruction, "one_instruction", 8}, {breakpoint, "breakpoint", 4},
};
static struct cpatch_change installs[SITES], removals[SITES];
static uint64_t counters[SITES];
static uint32_t site_count;
static volatile int stop, own_traps;
static uint64_t calls, expected_own, seen_own, alarms;
static struct sigaction below[32];
static int chains;

static uint64_t option(int argc, char **argv, const char *name, uint64_t otherwise) {
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, length) == 0 && argv[i][length] == '=') return strtoull(argv[i] + length + 1, NULL, 0);
    return otherwise;
}
static const char *text(int argc, char **argv, const char *name) {
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, length) == 0 && argv[i][length] == '=') return argv[i] + length + 1;
    return "none";
}
static void fail(const char *what, long code) {
    char line[200];
    int length = snprintf(line, sizeof line, "FAILED %s %ld\n", what, code);
    (void)!write(1, line, (size_t)length);
    _exit(3);
}

// ---- Thunks ----

static uint8_t *place(uint8_t *at, const void *bytes, size_t size) {
    memcpy(at, bytes, size);
    return at + size;
}
static uint8_t *jump(uint8_t *at, uint64_t target) {
    int32_t displacement = (int32_t)(target - (uint64_t)at - 5);
    *at++ = 0xe9;
    return place(at, &displacement, 4);
}

static int index_of(const struct fixture *fixture) { return (int)(fixture - fixtures); }

// A jump where the function's own bytes behind the first lead.
static uint64_t make_island(const struct fixture *fixture, uint64_t thunk) {
    int32_t displacement;
    memcpy(&displacement, (const uint8_t *)fixture->function + 1, 4);
    uint64_t island = (uint64_t)fixture->function + 5 + (uint64_t)(int64_t)displacement;
    uint8_t bytes[14] = {0xff, 0x25};
    memcpy(bytes + 6, &thunk, 8);
    // Functions with the same bytes may share a page.
    for (uint64_t page = island & ~4095ull; page < island + sizeof bytes; page += 4096)
        mmap((void *)page, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (cruntime_write_live(island, bytes, sizeof bytes) != 0) fail("no island", (long)island);
    return island;
}

static void prepare(uint32_t index, const struct fixture *fixture, const char *bug) {
    struct cpatch_change *change = &installs[index];
    uint64_t address = (uint64_t)fixture->function;
    uint64_t gap = cpatch_find_gap(address, 4096);
    uint8_t *page = cpatch_allocate(4096, gap);
    if (page == NULL) fail("no memory near", 0);
    memset(page, 0xcc, 4096);
    // thunk: lock incq (counter), as an entry's flags are dead; then the copy of the window.
    uint64_t counter = (uint64_t)&counters[index];
    uint8_t *at = place(page, "\x49\xbb", 2);  // movabs $counter, %r11
    at = place(at, &counter, 8);
    at = place(at, "\xf0\x49\xff\x03", 4);  // lock incq (%r11)
    uint8_t *copy = at;
    at = place(at, fixture->function, fixture->window);
    jump(at, address + fixture->window);
    cpatch_protect(page, 4096, 1);
    int traps = index_of(fixture) == BREAKPOINT, wide = strcmp(bug, "wide") == 0;
    *change = (struct cpatch_change){.address = address, .entry = traps ? (uint64_t)page : 0, .size = traps || !wide ? 1 : 5};
    memcpy(change->from, (void *)address, 8);
    memcpy(change->to, (void *)address, 8);
    if (traps) {
        change->to[0] = 0xcc;
    } else if (wide) {
        jump(change->to, 0);
        int32_t displacement = (int32_t)((uint64_t)page - address - 5);
        memcpy(change->to + 1, &displacement, 4);
    } else {
        make_island(fixture, (uint64_t)page);
        change->to[0] = 0xe9;
    }
    removals[index] = *change;
    memcpy(removals[index].from, change->to, 8);
    memcpy(removals[index].to, change->from, 8);
    removals[index].entry = traps ? (uint64_t)copy : 0;
}

// ---- The program ----

static void on_own(int signal, siginfo_t *info, void *user) {
    ucontext_t *context = user;
    greg_t *rip = &context->uc_mcontext.gregs[REG_RIP];
    if (signal == SIGTRAP && *rip == (greg_t)own_int3 + 1) {
        *rip += 1;
    } else if (signal == SIGILL && *rip == (greg_t)own_ud2) {
        *rip += 2;
    } else if (signal == SIGSEGV && *rip == (greg_t)own_fault + 2) {
        *rip += 2;
    } else if (chains && below[signal].sa_sigaction != NULL) {
        below[signal].sa_sigaction(signal, info, user);
        return;
    } else {
        fail("a signal that is not the program's", signal);
    }
    __atomic_fetch_add(&seen_own, 1, __ATOMIC_RELAXED);
}

static void install_own(void) {
    struct sigaction own = {.sa_sigaction = on_own, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    for (int i = 0; i < 3; i++) {
        int signal = (int[]){SIGTRAP, SIGILL, SIGSEGV}[i];
        struct sigaction old;
        sigaction(signal, &own, &old);
        if (old.sa_sigaction != on_own) below[signal] = old;
    }
}

static void on_alarm(int signal) {
    (void)signal;
    // A thread that is interrupted inside a window stays there for a while.
    if ((__atomic_fetch_add(&alarms, 1, __ATOMIC_RELAXED) & 3) == 0) {
        struct timespec pause = {0, 200000};
        nanosleep(&pause, NULL);
    } else {
        sched_yield();
    }
}

static void *hammer(void *data) {
    uint64_t number = (uint64_t)data, state = number * 0x9e3779b97f4a7c15ull + 1, mine = 0;
    while (!stop) {
        for (int round = 0; round < 64; round++)
            for (uint32_t i = 0; i < SITES; i++) {
                state = state * 6364136223846793005ull + 1442695040888963407ull;
                long a = (long)(state >> 40), b = (long)(state & 0xffff);
                if (fixtures[i].function(a, b) != ((a + 2 * b) ^ a)) fail(fixtures[i].name, a);
                mine++;
            }
        if (own_traps) {
            own_int3(), own_ud2(), own_fault();
            __atomic_fetch_add(&expected_own, 3, __ATOMIC_RELAXED);
        }
    }
    __atomic_fetch_add(&calls, mine, __ATOMIC_RELAXED);
    return NULL;
}

static void *hammer_blocked(void *data) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    return hammer(data);
}

static void forbid_membarrier(int kill) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, kill ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        fail("seccomp", errno);
}

static void die(const char *how) {
    uint32_t failed;
    if (strncmp(how, "ignored-", 8) == 0) signal(SIGTRAP, SIG_IGN), signal(SIGILL, SIG_IGN);
    int32_t result = cpatch_change_code(installs, site_count, 0, &failed);
    if (result != 0) fail("install", result);
    if (strcmp(how, "int3") == 0 || strcmp(how, "ignored-int3") == 0) own_int3();
    if (strcmp(how, "ud2") == 0 || strcmp(how, "ignored-ud2") == 0) own_ud2();
    if (strcmp(how, "fault") == 0) own_fault();
    if (strcmp(how, "kill-trap") == 0 || strcmp(how, "ignored-kill") == 0) kill(getpid(), SIGTRAP);
    if (strcmp(how, "kill-ill") == 0 || strcmp(how, "ignored-kill") == 0) kill(getpid(), SIGILL);
    puts("SURVIVED");
    exit(0);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    uint64_t toggles = option(argc, argv, "toggles", 1000), threads = option(argc, argv, "threads", 4);
    uint64_t blocked = option(argc, argv, "blocked", 0), hz = option(argc, argv, "hz", 0);
    uint64_t sites = option(argc, argv, "sites", (1 << SITES) - 1);
    const char *bug = text(argc, argv, "bug"), *handlers = text(argc, argv, "handlers");
    const char *seccomp = text(argc, argv, "seccomp"), *how = text(argc, argv, "die");
    // Whoever started this may have blocked signals, and a Swift toolchain's backtraces may have handlers here.
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGTRAP, SIG_DFL), signal(SIGILL, SIG_DFL), signal(SIGSEGV, SIG_DFL);
    setvbuf(stdout, NULL, _IONBF, 0);
    for (uint32_t i = 0; i < SITES; i++)
        if (sites >> i & 1) prepare(site_count++, &fixtures[i], bug);
    if (strcmp(how, "none") != 0) die(how);
    if (strcmp(handlers, "before") == 0) install_own(), own_traps = 1;
    if (strcmp(handlers, "after") == 0) chains = 1, install_own(), own_traps = 1;
    if (strcmp(seccomp, "none") != 0) forbid_membarrier(strcmp(seccomp, "kill") == 0);
    pthread_t ids[256];
    uint64_t started = 0;
    for (uint64_t i = 0; i < threads; i++)
        pthread_create(&ids[started++], NULL, i < blocked ? hammer_blocked : hammer, (void *)i);
    if (hz != 0) {
        struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
        sigaction(SIGALRM, &action, NULL);
        struct itimerval timer = {{0, 1000000 / (long)hz}, {0, 1000000 / (long)hz}};
        setitimer(ITIMER_REAL, &timer, NULL);
    }
    usleep(20000);
    double *times = calloc(toggles, sizeof *times);
    uint64_t released = 0;
    for (uint64_t i = 0; i < toggles; i++) {
        uint32_t failed = ~0u;
        int32_t result = 0;
        double start = now();
        if (strcmp(bug, "wide") == 0) {
            for (uint32_t s = 0; s < site_count; s++)
                cpatch_write_code(installs[s].address, installs[s].to, installs[s].size);
            for (uint32_t s = 0; s < site_count; s++)
                cpatch_write_code(installs[s].address, removals[s].to, installs[s].size);
        } else {
            result = cpatch_change_code(installs, site_count, 0, &failed);
            if (result != 0) fail("install", result);
            if (chains) install_own();
            result = cpatch_change_code(removals, site_count, 0, &failed);
            if (result != 0) fail("remove", result);
        }
        times[i] = now() - start;
        // The main thread uses one of two processors otherwise.
        if ((i & 15) == 0) usleep(500);
        if ((i & 63) == 0) released += cpatch_release_traps(200) == 0;
    }
    stop = 1;
    for (uint64_t i = 0; i < started; i++) pthread_join(ids[i], NULL);
    int32_t last = cpatch_release_traps(1000);
    struct sigaction left[2];
    sigaction(SIGTRAP, NULL, &left[0]), sigaction(SIGILL, NULL, &left[1]);
    int clean = left[0].sa_sigaction == (own_traps ? on_own : NULL) && left[1].sa_sigaction == (own_traps ? on_own : NULL);
    for (uint32_t s = 0; s < site_count; s++)
        if (memcmp((void *)installs[s].address, installs[s].from, 8) != 0) fail("bytes left", s);
    uint64_t hits = 0;
    for (uint32_t s = 0; s < site_count; s++) hits += counters[s];
    qsort(times, toggles, sizeof *times, compare);
    const struct cpatch_trap_counts *counts = cpatch_trap_counts();
    if (seen_own != expected_own) fail("own traps", (long)(expected_own - seen_own));
    printf(
        "OK toggles=%lu sites=%u calls=%lu hits=%lu entries=%lu late=%lu forwarded=%lu own=%lu waits=%lu "
        "alarms=%lu released=%lu last=%d clean=%d us_median=%.1f us_p99=%.1f\n",
        toggles, site_count, calls, hits, counts->entries, counts->late, counts->forwarded, seen_own,
        counts->waits, alarms, released, last, clean, times[toggles / 2] * 1e6, times[toggles * 99 / 100] * 1e6);
    return 0;
}
