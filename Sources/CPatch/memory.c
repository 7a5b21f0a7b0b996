// memcpy, memmove, memset and memcmp for calls that compilers make up, hidden so that they never become libc's: its AVX
// versions end in vzeroupper and would destroy the upper halves of a probed function's __m256 arguments.
//
// Only in the library that ships (Embedded Swift); the test program keeps libc's.
#ifdef UBPF_OWN_MEMORY_FUNCTIONS
#include <stddef.h>
#include <stdint.h>

#include "cruntime.h"

#define OURS __attribute__((visibility("hidden"), used))

OURS void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    cruntime_copy(to, from, size);
    return to;
}

OURS void *memmove(void *to, const void *from, size_t size) {
    if ((uintptr_t)to - (uintptr_t)from >= size) return memcpy(to, from, size);
    volatile uint8_t *d = to;
    const volatile uint8_t *s = from;
    while (size-- > 0) d[size] = s[size];
    return to;
}

OURS void *memset(void *to, int byte, size_t size) {
    if (byte == 0) {
        cruntime_zero(to, size);
        return to;
    }
    void *d = to;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(size) : "a"(byte) : "memory");
    return to;
}

OURS int memcmp(const void *a, const void *b, size_t size) {
    const volatile uint8_t *x = a, *y = b;
    for (size_t i = 0; i < size; i++)
        if (x[i] != y[i]) return (int)x[i] - (int)y[i];
    return 0;
}
#else
typedef int cpatch_memory_unused;
#endif
