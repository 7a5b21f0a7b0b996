// A benchmark program, and everything that can run it.
#ifndef SUBJECT_H
#define SUBJECT_H

#include <stddef.h>
#include <stdint.h>
#include <ubpf.h>

enum { MEMORY_SIZE = 16384 };

enum engine { NATIVE, SCALAR, INTERPRETER, JIT, CHECKED, KERNEL, ENGINES };
extern const char *const engine_names[ENGINES];

/// Nanoseconds of a run, from some rounds.
struct sample {
    double best, median;
    double spread;  // the middle half of the rounds lies that far apart, in percent of the median
};

struct subject {
    const char *name;
    ubpf_function run[ENGINES];  // not INTERPRETER and KERNEL
    ubpf_vm *vm, *unchecked, *checked;
    int kernel;             // descriptor, -1 where there is none
    const char *no_kernel;  // why
    int is_vectorised;      // by the compiler of the native code
    uint64_t executed;      // instructions of a run
    struct sample ns[ENGINES];
};

/// What programs read and write.
extern uint8_t *memory;

/// The compiled programs: our object, and native code with and without vectors.
struct build {
    const void *object;
    size_t size;
    void *native, *scalar;
    const char *remarks;  // what the compiler said about vectors
};

struct build open_build(void);
/// Loads and compiles a program for every engine.
void prepare(struct subject *, const struct build *);
/// Every engine must give the native value and leave the native memory.
void check(struct subject *);
/// Runs on any engine but the kernel.
uint64_t run(struct subject *, enum engine);
/// A VM of its own with a program.
ubpf_vm *load(const char *name, const struct build *);
/// The same bytes before every run that is compared.
void fill(uint8_t *to);

double now(void);
/// CPU time of this thread: waiting for others on a shared machine does not count.
double cpu_time(void);
_Noreturn void die(const char *what, const char *why);

#endif
