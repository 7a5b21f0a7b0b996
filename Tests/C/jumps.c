// Leaves hits by siglongjmp, from 50 frames deep to shallow ones, and allocates 2,000 blocks in keep() in between: all must be counted.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>

static sigjmp_buf back;
static volatile int armed;

static void on_alarm(int number) {
    (void)number;
    if (!armed) return;
    armed = 0;
    siglongjmp(back, 1);
}

__attribute__((noinline)) static void spin(void) {
    // Does nothing, in a probed function.
    while (armed >= 0) munmap(NULL, 0);
}

__attribute__((noinline)) static void deep(int n) {
    volatile char frame[64] = {n};
    if (n > 0)
        deep(n - 1);
    else
        spin();
    frame[1] = frame[0];
}

__attribute__((noinline)) void keep(void) {
    for (int i = 0; i < 10; i++)
        if (malloc(1000) == NULL) abort();
}

int main(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    for (int i = 0; i < 200; i++) {
        if (sigsetjmp(back, 1) == 0) {
            armed = 1;
            struct itimerval timer = {{0, 0}, {0, 1000 + i}};
            setitimer(ITIMER_REAL, &timer, NULL);
            deep(50);
        }
        keep();
    }
    return 0;
}
