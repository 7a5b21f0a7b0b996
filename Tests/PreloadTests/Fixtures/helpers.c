// Calls a function a thousand times, and says what became of it.
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t handled;
static volatile long runs;

static void on_signal(int signal) { handled += signal == SIGUSR1; }

__attribute__((noinline)) long answer(volatile long *word, long i) {
    runs++;
    return *word + i * 0;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    volatile long word = 7;
    long sum = 0;
    for (long i = 0; i < 1000; i++) sum += answer(&word, i);
    printf("sum=%ld word=%ld runs=%ld handled=%d\n", sum, word, runs, (int)handled);
    return 0;
}
