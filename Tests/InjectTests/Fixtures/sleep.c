// sleep KIND SECONDS: sleeps in one kind of system call again and again, and counts those that are interrupted.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t handled;
static void handle(int signal) { (void)signal; handled++; }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void *tick(void *pipe) {
    for (;;) {
        usleep(20000);
        if (write(*(int *)pipe, "x", 1) != 1) return NULL;
    }
}

int main(int count, char **arguments) {
    (void)count;
    const char *kind = arguments[1];
    double end = now() + atof(arguments[2]);
    long rounds = 0, interrupted = 0, early = 0;
    int epoll = epoll_create1(0), word = 0, pair[2], ends[2];
    int semaphore = semget(IPC_PRIVATE, 1, 0600);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    struct timeval timeout = {0, 20000};
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    if (!strcmp(kind, "read")) {
        pthread_t thread;
        if (pipe(ends) == 0) pthread_create(&thread, NULL, tick, &ends[1]);
    }
    struct sigaction action = {.sa_handler = handle};
    sigaction(SIGALRM, &action, NULL);
    puts("ready");
    fflush(stdout);
    while (now() < end) {
        struct timespec time = {0, 20000000};
        char byte;
        double start = now();
        int result = 0;
        if (!strcmp(kind, "nanosleep")) result = nanosleep(&time, NULL);
        if (!strcmp(kind, "poll")) result = poll(NULL, 0, 20);
        if (!strcmp(kind, "select")) { struct timeval t = {0, 20000}; result = select(0, NULL, NULL, NULL, &t); }
        if (!strcmp(kind, "futex")) result = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, NULL, 0);
        if (!strcmp(kind, "epoll_wait")) { struct epoll_event e; result = epoll_wait(epoll, &e, 1, 20); }
        if (!strcmp(kind, "epoll_pwait")) { struct epoll_event e; result = epoll_pwait(epoll, &e, 1, 20, &set); }
        if (!strcmp(kind, "sigtimedwait")) result = sigtimedwait(&set, NULL, &time);
        if (!strcmp(kind, "semtimedop")) { struct sembuf op = {0, -1, 0}; result = semtimedop(semaphore, &op, 1, &time); }
        if (!strcmp(kind, "recv")) result = recv(pair[0], &byte, 1, 0);
        if (!strcmp(kind, "read")) { result = read(ends[0], &byte, 1); start = 0; }
        if (!strcmp(kind, "alarm")) {
            // The other way round: with a handler the call must end, or this hangs.
            struct itimerval timer = {.it_value = {0, 20000}};
            struct epoll_event e;
            int before = handled;
            setitimer(ITIMER_REAL, &timer, NULL);
            result = epoll_wait(epoll, &e, 1, 5000);
            if (result != -1 || errno != EINTR) if (handled == before) early++;
            result = 0;
            if (now() - start > 2) early++;
        } else if (now() - start < 0.0199) early++;
        if (result == -1 && errno == EINTR) interrupted++;
        rounds++;
    }
    semctl(semaphore, 0, IPC_RMID);
    printf("interrupted %ld early %ld\n", interrupted, early);
    return rounds < 3;
}
