// Runs every program of programs.h natively and on every engine of libubpf.so, and on the kernel's JIT where root may, all in this process
// and in turn; prints times and ratios to native code. Before anything is timed all engines must have given the native value.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compile.h"
#include "measure.h"
#include "report.h"
#include "subject.h"
#include "table.h"

static const char usage[] =
    "usage: vm-bench [--json] [--only PROGRAM]      times everything; as JSON\n"
    "       vm-bench --check [--only PROGRAM]       runs everything once and compares with native code\n"
    "       vm-bench --only PROGRAM --engine native|scalar|interpreter|jit|checked [--repeat N]\n"
    "                                               runs a program, for a profiler\n"
    "       vm-bench --only PROGRAM --emit FILE     writes the unchecked machine code to a file\n";

// EX_USAGE of sysexits.h.
__attribute__((format(printf, 1, 2))) static _Noreturn void misuse(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "vm-bench: ");
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n%s", usage);
    exit(64);
}

struct options {
    const char *only, *emit;
    int engine;  // -1: none
    long repeat;
    int check, json;
};

static int engine_of(const char *name) {
    for (int e = 0; e < KERNEL; e++)
        if (strcmp(name, engine_names[e]) == 0) return e;
    misuse("there is no engine %s to choose", name);
}

static long positive(const char *option, const char *text) {
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno || *end || end == text || number < 1) misuse("%s needs a positive number, not %s", option, text);
    return number;
}

static struct options parse(int argc, char **argv) {
    struct options o = {.engine = -1, .repeat = 0};
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        if (strcmp(option, "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        if (strcmp(option, "--check") == 0) o.check = 1;
        else if (strcmp(option, "--json") == 0) o.json = 1;
        else if (strcmp(option, "--only") && strcmp(option, "--engine") && strcmp(option, "--repeat") && strcmp(option, "--emit"))
            misuse("unknown option %s", option);
        else if (++i == argc) misuse("%s needs a value", option);
        else if (strcmp(option, "--only") == 0) o.only = argv[i];
        else if (strcmp(option, "--engine") == 0) o.engine = engine_of(argv[i]);
        else if (strcmp(option, "--repeat") == 0) o.repeat = positive(option, argv[i]);
        else o.emit = argv[i];
    }
    if (o.check + o.json + (o.emit != NULL) + (o.engine >= 0) > 1) misuse("--check, --json, --engine and --emit exclude each other");
    if ((o.emit || o.engine >= 0) && !o.only) misuse("--engine and --emit need --only PROGRAM");
    if (o.repeat && o.engine < 0) misuse("--repeat needs --engine");
    return o;
}

static void print_checked(const struct subject *subjects, int count) {
    int kernels = 0;
    for (int i = 0; i < count; i++) kernels += subjects[i].kernel >= 0;
    printf("%d programs give their native value and memory without vectors, interpreted, compiled and compiled with checks; ", count);
    // What keeps one program out, like having no privileges, may keep all out.
    if (kernels == 0) {
        printf("\nSKIP  the kernel: %s\n", subjects[0].no_kernel);
        return;
    }
    printf("%d on the kernel's JIT", kernels);
    for (int i = 0; i < count; i++)
        if (subjects[i].kernel < 0) printf("; not %s: %s", subjects[i].name, subjects[i].no_kernel);
    printf("\n");
}

static void emit(const struct subject *s, const char *path) {
    size_t bytes;
    const void *code = ubpf_vm_code(s->unchecked, &bytes);
    FILE *file = fopen(path, "w");
    if (!file || fwrite(code, 1, bytes, file) != bytes || fclose(file) != 0) die(path, "cannot be written");
}

static void report(struct subject *subjects, int count, const struct build *build, int json) {
    static const char *const compiled[COMPILED] = {"ret0", "probe", "siphash", "big_branch", "big_line"};
    struct results results = {.subjects = subjects, .count = count};
    for (int i = 0; i < count; i++) measure(&subjects[i]);
    results.helper_ns = helper_call();
    for (int i = 0; i < COMPILED; i++) compile_program(compiled[i], build, results.programs[results.compiled++]);
    compile_shapes(results.shapes);
    (json ? print_json : print_table)(&results);
}

int main(int argc, char **argv) {
    struct options o = parse(argc, argv);
    #define SUBJECT(program) {.name = #program},
    struct subject subjects[] = {PROGRAMS(SUBJECT)};
    int count = 0;
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        if (!o.only || strcmp(o.only, subjects[i].name) == 0) subjects[count++] = subjects[i];
    if (count == 0) misuse("there is no program %s", o.only);

    struct build build = open_build();
    for (int i = 0; i < count; i++) {
        prepare(&subjects[i], &build);
        check(&subjects[i]);
    }
    if (o.emit) {
        emit(&subjects[0], o.emit);
    } else if (o.engine >= 0) {
        fill(memory);
        for (long i = 0; i < (o.repeat ? o.repeat : 1); i++) run(&subjects[0], o.engine);
    } else if (o.check) {
        print_checked(subjects, count);
    } else {
        report(subjects, count, &build, o.json);
    }
    return 0;
}
