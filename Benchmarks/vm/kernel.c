// Each program is loaded from an object of its own copy, so that one which the verifier refuses takes no other with it.
#define _GNU_SOURCE
#include "kernel.h"

#ifndef HAVE_LIBBPF
void kernel_open(const char *object) { (void)object; }
int kernel_program(const char *name, const char **why) {
    (void)name;
    *why = "built without libbpf";
    return -1;
}
uint32_t kernel_value(int program, void *memory, uint32_t size) { return (void)program, (void)memory, size; }
double kernel_run(int program, int repeat) { return program + repeat; }
#else
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *path;
static struct { int program, memory; } loaded[64];
static int count;

static int silent(enum libbpf_print_level level, const char *format, va_list arguments) {
    return (void)level, (void)format, (void)arguments, 0;
}

void kernel_open(const char *object) {
    path = object;
    libbpf_set_print(silent);
}

int kernel_program(const char *name, const char **why) {
    if (geteuid() != 0) {
        *why = "only root may load programs";
        return -1;
    }
    char full[128];
    snprintf(full, sizeof full, "kernel_%s", name);
    struct bpf_object *object = bpf_object__open_file(path, NULL);
    if (!object) {
        *why = "the object cannot be opened";
        return -1;
    }
    struct bpf_program *program, *wanted = NULL;
    bpf_object__for_each_program(program, object) {
        int is_it = strcmp(bpf_program__name(program), full) == 0;
        bpf_program__set_autoload(program, is_it);
        if (is_it) wanted = program;
    }
    if (!wanted || bpf_object__load(object) != 0) {
        *why = errno == E2BIG   ? "the verifier gives up after a million instructions"
               : errno == EPERM ? "loading programs is not permitted here"
                                : "the verifier refuses it";
        bpf_object__close(object);
        return -1;
    }
    loaded[count].program = bpf_program__fd(wanted);
    loaded[count].memory = bpf_object__find_map_fd_by_name(object, "memory");
    return loaded[count++].program;
}

// 14 bytes of an Ethernet header, which XDP wants to see.
static uint8_t packet[64];

static void run(int program, struct bpf_test_run_opts *options) {
    if (bpf_prog_test_run_opts(program, options) == 0) return;
    perror("vm-bench: BPF_PROG_TEST_RUN");
    exit(1);
}

uint32_t kernel_value(int program, void *memory, uint32_t size) {
    uint32_t zero = 0;
    int map = -1;
    for (int i = 0; i < count; i++)
        if (loaded[i].program == program) map = loaded[i].memory;
    uint8_t *value = calloc(1, size + 256);
    memcpy(value, memory, size);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof packet, .repeat = 1);
    if (bpf_map_update_elem(map, &zero, value, BPF_ANY) != 0) perror("vm-bench: map"), exit(1);
    run(program, &options);
    if (bpf_map_lookup_elem(map, &zero, value) != 0) perror("vm-bench: map"), exit(1);
    memcpy(memory, value, size);
    free(value);
    return options.retval;
}

double kernel_run(int program, int repeat) {
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof packet, .repeat = repeat);
    run(program, &options);
    // Whole nanoseconds; 0 would be half of one at most.
    return options.duration > 0 ? options.duration : 0.5;
}
#endif
