// Programs that are hard on whoever patches them. Each case prints what it computed, and how often `victim` was called
// ("calls") and returned ("returns"): without probes and with them the output must be the same.
#include <alloca.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <complex.h>
#include <stdexcept>
#include <thread>
#include <vector>

#pragma GCC diagnostic ignored "-Wpsabi"
#define PROBED extern "C" __attribute__((noinline, noipa, visibility("default")))

static std::atomic<long> calls, returns;
static void (*inside)(long);

PROBED long victim(long n) {
    calls++;
    if (inside) inside(n);
    asm volatile("" ::: "memory");
    returns++;
    return n + 1;
}
PROBED long deep(long n) {
    long below = n == 0 ? victim(0) - 1 : deep(n - 1);
    asm volatile("" : "+r"(below));  // really recursive
    return below + 1;
}

PROBED long many(int a, long b, short c, char d, int e, int f, int g, long h, int i, double x, float y, ...) {
    va_list list;
    va_start(list, y);
    long sum = a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8 + i * 9 + (long)x + (long)y;
    for (int k = 0; k < 4; k++) sum += va_arg(list, long) + (long)va_arg(list, double);
    va_end(list);
    return sum;
}
struct big { long v[9]; };
PROBED big structure(long n) { big b; for (int i = 0; i < 9; i++) b.v[i] = n * i; return b; }
struct mixed { long a; double b; };
PROBED mixed pair(long n) { return {n, n * 0.5}; }
PROBED long double extended(long double x, double y) { return x * y + 1; }
PROBED _Complex double complicated(_Complex double z) { return z * z; }
PROBED __int128 wide(__int128 x) { return x * 3; }
typedef double v4 __attribute__((vector_size(32)));
PROBED __attribute__((target("avx"))) v4 vectors(v4 a, v4 b) { return a + b; }
PROBED long tail2(long n) { calls++; returns++; return n * 2; }
PROBED long tail1(long n) { return tail2(n + 1); }

static jmp_buf jump;
static sigjmp_buf signal_jump;

static void say(const char *what) { printf("%s calls=%ld returns=%ld\n", what, calls.load(), returns.load()); }

static void case_values() {
    long sum = 0;
    for (int k = 0; k < 1000; k++)
        sum += many(k, 2, 3, 4, 5, 6, 7, 8, 9, 1.5, 2.5f, 1L, 1.0, 2L, 2.0, 3L, 3.0, 4L, 4.0) + structure(k).v[8]
            + pair(k).a + (long)pair(k).b + (long)extended(k, 2.0) + (long)__real__ complicated(k + 1.0j)
            + (long)wide((__int128)k << 70 >> 66) + tail1(k);
    printf("%ld\n", sum);
    say("values");
}
__attribute__((target("avx"))) static void case_vectors() {
    if (!__builtin_cpu_supports("avx")) { puts("vectors no-avx"); return; }
    v4 sum = {0, 0, 0, 0};
    for (int k = 0; k < 1000; k++) sum = vectors(sum, (v4){1.0 * k, 2.0 * k, 3.0 * k, 4.0 * k});
    printf("vectors %g %g %g %g\n", sum[0], sum[1], sum[2], sum[3]);
}
static void case_throw() {
    int caught = 0;
    inside = [](long) { throw std::runtime_error("x"); };
    for (int i = 0; i < 1000; i++) try { victim(i); } catch (std::exception &) { caught++; }
    printf("caught %d\n", caught);
    inside = nullptr;
    victim(1);
    say("throw");
}
static void case_nested() {
    int caught = 0;
    inside = [](long) { throw 7; };
    for (int i = 0; i < 100; i++) try { deep(20); } catch (int) { caught++; }
    printf("caught %d\n", caught);
    say("nested");
}
static void case_longjmp() {
    volatile int jumped = 0;
    inside = [](long) { longjmp(jump, 1); };
    for (volatile int i = 0; i < 1000; i = i + 1)
        if (setjmp(jump) == 0) victim(i); else jumped = jumped + 1;
    inside = nullptr;
    long sum = 0;
    for (int i = 0; i < 50000; i++) sum += victim(i);
    printf("jumped %d %ld\n", jumped, sum);
    say("longjmp");
}
static void case_exit_thread() {
    inside = [](long) { pthread_exit((void *)7); };
    long sum = 0;
    static std::atomic<int> cleaned;
    for (int i = 0; i < 200; i++) {
        pthread_t t;
        void *result;
        pthread_create(&t, nullptr, [](void *) -> void * {
            struct guard { ~guard() { cleaned++; } } g;
            deep(3);
            return nullptr;
        }, nullptr);
        pthread_join(t, &result);
        sum += (long)result;
    }
    printf("exited %ld cleaned %d\n", sum, cleaned.load());
    say("exit_thread");
}
static void case_recursion() {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 20);
    pthread_t t;
    void *result;
    for (int round = 0; round < 3; round++) {
        pthread_create(&t, &attributes, [](void *) -> void * { return (void *)deep(100000); }, nullptr);
        pthread_join(t, &result);
        printf("recursion %ld\n", (long)result);
    }
    say("recursion");
}
static void case_backtrace() {
    inside = [](long) {
        void *frames[64];
        int n = backtrace(frames, 64);
        char **names = backtrace_symbols(frames, n);
        int deeps = 0, mains = 0;
        for (int i = 0; i < n; i++) deeps += strstr(names[i], "(deep") != nullptr, mains += strstr(names[i], "(main") != nullptr;
        printf("backtrace deep %d main %d\n", deeps, mains);
        free(names);
    };
    deep(5);
    say("backtrace");
}
static void tick(int) { if (!inside) victim(5); }
static void every_ms(int which, int signal, void (*handler)(int), int flags) {
    struct sigaction action = {};
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigaction(signal, &action, nullptr);
    itimerval timer = {{0, handler ? 1000 : 0}, {0, handler ? 1000 : 0}};
    setitimer(which, &timer, nullptr);
}
static void case_signal(bool alternate) {
    if (alternate) {
        stack_t stack = {};
        stack.ss_sp = malloc(65536);
        stack.ss_size = 65536;
        sigaltstack(&stack, nullptr);
    }
    every_ms(ITIMER_REAL, SIGALRM, tick, SA_RESTART | (alternate ? SA_ONSTACK : 0));
    time_t end = time(nullptr) + 2;
    long sum = 0, wrong = 0;
    while (time(nullptr) < end) for (int i = 0; i < 1000; i++) wrong += victim(i) != i + 1, sum++;
    itimerval off = {};
    setitimer(ITIMER_REAL, &off, nullptr);
    printf("signal wrong %ld\n", wrong);
    fprintf(stderr, "COUNT %ld\n", calls.load());
}
static void case_siglongjmp() {
    struct sigaction action = {};
    action.sa_handler = [](int) { siglongjmp(signal_jump, 1); };
    sigaction(SIGALRM, &action, nullptr);
    volatile int jumps = 0;
    while (jumps < 500) {
        if (sigsetjmp(signal_jump, 1) == 0) {
            ualarm(1000, 0);
            for (;;) victim(1);
        } else jumps = jumps + 1;
    }
    long before = calls;
    for (int i = 0; i < 1000; i++) victim(i);
    printf("siglongjmp %d %ld\n", jumps, calls - before);
    fprintf(stderr, "COUNT %ld\n", calls.load());
}
static void case_backtrace_signal() {
    every_ms(ITIMER_PROF, SIGPROF, [](int) { void *f[64]; backtrace(f, 64); }, SA_RESTART);
    void *f[4];
    backtrace(f, 4);
    time_t end = time(nullptr) + 3;
    long wrong = 0;
    while (time(nullptr) < end) for (int i = 0; i < 1000; i++) wrong += deep(3) != 4;
    printf("profiled wrong %ld\n", wrong);
    fprintf(stderr, "COUNT %ld\n", calls.load());
}
static void case_fork() {
    fflush(stdout);
    long sum = 0;
    for (int k = 0; k < 20; k++) {
        inside = [](long n) {
            if (n != -1) return;
            pid_t child = fork();
            if (child != 0) waitpid(child, nullptr, 0);
            else { inside = nullptr; calls = 0; }
        };
        long before = calls;
        victim(-1);
        if (calls <= before) {
            for (int i = 0; i < 1000; i++) victim(i);
            _exit(3);
        }
        inside = nullptr;
        pid_t child = fork();
        if (child == 0) {
            for (int i = 0; i < 1000; i++) victim(i);
            exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        sum += WEXITSTATUS(status);
        victim(k);
    }
    printf("fork %ld\n", sum);
    say("fork");
}
static void case_spawn() {
    fflush(stdout);
    long sum = 0;
    for (int k = 0; k < 20; k++) {
        pid_t child = vfork();
        if (child == 0) { victim(1); execl("/bin/true", "true", nullptr); _exit(9); }
        int status;
        waitpid(child, &status, 0);
        sum += status;
        char *arguments[] = {(char *)"true", nullptr};
        posix_spawn(&child, "/bin/true", nullptr, nullptr, arguments, environ);
        waitpid(child, &status, 0);
        sum += status + system("exit 3");
        victim(k);
    }
    printf("spawn %ld\n", sum);
    system("env | grep -c -E 'UBPF|LD_PRELOAD'");
    say("spawn");
}
static void case_threads() {
    std::vector<std::thread> threads;
    // More than there are shards of the statistics.
    for (int t = 0; t < 40; t++)
        threads.emplace_back([] {
            for (int i = 0; i < 40000; i++) {
                void *p = malloc(16 + i % 100);
                asm volatile("" ::"r"(p) : "memory");
                free(p);
                victim(i);
            }
        });
    for (auto &t : threads) t.join();
    say("threads");
}
static void case_short() {
    long sum = 0;
    for (int i = 0; i < 10000; i += 4) {
        std::thread t[4];
        for (auto &x : t) x = std::thread([] { victim(1); });
        for (auto &x : t) x.join();
        sum += 4;
    }
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    long lines = 0;
    while (fgets(line, sizeof line, maps)) lines++;
    fclose(maps);
    printf("short %ld %s\n", sum, lines < 300 ? "bounded" : "grew");
    say("short");
}
static ucontext_t contexts[2];
static void fiber() { for (long i = 0;; i++) { deep(3); swapcontext(&contexts[1], &contexts[0]); } }
static void case_fibers() {
    for (int round = 0; round < 50; round++) {
        void *stack = malloc(65536);
        getcontext(&contexts[1]);
        contexts[1].uc_stack.ss_sp = stack;
        contexts[1].uc_stack.ss_size = 65536;
        contexts[1].uc_link = nullptr;
        makecontext(&contexts[1], fiber, 0);
        inside = [](long) { if (calls % 3 == 0) swapcontext(&contexts[1], &contexts[0]); };
        for (int i = 0; i < 100; i++) swapcontext(&contexts[0], &contexts[1]);
        free(stack);
    }
    inside = nullptr;
    say("fibers");
}
static void case_errno() {
    long wrong = 0;
    for (int i = 0; i < 10000; i++) { errno = i; victim(i); wrong += errno != i; }
    printf("errno wrong %ld\n", wrong);
    say("errno");
}
static void case_bench() {
    for (int r = 0; r < 5; r++) {
        timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int i = 0; i < 5000000; i++) tail2(i);
        clock_gettime(CLOCK_MONOTONIC, &b);
        fprintf(stderr, "NS %.2f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / 5e6);
    }
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    struct { const char *name; void (*run)(); } cases[] = {
        {"values", case_values}, {"vectors", case_vectors}, {"throw", case_throw}, {"nested", case_nested},
        {"longjmp", case_longjmp}, {"exit_thread", case_exit_thread}, {"recursion", case_recursion},
        {"backtrace", case_backtrace}, {"signal", [] { case_signal(false); }},
        {"signal_alternate", [] { case_signal(true); }}, {"siglongjmp", case_siglongjmp},
        {"backtrace_signal", case_backtrace_signal}, {"fork", case_fork}, {"spawn", case_spawn},
        {"threads", case_threads}, {"short", case_short}, {"fibers", case_fibers}, {"errno", case_errno},
        {"bench", case_bench},
    };
    for (auto &c : cases)
        if (strcmp(c.name, name) == 0) { c.run(); fflush(stdout); return 0; }
    fprintf(stderr, "no case %s\n", name);
    return 64;
}
