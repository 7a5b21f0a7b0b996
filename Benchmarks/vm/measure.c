#include "measure.h"

#include <stdlib.h>
#include <time.h>

#include "kernel.h"

static const double round_ns = 3e6;

// ns of one run, from `count` of them, in CPU time as BPF_PROG_TEST_RUN counts it (bpf_test_timer_continue in Linux net/bpf/test_run.c).
static double round_of(struct subject *s, enum engine e, long count) {
    if (e == KERNEL) return s->kernel < 0 ? 0 : kernel_run(s->kernel, (int)count);
    double start = cpu_time();
    for (long i = 0; i < count; i++) run(s, e);
    return (cpu_time() - start) / count;
}

// Runs that take at least a round: what is interrupted looks slow, so the best of three tries counts.
static long calibrate(struct subject *s, enum engine e) {
    for (long count = 1;; count *= 2) {
        double best = 1e18;
        for (int i = 0; i < 3; i++) {
            double ns = round_of(s, e, count) * count;
            if (ns < best) best = ns;
        }
        if (best >= round_ns) return count;
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct sample summary(double *ns) {
    qsort(ns, ROUNDS, sizeof *ns, compare);
    double median = ns[ROUNDS / 2];
    return (struct sample){ns[0], median, median > 0 ? 100 * (ns[ROUNDS * 3 / 4] - ns[ROUNDS / 4]) / median : 0};
}

// Rounds in which every engine has its turn, each time starting with another one: others use this machine too, and whoever is interrupted
// must not always be the same.
void measure(struct subject *s) {
    long counts[ENGINES];
    double ns[ENGINES][ROUNDS];
    for (int e = 0; e < KERNEL; e++) counts[e] = calibrate(s, e);
    counts[KERNEL] = counts[JIT];
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < ENGINES; i++) {
            int e = (i + round) % ENGINES;
            ns[e][round] = round_of(s, e, counts[e]);
        }
    for (int e = 0; e < ENGINES; e++) s->ns[e] = summary(ns[e]);
}

static uint64_t helper_calls;
static uint64_t helper(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
    helper_calls++;
    return a + b + c + d + e;
}

// A loop of 1000 with and without `call 1`.
double helper_call(void) {
    double ns[2];
    for (int with = 0; with < 2; with++) {
        const uint64_t code[] = {
            0x3e8000006b7ull,                            // r6 = 1000
            0x1000001b7ull, 0x2000002b7ull,              // r1 = 1, r2 = 2
            0x3000003b7ull, 0x4000004b7ull, 0x5000005b7ull,
            with ? 0x100000085ull : 0x0000000000b7ull,   // call 1, or r0 = 0
            0xffffffff00000607ull,                       // r6 += -1
            0xfff80655ull,                               // if r6 != 0 goto -8
            0x95ull,
        };
        ubpf_vm *vm = ubpf_vm_create();
        if (!vm || ubpf_vm_register(vm, 1, helper) != 0) die("helper call", "the helper is refused");
        if (ubpf_vm_load(vm, code, sizeof code) != 0) die("helper call", ubpf_vm_error(vm));
        ubpf_function f = ubpf_vm_compile(vm, UBPF_UNCHECKED);
        if (!f) die("helper call", ubpf_vm_error(vm));
        double best = 1e18;
        helper_calls = 0;
        if (f(memory, MEMORY_SIZE) != (with ? 15 : 0) || helper_calls != (with ? 1000 : 0)) die("helper call", "the helper did not run");
        for (int round = 0; round < 200; round++) {
            double start = now();
            f(memory, MEMORY_SIZE);
            double took = now() - start;
            if (took < best) best = took;
        }
        ns[with] = best;
        ubpf_vm_destroy(vm);
    }
    return (ns[1] - ns[0]) / 1000;
}
