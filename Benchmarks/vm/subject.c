#define _GNU_SOURCE
#include "subject.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"

const char *const engine_names[ENGINES] = {"native", "scalar", "interpreter", "jit", "checked", "kernel"};
uint8_t *memory;

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

double cpu_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

void die(const char *what, const char *why) {
    fprintf(stderr, "vm-bench: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

void fill(uint8_t *to) {
    uint64_t x = 88172645463325252ull;
    for (int i = 0; i < MEMORY_SIZE / 8; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        memcpy(to + 8 * i, &x, 8);
    }
    memcpy(to + 8192, to, 1024);
}

uint64_t run(struct subject *s, enum engine e) {
    if (e != INTERPRETER) return s->run[e](memory, MEMORY_SIZE);
    uint64_t result = 0;
    if (ubpf_vm_run(s->vm, memory, MEMORY_SIZE, &result) != 0) die(s->name, ubpf_vm_error(s->vm));
    return result;
}

void check(struct subject *s) {
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

ubpf_vm *load(const char *name, const struct build *build) {
    ubpf_vm *vm = ubpf_vm_create();
    if (!vm || ubpf_vm_set_budget(vm, 1ull << 40) != 0 || ubpf_vm_load_elf(vm, build->object, build->size, name) != 0)
        die(name, vm ? ubpf_vm_error(vm) : "no memory");
    return vm;
}

// Whether clang made vectors of anything in a function (-foptimization-record-file, a list of YAML documents):
//
//     --- !Passed
//     Pass:            loop-vectorize
//     Name:            Vectorized
//     DebugLoc:        { File: 'programs.h', Line: 33, Column: 5 }
//     Function:        array_sum
static int is_vectorised(const char *remarks, const char *function) {
    int passed = 0;
    for (const char *line = remarks; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        if (strncmp(line, "--- ", 4) == 0) passed = strncmp(line, "--- !Passed", 11) == 0;
        if (!passed || strncmp(line, "Function:", 9) != 0) continue;
        line += 9 + strspn(line + 9, " ");
        size_t length = strcspn(line, "\n");
        if (length == strlen(function) && strncmp(line, function, length) == 0) return 1;
    }
    return 0;
}

void prepare(struct subject *s, const struct build *build) {
    s->vm = load(s->name, build);
    s->unchecked = load(s->name, build);
    s->checked = load(s->name, build);
    s->run[NATIVE] = (ubpf_function)dlsym(build->native, s->name);
    s->run[SCALAR] = (ubpf_function)dlsym(build->scalar, s->name);
    if (!s->run[NATIVE] || !s->run[SCALAR]) die(s->name, "no native function; run make bench-vm");
    s->run[JIT] = ubpf_vm_compile(s->unchecked, UBPF_UNCHECKED);
    s->run[CHECKED] = ubpf_vm_compile(s->checked, UBPF_CHECKED);
    if (!s->run[JIT]) die(s->name, ubpf_vm_error(s->unchecked));
    if (!s->run[CHECKED]) die(s->name, ubpf_vm_error(s->checked));
    s->is_vectorised = is_vectorised(build->remarks, s->name);
    s->kernel = kernel_program(s->name, &s->no_kernel);
}

static void *map_file(const char *path, size_t *size) {
    int file = open(path, O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) die(path, "cannot be read; run make bench-vm");
    *size = status.st_size;
    void *bytes = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, file, 0);
    if (bytes == MAP_FAILED) die(path, "cannot be mapped");
    close(file);
    return bytes;
}

struct build open_build(void) {
    struct build build;
    build.object = map_file(BUILD "/programs.bpf.o", &build.size);
    build.native = dlopen(BUILD "/programs.so", RTLD_NOW);
    build.scalar = dlopen(BUILD "/programs-scalar.so", RTLD_NOW);
    if (!build.native || !build.scalar) die("native programs", dlerror());
    size_t size;
    const char *remarks = map_file(BUILD "/vectors.yaml", &size);
    build.remarks = strndup(remarks, size);
    memory = aligned_alloc(64, MEMORY_SIZE);
    if (!build.remarks || !memory) die("benchmark", "no memory");
    kernel_open(BUILD "/kernel.bpf.o");
    return build;
}
