// hold KIND SECONDS: one thread that holds something of libc's most of the time.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long ticks;
static void tick(int signal) { (void)signal; ticks++; }
static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}
static void *spin(void *unused) { for (;;) ticks++; return unused; }
static void *wait_blocked(void *unused) {

    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    for (;;) ticks++;
    return unused;
}
// A function that a signal interrupts behind its first byte; the handler waits, on a stack of its own, for the second SIGUSR1.
void interrupted(void);
__asm__("interrupted:\n\tnop\n\tint3\n\tnop\n\tnop\n\tnop\n\tnop\n\tret\n");
static void wait_for_it(int signal) { (void)signal; while (!ticks) usleep(1000); }
static void interrupt(void) {
    static char stack[65536];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&other, NULL);
    struct sigaction waits = {.sa_handler = wait_for_it, .sa_flags = SA_ONSTACK}, ticks_on = {.sa_handler = tick};
    sigaction(SIGTRAP, &waits, NULL);
    sigaction(SIGUSR1, &ticks_on, NULL);
    printf("ready %p\n", (void *)interrupted);
    fflush(stdout);
    interrupted();
    sleep(30);
    sleep(30);
}
static void *moved(void) { printf("moved\n"); fflush(stdout); _exit(7); }
static void *end_main(void *unused) { (void)unused; sleep(4); printf("alone\n"); fflush(stdout); _exit(0); }

int main(int count, char **arguments) {
    const char *kind = arguments[1];
    double end = now() + (count > 2 ? atof(arguments[2]) : 3);
    pthread_t thread;
    if (!strcmp(kind, "signals")) {
        struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
        sigaction(SIGRTMIN, &action, NULL);
        sigaction(SIGTRAP, &action, NULL);
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
        timer_t timer;
        timer_create(CLOCK_MONOTONIC, &event, &timer);
        struct itimerspec period = {{0, 100000}, {0, 100000}};
        timer_settime(timer, 0, &period, NULL);
    }
    if (!strcmp(kind, "interrupted")) { interrupt(); return 0; }
    if (!strcmp(kind, "ignore")) signal(SIGTRAP, SIG_IGN);
    if (!strcmp(kind, "blocked")) pthread_create(&thread, NULL, wait_blocked, NULL);
    if (!strcmp(kind, "spin")) pthread_create(&thread, NULL, spin, NULL);
    if (!strcmp(kind, "undumpable")) prctl(PR_SET_DUMPABLE, 0);
    if (!strcmp(kind, "filtered")) {
        struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
        struct sock_fprog program = {1, all};
        struct sigaction action = {.sa_handler = tick};
        sigaction(SIGUSR1, &action, NULL);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    }
    printf("ready %p\n", (void *)moved);
    fflush(stdout);
    if (!strcmp(kind, "strict")) { prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); for (;;) ticks++; }
    if (!strcmp(kind, "vfork")) {
        if (vfork() == 0) { for (double start = now(); now() < start + 5;) {} _exit(0); }
        return 0;
    }
    if (!strcmp(kind, "filtered")) { poll(NULL, 0, -1); printf("handled %ld\n", ticks); return 0; }
    if (!strcmp(kind, "leave")) { pthread_create(&thread, NULL, end_main, NULL); pthread_exit(NULL); }
    if (!strcmp(kind, "exec")) {
        char left[32];
        snprintf(left, sizeof left, "%f", end - now());
        if (end - now() < 0) { printf("done\n"); return 0; }
        usleep(1000);
        execl("/proc/self/exe", "hold", "exec", left, NULL);
    }
    char *line = malloc(4000);
    memset(line, 'x', 3999);
    line[3999] = 0;
    double sum = 0;
    while (now() < end) {
        if (!strcmp(kind, "dlopen")) { void *library = dlopen("libm.so.6", RTLD_NOW); if (library) dlclose(library); }
        else if (!strcmp(kind, "stdio")) {
            flockfile(stdout);
            for (int i = 0; i < 5; i++) printf("%d %s\n", i, line);
            usleep(1000);
            funlockfile(stdout);
        } else if (!strcmp(kind, "malloc")) { free(malloc(100000)); free(malloc(100)); }
        else for (int i = 0; i < 1000; i++) sum += i * 0.5;
    }
    struct sigaction action;
    sigaction(SIGTRAP, NULL, &action);
    if (strcmp(kind, "stdio")) printf("trap %d\n", action.sa_handler == SIG_IGN ? 1 : action.sa_handler == tick ? 2 : 0);
    return sum < 0;
}
