// The same programs for the kernel: XDP programs over the value of an array map, run by BPF_PROG_TEST_RUN.
#define BENCH(name) static __attribute__((always_inline)) unsigned long long name(unsigned char *m, unsigned long long size)
#include "programs.h"

struct {
    int (*type)[2];  // BPF_MAP_TYPE_ARRAY
    u32 *key;
    struct { u8 bytes[MEMORY + 256]; } *value;
    int (*max_entries)[1];
} memory __attribute__((section(".maps")));

static void *(*const lookup)(void *, const void *) = (void *)1;

#define KERNEL(name) \
    __attribute__((section("xdp"))) int kernel_##name(void *context) { \
        u32 zero = 0; \
        u8 *m = lookup(&memory, &zero); \
        return m ? (int)name(m, MEMORY) : 0; \
    }
PROGRAMS(KERNEL)
char licence[] __attribute__((section("license"))) = "Dual BSD/GPL";
