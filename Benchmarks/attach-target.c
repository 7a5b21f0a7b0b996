// attach-target THREADS: so many threads allocate and free until it is killed; the first one waits.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *allocate(void *unused) {
    (void)unused;
    for (size_t size = 1;; size = size % 4000 + 1) {
        char *volatile block = malloc(size);
        if (block == NULL) abort();
        block[size - 1] = 1;
        free(block);
    }
    return NULL;
}

int main(int count, char **arguments) {
    for (int i = count > 1 ? atoi(arguments[1]) : 0; i > 0; i--) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, allocate, NULL) != 0) abort();
    }
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}
