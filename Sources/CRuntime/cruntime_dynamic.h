// Functions that cruntime.c calls on the probe path and that no program can replace.
#ifndef CRUNTIME_DYNAMIC_H
#define CRUNTIME_DYNAMIC_H

#include <dlfcn.h>
#include <stdint.h>
#include <time.h>

typedef int (*cruntime_clock)(clockid_t, struct timespec *);
typedef int (*cruntime_find)(void *, struct dl_find_object *);

struct cruntime_place {
    uint64_t address, size;
};

/// Null where this process has none of them: the vDSO can be switched off, and a static program has no loader.
struct cruntime_dynamic {
    cruntime_clock clock_gettime;
    cruntime_find find_object;
    /// The vDSO, and its function that enters enclaves.
    uint64_t vdso;
    struct cruntime_place enter_enclave;
    /// Modules that are loaded now; null where it or the next was not found.
    const volatile uint32_t *loaded;
    /// Modules that were ever loaded: one of these.
    const volatile uint64_t *added[2];
};
extern struct cruntime_dynamic cruntime_dynamic;

#endif
