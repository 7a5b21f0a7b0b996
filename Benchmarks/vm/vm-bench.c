// vm-bench [--check] [--only PROGRAM [--engine native|scalar|interpreter|jit|checked --repeat N | --emit FILE]]
//
// Runs every program of programs.h natively and on every engine of libubpf.so, and on the kernel's JIT where root may, all in this process
// and in turn; prints ratios of the best rounds to native code. Before anything is timed all engines must have given the native value.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <ubpf.h>
#include <unistd.h>

#include "kernel.h"

#include "table.h"

enum { ROUNDS = 11, MEMORY_SIZE = 16384 };
static const double round_ns = 3e6;

enum engine { NATIVE, SCALAR, INTERPRETER, JIT, CHECKED, KERNEL, ENGINES };
static const char *const engine_names[] = {"native", "scalar", "interpreter", "jit", "checked", "kernel"};

struct subject {
    const char *name;
    ubpf_function run[ENGINES];  // not INTERPRETER and KERNEL
    ubpf_vm *vm, *unchecked, *checked;
    int kernel;               // descriptor, -1 where there is none
    const char *no_kernel;    // why
    double ns[ENGINES];
    uint64_t executed;
};

static uint8_t *memory;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void die(const char *what, const char *why) {
    fprintf(stderr, "vm-bench: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

// The same bytes before every run that is compared.
static void fill(uint8_t *to) {
    uint64_t x = 88172645463325252ull;
    for (int i = 0; i < MEMORY_SIZE / 8; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        memcpy(to + 8 * i, &x, 8);
    }
    memcpy(to + 8192, to, 1024);
}

static uint64_t run(struct subject *s, enum engine e) {
    if (e != INTERPRETER) return s->run[e](memory, MEMORY_SIZE);
    uint64_t result = 0;
    if (ubpf_vm_run(s->vm, memory, MEMORY_SIZE, &result) != 0) die(s->name, ubpf_vm_error(s->vm));
    return result;
}

// ns of one run, from `count` of them.
static double round_of(struct subject *s, enum engine e, long count) {
    if (e == KERNEL) return s->kernel < 0 ? 0 : kernel_run(s->kernel, (int)count);
    double start = now();
    for (long i = 0; i < count; i++) run(s, e);
    return (now() - start) / count;
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

// The best of rounds in which every engine has its turn, each time starting with another one: others use this machine too, and whoever
// is interrupted must not always be the same.
static void measure(struct subject *s) {
    long counts[ENGINES];
    for (int e = 0; e < KERNEL; e++) counts[e] = calibrate(s, e);
    counts[KERNEL] = counts[JIT];
    for (int e = 0; e < ENGINES; e++) s->ns[e] = 1e18;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < ENGINES; i++) {
            int e = (i + round) % ENGINES;
            double ns = round_of(s, e, counts[e]);
            if (ns < s->ns[e]) s->ns[e] = ns;
        }
}

static void check(struct subject *s) {
    fill(memory);
    uint64_t expected = s->run[NATIVE](memory, MEMORY_SIZE);
    uint8_t *after = malloc(MEMORY_SIZE);
    memcpy(after, memory, MEMORY_SIZE);
    for (int e = SCALAR; e < KERNEL; e++) {
        fill(memory);
        uint64_t actual = run(s, e);
        if (actual != expected || memcmp(after, memory, MEMORY_SIZE) != 0) {
            fprintf(stderr, "vm-bench: %s: %s gives %#lx, native code %#lx%s\n", s->name, engine_names[e], actual, expected,
                    actual == expected ? ", and other memory" : "");
            exit(1);
        }
        if (e == INTERPRETER) s->executed = ubpf_vm_executed(s->vm);
    }
    if (ubpf_vm_traps(s->checked) != 0) die(s->name, ubpf_vm_error(s->checked));
    if (s->kernel >= 0) {
        fill(memory);
        uint32_t actual = kernel_value(s->kernel, memory, MEMORY_SIZE);
        if (actual != (uint32_t)expected) die(s->name, "the kernel gives another value");
        if (memcmp(after, memory, MEMORY_SIZE) != 0) die(s->name, "the kernel leaves other memory");
    }
    free(after);
}

static ubpf_vm *load(const char *name, const void *object, size_t size) {
    ubpf_vm *vm = ubpf_vm_create();
    if (!vm || ubpf_vm_set_budget(vm, 1ull << 40) != 0 || ubpf_vm_load_elf(vm, object, size, name) != 0)
        die(name, vm ? ubpf_vm_error(vm) : "no memory");
    return vm;
}

static void prepare(struct subject *s, const void *object, size_t size, void *native, void *scalar) {
    s->vm = load(s->name, object, size);
    s->unchecked = load(s->name, object, size);
    s->checked = load(s->name, object, size);
    s->run[NATIVE] = (ubpf_function)dlsym(native, s->name);
    s->run[SCALAR] = (ubpf_function)dlsym(scalar, s->name);
    if (!s->run[NATIVE] || !s->run[SCALAR]) die(s->name, "no native function; run make bench-vm");
    s->run[JIT] = ubpf_vm_compile(s->unchecked, UBPF_UNCHECKED);
    s->run[CHECKED] = ubpf_vm_compile(s->checked, UBPF_CHECKED);
    if (!s->run[JIT]) die(s->name, ubpf_vm_error(s->unchecked));
    if (!s->run[CHECKED]) die(s->name, ubpf_vm_error(s->checked));
    s->kernel = kernel_program(s->name, &s->no_kernel);
}

// Microseconds of a compilation, the best of many.
static double compile_time(const struct subject *s, const void *object, size_t size) {
    double best = 1e18;
    for (int i = 0; i < 50; i++) {
        // A VM keeps its code, so each compilation has a VM of its own.
        ubpf_vm *vm = load(s->name, object, size);
        double start = now();
        if (!ubpf_vm_compile(vm, UBPF_UNCHECKED)) die(s->name, ubpf_vm_error(vm));
        double ns = now() - start;
        if (ns < best) best = ns;
        ubpf_vm_destroy(vm);
    }
    return best / 1000;
}

// Bytes of the section of a program.
static size_t section_size(const void *object, const char *name) {
    const Elf64_Ehdr *header = object;
    const Elf64_Shdr *sections = (const void *)((const char *)object + header->e_shoff);
    const char *names = (const char *)object + sections[header->e_shstrndx].sh_offset;
    for (int i = 0; i < header->e_shnum; i++) {
        const char *section = names + sections[i].sh_name;
        if (strncmp(section, "bench/", 6) == 0 && strcmp(section + 6, name) == 0) return sections[i].sh_size;
    }
    return 0;
}

static uint64_t helper_calls;
static uint64_t helper(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
    helper_calls++;
    return a + b + c + d + e;
}

// A loop of 1000 with and without `call 1`: ns for the call, net of the loop.
static double helper_call(void) {
    double ns[2];
    for (int with = 0; with < 2; with++) {
        const uint64_t code[] = {
            0x3e8000006b7ull,                            // r6 = 1000
            0x1000001b7ull, 0x2000002b7ull,              // r1 = 1, r2 = 2
            0x3000003b7ull, 0x4000004b7ull, 0x5000005b7ull,
            with ? 0x100000085ull : 0x0000000000b7ull,   // call 1, or r0 = 0
            0xffffffff00000607ull,                       // r6 += -1
            0xfff80655ull,                                // if r6 != 0 goto -8
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
            if (now() - start < best) best = now() - start;
        }
        ns[with] = best;
        ubpf_vm_destroy(vm);
    }
    return (ns[1] - ns[0]) / 1000;
}

static void *map_file(const char *path, size_t *size) {
    int file = open(path, O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) die(path, "cannot be read; run make bench-vm");
    *size = status.st_size;
    void *bytes = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    return bytes;
}

static void print_cpu(void) {
    char line[256];
    FILE *info = fopen("/proc/cpuinfo", "r");
    while (info && fgets(line, sizeof line, info))
        if (strncmp(line, "model name", 10) == 0) {
            printf("CPU%s", strchr(line, ':'));
            break;
        }
    if (info) fclose(info);
}

static void table(struct subject *subjects, int count, const void *object, size_t size) {
    double sums[ENGINES] = {0}, checked = 0;
    int kernels = 0, n = 0;
    print_cpu();
    printf("Time as a multiple of native code (clang -O2), best of %d rounds in turn; 'scalar' is native code without vectors.\n"
           "The machine may be shared; trust geomeans and large ratios.\n", ROUNDS);
    printf("%-16s %10s %7s %7s %8s %8s %7s %12s %8s %7s\n", "program", "native ns", "scalar", "jit", "checked", "chk/jit", "kernel",
           "interpreter", "ns/insn", "insns");
    for (int i = 0; i < count; i++) {
        struct subject *s = &subjects[i];
        measure(s);
        double native = s->ns[NATIVE];
        char kernel[16] = "-";
        if (s->kernel >= 0) snprintf(kernel, sizeof kernel, "%.2f", s->ns[KERNEL] / native);
        printf("%-16s %10.1f %7.2f %7.2f %8.2f %8.2f %7s %12.1f %8.2f %7lu\n", s->name, native, s->ns[SCALAR] / native,
               s->ns[JIT] / native, s->ns[CHECKED] / native, s->ns[CHECKED] / s->ns[JIT], kernel, s->ns[INTERPRETER] / native,
               s->ns[INTERPRETER] / s->executed, s->executed);
        fflush(stdout);
        // A call alone is no program.
        if (strcmp(s->name, "ret0") == 0 || strcmp(s->name, "probe") == 0) continue;
        for (int e = 0; e < KERNEL; e++) sums[e] += log(s->ns[e] / native);
        checked += log(s->ns[CHECKED] / s->ns[JIT]);
        n++;
        if (s->kernel >= 0) sums[KERNEL] += log(s->ns[KERNEL] / native), kernels++;
    }
    printf("geomean of %d programs (without ret0 and probe): scalar %.2f, jit %.2f (%.2f of scalar), checked %.2f (%.2f of jit), interpreter %.1f",
           n, exp(sums[SCALAR] / n), exp(sums[JIT] / n), exp((sums[JIT] - sums[SCALAR]) / n), exp(sums[CHECKED] / n), exp(checked / n),
           exp(sums[INTERPRETER] / n));
    if (kernels) printf(", kernel %.2f (of %d)", exp(sums[KERNEL] / kernels), kernels);
    printf("\nempty call %.1f ns (native %.1f), helper call %.1f ns net of the loop\n", subjects[0].ns[JIT], subjects[0].ns[NATIVE], helper_call());
    static const char *const sizes[] = {"ret0", "probe", "siphash", "big_branch", "big_line"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int j = 0; j < count; j++)
            if (strcmp(subjects[j].name, sizes[i]) == 0) {
                size_t code;
                ubpf_vm_code(subjects[j].unchecked, &code);
                double us = compile_time(&subjects[j], object, size);
                size_t slots = section_size(object, sizes[i]) / 8;
                printf("compile %-10s %8.1f us for %zu instructions (budget 10 us + 50 ns each: %.1f us), %zu bytes of code\n", sizes[i], us,
                       slots, 10 + 0.05 * slots, code);
            }
    for (int i = 0; i < count; i++)
        if (subjects[i].kernel < 0) printf("no kernel column for %s: %s\n", subjects[i].name, subjects[i].no_kernel);
}

int main(int argc, char **argv) {
    const char *only = NULL, *engine = NULL, *emit = NULL;
    long repeat = 1;
    int checks = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--check") == 0) checks = 1;
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) only = argv[++i];
        else if (strcmp(argv[i], "--engine") == 0 && i + 1 < argc) engine = argv[++i];
        else if (strcmp(argv[i], "--repeat") == 0 && i + 1 < argc) repeat = atol(argv[++i]);
        else if (strcmp(argv[i], "--emit") == 0 && i + 1 < argc) emit = argv[++i];
        else die(argv[i], "unknown option; --check, --only PROGRAM, --engine E --repeat N, --emit FILE");
    }
    if ((emit || engine) && !only) die("--emit and --engine", "need --only PROGRAM");
    int wanted = -1;
    for (int e = 0; engine && e < KERNEL; e++)
        if (strcmp(engine, engine_names[e]) == 0) wanted = e;
    if (engine && wanted < 0) die(engine, "no engine to choose; native, scalar, interpreter, jit or checked");
    size_t size;
    void *object = map_file(BUILD "/programs.bpf.o", &size);
    void *native = dlopen(BUILD "/programs.so", RTLD_NOW), *scalar = dlopen(BUILD "/programs-scalar.so", RTLD_NOW);
    if (!native || !scalar) die("native programs", dlerror());
    memory = aligned_alloc(64, MEMORY_SIZE);
    kernel_open(BUILD "/kernel.bpf.o");

    #define SUBJECT(program) {.name = #program},
    struct subject subjects[] = {PROGRAMS(SUBJECT)};
    int count = 0;
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        if (only && strcmp(only, subjects[i].name) != 0) continue;
        subjects[count] = subjects[i];
        prepare(&subjects[count], object, size, native, scalar);
        check(&subjects[count]);
        count++;
    }
    if (count == 0) die(only, "no such program");
    if (emit) {
        size_t bytes;
        const void *code = ubpf_vm_code(subjects[0].unchecked, &bytes);
        FILE *file = fopen(emit, "w");
        if (!file || fwrite(code, 1, bytes, file) != bytes || fclose(file) != 0) die(emit, "cannot be written");
    } else if (engine) {
        fill(memory);
        for (long i = 0; i < repeat; i++) run(&subjects[0], wanted);
    } else if (checks) {
        printf("%d programs give their native value on %d engines\n", count, KERNEL - 1);
    } else {
        table(subjects, count, object, size);
    }
    return 0;
}
