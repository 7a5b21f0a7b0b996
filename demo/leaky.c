// SPDX-License-Identifier: Apache-2.0
// A program that leaks a known number of bytes at a known place: every tenth allocation, in cache_add.
//
//     leaky [-t THREADS] [-n ALLOCATIONS] [-s SIZE]
//
// ALLOCATIONS is the total over all threads; the default is 2,000 of 4,096 bytes, of which 200 are leaked. Nothing here uses stdio:
// its buffers would be allocations of their own.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { leak_every = 10, max_threads = 256 };

// Stores that the compiler cannot see through, so that no allocation is optimized away.
static void *volatile kept;
static void *volatile scratch;

static size_t block_size = 4096;

__attribute__((noinline)) static int cache_add(size_t size)
{
    kept = malloc(size);
    return kept != NULL;
}

__attribute__((noinline)) static int compute(size_t size)
{
    void *block = malloc(size);
    scratch = block;
    free(block);
    return block != NULL;
}

__attribute__((noinline)) static int handle_request(long number)
{
    int done = number % leak_every == 0 ? cache_add(block_size) : compute(block_size);
    return done + 1;
}

static void *worker(void *argument)
{
    long requests = (long)argument;
    long sum = 0;
    for (long number = 0; number < requests; number++)
        sum += handle_request(number);
    return (void *)sum;
}

static long positive(const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*end != '\0' || value <= 0)
        _exit(64);
    return value;
}

int main(int argc, char **argv)
{
    long threads = 1;
    long allocations = 2000;
    for (int option; (option = getopt(argc, argv, "t:n:s:")) != -1;) {
        switch (option) {
        case 't':
            threads = positive(optarg);
            break;
        case 'n':
            allocations = positive(optarg);
            break;
        case 's':
            block_size = (size_t)positive(optarg);
            break;
        default:
            return 64;
        }
    }
    if (threads > max_threads || allocations % threads != 0)
        return 64;

    if (threads == 1) {
        for (long number = 0; number < allocations; number++)
            handle_request(number);
    } else {
        pthread_t started[max_threads];
        for (long index = 0; index < threads; index++) {
            if (pthread_create(&started[index], NULL, worker, (void *)(allocations / threads)) != 0)
                return 70;
        }
        for (long index = 0; index < threads; index++)
            pthread_join(started[index], NULL);
    }
    static const char message[] = "done\n";
    return write(STDOUT_FILENO, message, sizeof(message) - 1) == (ssize_t)sizeof(message) - 1 ? 0 : 74;
}
