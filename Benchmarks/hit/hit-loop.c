// SPDX-License-Identifier: Apache-2.0
// hit-loop [ROUNDS [CALLS [THREADS]]]: what probes cost, measured inside the process. Each function exists twice, and probes go on
// the ones named probed_*: a round times both, one after the other, so that the difference is the probe's alone.
//
//   probed_flat                one function
//   probed_0 ... probed_11     a chain of calls, twelve deep
//   unused                     for programs that a run is not about
//
// Prints one line: the median over the rounds of nanoseconds per probed call over the plain one, for the flat function and for one
// level of the chain, and of the plain calls themselves. With more than one thread, all of them call the flat function.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

// The first instructions are as compilers write them (1, 3, 4 bytes); a body that the processor can overlap with little.
#define FUNCTION(name, call)                                                                            \
    __asm__(".text\n.balign 64\n.globl " name "\n.type " name ", @function\n" name                      \
            ":\n.cfi_startproc\npush %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset rbp, -16\n"              \
            "mov %rsp, %rbp\n.cfi_def_cfa_register rbp\nsub $16, %rsp\n" call                           \
            "lea 1(%rdi), %rax\nleave\n.cfi_def_cfa rsp, 8\nret\n.cfi_endproc\n.size " name ", .-" name "\n");

#define CHAIN(kind)                                                                                     \
    FUNCTION(kind "_flat", "")                                                                          \
    FUNCTION(kind "_11", "")                                                                            \
    FUNCTION(kind "_10", "call " kind "_11\n") FUNCTION(kind "_9", "call " kind "_10\n")                \
    FUNCTION(kind "_8", "call " kind "_9\n") FUNCTION(kind "_7", "call " kind "_8\n")                   \
    FUNCTION(kind "_6", "call " kind "_7\n") FUNCTION(kind "_5", "call " kind "_6\n")                   \
    FUNCTION(kind "_4", "call " kind "_5\n") FUNCTION(kind "_3", "call " kind "_4\n")                   \
    FUNCTION(kind "_2", "call " kind "_3\n") FUNCTION(kind "_1", "call " kind "_2\n")                   \
    FUNCTION(kind "_0", "call " kind "_1\n")

CHAIN("plain")
CHAIN("probed")
FUNCTION("unused", "")

typedef long function(long);
extern function plain_flat, probed_flat, plain_0, probed_0;

enum { DEPTH = 12, ROUNDS = 101, THREADS = 64 };

// Processor time of the thread: what others do meanwhile counts little.
static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double per_call(function *callee, long calls)
{
    long sum = 0;
    double start = now();
    for (long index = 0; index < calls; index++)
        sum += callee(sum & 1);
    double end = now();
    __asm__ volatile("" : : "r"(sum));
    return (end - start) / (double)calls;
}

static int ascending(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return values[count / 2];
}

struct worker {
    pthread_t thread;
    long calls;
    double result;
};

static void *work(void *data)
{
    struct worker *worker = data;
    worker->result = per_call(probed_flat, worker->calls) - per_call(plain_flat, worker->calls);
    return NULL;
}

static double elapsed(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

// Every thread's own processor time per hit, and hits per microsecond of all together.
static void run_threads(int count, int rounds, long calls)
{
    struct worker workers[THREADS];
    double cost[ROUNDS], rate[ROUNDS];
    for (int round = 0; round < rounds; round++) {
        double start = elapsed(), sum = 0;
        for (int index = 0; index < count; index++) {
            workers[index].calls = calls;
            if (pthread_create(&workers[index].thread, NULL, work, &workers[index]) != 0)
                abort();
        }
        for (int index = 0; index < count; index++) {
            pthread_join(workers[index].thread, NULL);
            sum += workers[index].result;
        }
        cost[round] = sum / count;
        rate[round] = (double)calls * count * 1e3 / (elapsed() - start);
    }
    printf("threads %d hit %.2f rate %.2f\n", count, median(cost, rounds), median(rate, rounds));
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 11;
    long calls = argc > 2 ? atol(argv[2]) : 1000000;
    int threads = argc > 3 ? atoi(argv[3]) : 1;
    if (rounds < 1 || rounds > ROUNDS || calls < DEPTH || threads < 1 || threads > THREADS)
        return 64;
    if (threads > 1) {
        run_threads(threads, rounds, calls);
        return 0;
    }
    double flat[ROUNDS], chain[ROUNDS], bare[ROUNDS], bare_chain[ROUNDS];
    per_call(probed_flat, 1000);
    per_call(probed_0, 1000);
    for (int round = 0; round < rounds; round++) {
        bare[round] = per_call(plain_flat, calls);
        flat[round] = per_call(probed_flat, calls) - bare[round];
        bare_chain[round] = per_call(plain_0, calls / DEPTH) / DEPTH;
        chain[round] = per_call(probed_0, calls / DEPTH) / DEPTH - bare_chain[round];
    }
    printf("flat %.2f chain %.2f bare %.2f bare-chain %.2f\n", median(flat, rounds), median(chain, rounds), median(bare, rounds),
        median(bare_chain, rounds));
    return 0;
}
