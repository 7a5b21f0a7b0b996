#include "report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "measure.h"

// Geometric means of ratios.
struct means {
    int programs, kernels;
    double native[ENGINES];  // engine / native
    double jit_scalar, checked_jit, worst_checked_jit;
};

// A call alone is no program.
static int is_program(const struct subject *s) { return strcmp(s->name, "ret0") != 0 && strcmp(s->name, "probe") != 0; }

static struct means means_of(const struct results *r, int only_scalar) {
    struct means m = {0};
    for (int i = 0; i < r->count; i++) {
        const struct subject *s = &r->subjects[i];
        if (!is_program(s) || (only_scalar && s->is_vectorised)) continue;
        m.programs++;
        m.kernels += s->kernel >= 0;
        for (int e = 0; e < ENGINES; e++)
            if (e != KERNEL || s->kernel >= 0) m.native[e] += log(s->ns[e].best / s->ns[NATIVE].best);
        double checks = s->ns[CHECKED].best / s->ns[JIT].best;
        m.checked_jit += log(checks);
        if (checks > m.worst_checked_jit) m.worst_checked_jit = checks;
        m.jit_scalar += log(s->ns[JIT].best / s->ns[SCALAR].best);
    }
    for (int e = 0; e < ENGINES; e++) m.native[e] = exp(m.native[e] / (e == KERNEL ? m.kernels : m.programs));
    m.checked_jit = exp(m.checked_jit / m.programs);
    m.jit_scalar = exp(m.jit_scalar / m.programs);
    return m;
}

static const struct subject *find(const struct results *r, const char *name) {
    for (int i = 0; i < r->count; i++)
        if (strcmp(r->subjects[i].name, name) == 0) return &r->subjects[i];
    return NULL;
}

static void read_cpu(char *name, size_t size) {
    char line[256];
    FILE *info = fopen("/proc/cpuinfo", "r");
    snprintf(name, size, "unknown");
    while (info && fgets(line, sizeof line, info))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            line[strcspn(line, "\n\"\\")] = 0;
            snprintf(name, size, "%s", strchr(line, ':') + 2);
            break;
        }
    if (info) fclose(info);
}

// MARK: Text

static void print_ratios(const struct results *r) {
    printf("\nTime of the best round as a multiple of native code's (clang -O2). v: clang vectorised it. scalar: it may not, but\n"
           "still joins neighbouring loads and stores of copies.\n"
           "%-16s %s %10s %7s %7s %8s %8s %7s %12s %8s %7s\n", "program", " ", "native ns", "scalar", "jit", "checked", "chk/jit", "kernel",
           "interpreter", "ns/insn", "insns");
    for (int i = 0; i < r->count; i++) {
        const struct subject *s = &r->subjects[i];
        double native = s->ns[NATIVE].best;
        char kernel[16] = "-";
        if (s->kernel >= 0) snprintf(kernel, sizeof kernel, "%.2f", s->ns[KERNEL].best / native);
        printf("%-16s %s %10.1f %7.2f %7.2f %8.2f %8.2f %7s %12.1f %8.2f %7lu\n", s->name, s->is_vectorised ? "v" : " ", native,
               s->ns[SCALAR].best / native, s->ns[JIT].best / native, s->ns[CHECKED].best / native, s->ns[CHECKED].best / s->ns[JIT].best,
               kernel, s->ns[INTERPRETER].best / native, s->ns[INTERPRETER].best / s->executed, s->executed);
    }
}

static void print_means(const char *what, const struct means *m) {
    if (m->programs == 0) return;
    printf("geomean of %2d programs%s: scalar %.2f, jit %.2f (%.2f of scalar), checked %.2f (%.2f of jit, at most %.2f), interpreter %.1f",
           m->programs, what, m->native[SCALAR], m->native[JIT], m->jit_scalar, m->native[CHECKED], m->checked_jit, m->worst_checked_jit,
           m->native[INTERPRETER]);
    if (m->kernels) printf(", kernel %.2f (of %d)", m->native[KERNEL], m->kernels);
    printf("\n");
}

static void print_samples(const struct results *r) {
    printf("\nNanoseconds of a run, %d rounds: best, median, spread (the middle half of the rounds, in percent of the median)\n%-16s", ROUNDS,
           "program");
    for (int e = 0; e < ENGINES; e++) printf(" |%22s", engine_names[e]);
    printf("\n");
    for (int i = 0; i < r->count; i++) {
        printf("%-16s", r->subjects[i].name);
        for (int e = 0; e < ENGINES; e++) {
            const struct sample *n = &r->subjects[i].ns[e];
            if (e == KERNEL && r->subjects[i].kernel < 0) printf(" |%22s", "-");
            else printf(" |%8.1f %8.1f %3.0f%%", n->best, n->median, n->spread);
        }
        printf("\n");
    }
}

static void print_compilations(const struct compilation (*all)[2], int count) {
    for (int i = 0; i < count; i++) {
        const struct compilation *u = &all[i][0], *c = &all[i][1];
        double n = u->instructions;
        printf("%-16s %7zu %12.1f %8.0f %9.2f %12.1f %8.0f %9.2f %10.1f\n", u->name, u->instructions, u->microseconds,
               u->microseconds * 1000 / n, u->bytes / n, c->microseconds, c->microseconds * 1000 / n, c->bytes / n, 10 + 0.05 * n);
    }
}

void print_table(const struct results *r) {
    char cpu[256];
    read_cpu(cpu, sizeof cpu);
    printf("CPU: %s; %d rounds in turn, CPU time. Others may use the caches; trust geomeans and large ratios.\n", cpu, ROUNDS);
    print_ratios(r);
    struct means all = means_of(r, 0), scalar = means_of(r, 1);
    print_means(" (without ret0 and probe)", &all);
    print_means(" whose native code has no vectors", &scalar);
    const struct subject *empty = find(r, "ret0");
    if (empty) printf("empty call %.1f ns (native %.1f), ", empty->ns[JIT].best, empty->ns[NATIVE].best);
    printf("helper call %.1f ns net of the loop\n", r->helper_ns);
    for (int i = 0; i < r->count; i++)
        if (r->subjects[i].kernel < 0) printf("no kernel column for %s: %s\n", r->subjects[i].name, r->subjects[i].no_kernel);
    print_samples(r);
    printf("\nCompiling, the best of many; ns and bytes an instruction; the budget is 10 us + 50 ns an instruction, unchecked\n"
           "%-16s %7s %12s %8s %9s %12s %8s %9s %10s\n", "program", "insns", "unchecked us", "ns/insn", "B/insn", "checked us", "ns/insn",
           "B/insn", "budget us");
    print_compilations(r->programs, r->compiled);
    print_compilations(r->shapes, SHAPES);
}

// MARK: JSON

static void json_means(const char *name, const struct means *m) {
    printf("  \"%s\": {\"programs\": %d", name, m->programs);
    for (int e = SCALAR; m->programs && e < ENGINES; e++)
        if (e != KERNEL || m->kernels) printf(", \"%s\": %.4f", engine_names[e], m->native[e]);
    if (m->programs) printf(", \"jit_of_scalar\": %.4f, \"checked_of_jit\": %.4f", m->jit_scalar, m->checked_jit);
    if (m->kernels) printf(", \"kernel_programs\": %d", m->kernels);
    printf("},\n");
}

static void json_compilations(const struct compilation (*all)[2], int count, int more) {
    for (int i = 0; i < count; i++) {
        const struct compilation *u = &all[i][0], *c = &all[i][1];
        printf("    {\"name\": \"%s\", \"instructions\": %zu, \"unchecked\": {\"us\": %.1f, \"bytes\": %zu}, "
               "\"checked\": {\"us\": %.1f, \"bytes\": %zu}}%s\n", u->name, u->instructions, u->microseconds, u->bytes, c->microseconds,
               c->bytes, more || i + 1 < count ? "," : "");
    }
}

void print_json(const struct results *r) {
    char cpu[256];
    read_cpu(cpu, sizeof cpu);
    printf("{\n  \"cpu\": \"%s\",\n  \"rounds\": %d,\n  \"programs\": [\n", cpu, ROUNDS);
    for (int i = 0; i < r->count; i++) {
        const struct subject *s = &r->subjects[i];
        printf("    {\"name\": \"%s\", \"vectorised\": %s, \"instructions\": %lu, \"ns\": {", s->name, s->is_vectorised ? "true" : "false",
               s->executed);
        for (int e = 0; e < ENGINES; e++) {
            if (e == KERNEL && s->kernel < 0) continue;
            printf("%s\"%s\": {\"best\": %.2f, \"median\": %.2f, \"spread_percent\": %.1f}", e == NATIVE ? "" : ", ", engine_names[e],
                   s->ns[e].best, s->ns[e].median, s->ns[e].spread);
        }
        printf("}");
        if (s->kernel < 0) printf(", \"no_kernel\": \"%s\"", s->no_kernel);
        printf("}%s\n", i + 1 < r->count ? "," : "");
    }
    printf("  ],\n");
    struct means all = means_of(r, 0), scalar = means_of(r, 1);
    json_means("geomean", &all);
    json_means("geomean_not_vectorised", &scalar);
    printf("  \"helper_call_ns\": %.2f,\n  \"compilations\": [\n", r->helper_ns);
    json_compilations(r->programs, r->compiled, 1);
    json_compilations(r->shapes, SHAPES, 0);
    printf("  ]\n}\n");
}
