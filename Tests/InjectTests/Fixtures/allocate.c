// allocate THREADS MAIN: threads that allocate and check what they wrote; MAIN is 1 when the first one does too. Ends at SIGTERM with the
// number of wrong bytes.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t over;
static volatile unsigned long wrong, rounds;
static void end(int signal) { (void)signal; over = 1; }

static void work(unsigned seed) {
    unsigned char *held[64] = {0};
    unsigned sizes[64] = {0};
    while (!over) {
        seed = seed * 1103515245 + 12345;
        unsigned slot = seed >> 8 & 63;
        if (held[slot]) {
            if (held[slot][0] != (unsigned char)slot || held[slot][sizes[slot] - 1] != (unsigned char)slot) wrong++;
            free(held[slot]);
        }
        sizes[slot] = 16 + (seed >> 14 & 0x3fff);
        held[slot] = malloc(sizes[slot]);
        held[slot][0] = held[slot][sizes[slot] - 1] = (unsigned char)slot;
        rounds++;
    }
}

static void *run(void *seed) { work((unsigned)(unsigned long)seed); return NULL; }

int main(int count, char **arguments) {
    (void)count;
    signal(SIGTERM, end);
    pthread_t threads[64];
    int number = atoi(arguments[1]);
    for (long i = 0; i < number; i++) pthread_create(&threads[i], NULL, run, (void *)(i + 1));
    puts("ready");
    fflush(stdout);
    if (arguments[2][0] == '1') work(99);
    while (!over) pause();
    for (int i = 0; i < number; i++) pthread_join(threads[i], NULL);
    printf("wrong %lu\n", wrong);
    return wrong != 0;
}
