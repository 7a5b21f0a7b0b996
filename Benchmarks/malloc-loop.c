// SPDX-License-Identifier: Apache-2.0
// malloc-loop [PAIRS [BYTES]]: times malloc+free pairs and prints nanoseconds of processor time per pair, measured inside the
// thread, so that what a tracer does at start and end is not counted.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void *volatile sink;

__attribute__((noinline)) static void pair(size_t size)
{
    void *block = malloc(size);
    sink = block;
    free(block);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int main(int argc, char **argv)
{
    long pairs = argc > 1 ? atol(argv[1]) : 1000000;
    size_t size = argc > 2 ? (size_t)atol(argv[2]) : 64;
    for (long index = 0; index < pairs / 100; index++)
        pair(size);
    double start = now();
    for (long index = 0; index < pairs; index++)
        pair(size);
    double end = now();
    printf("%.2f\n", (end - start) / (double)pairs);
    return 0;
}
