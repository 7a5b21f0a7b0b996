// Another hooker: malloc and free for LD_PRELOAD, which call libc's own.
#define _GNU_SOURCE
#include <stddef.h>

extern void *__libc_malloc(size_t);
extern void __libc_free(void *);
unsigned long interposed;

void *malloc(size_t size)
{
	__atomic_fetch_add(&interposed, 1, __ATOMIC_RELAXED);
	return __libc_malloc(size);
}

void free(void *block) { __libc_free(block); }
