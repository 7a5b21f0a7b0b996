// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
// One call of every allocation function, in success and in failure, with a known sum: 1,025,261 bytes in 13 allocations outstanding.
// Each line's comment is what it adds.
#define _GNU_SOURCE
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { page = 4096, readable_writable = PROT_READ | PROT_WRITE, anonymous = MAP_PRIVATE | MAP_ANONYMOUS };

// Stores that the compiler cannot see through.
static void *volatile kept;
static volatile size_t enormous = SIZE_MAX / 2 - 5;
static volatile size_t bad_alignment = 3;

static void basic(void)
{
    kept = malloc(11);                         // 11
    kept = malloc(0);                          // 0, but one allocation
    kept = malloc(enormous);                   // fails
    kept = calloc(3, 7);                       // 21
    kept = calloc(enormous, 3);                // the product overflows: fails
    free(NULL);
    free(malloc(1000));
}

static void resized(void)
{
    void *moved = malloc(100);
    moved = realloc(moved, 1000000);           // 1000000; the 100 are gone
    kept = realloc(moved, enormous);           // fails: the old block stays
    kept = realloc(NULL, 33);                  // 33
    kept = realloc(realloc(NULL, 50), 0);      // freed
    kept = reallocarray(NULL, 5, 5);           // 25
}

static void aligned(void)
{
    void *result = NULL;
    if (posix_memalign(&result, 64, 77) != 0)  // 77
        _exit(1);
    kept = result;
    if (posix_memalign(&result, bad_alignment, 77) == 0) // fails
        _exit(1);
    kept = aligned_alloc(64, 128);             // 128
    kept = memalign(64, 129);                  // 129
    kept = valloc(130);                        // 130
    kept = pvalloc(131);                       // 131
}

static void mapped(void)
{
    void *grown = mmap(NULL, 2 * page, readable_writable, anonymous, -1, 0);
    kept = mremap(grown, 2 * page, 4 * page, MREMAP_MAYMOVE); // 16384
    kept = mmap(NULL, 0, readable_writable, anonymous, -1, 0); // fails
    munmap(mmap(NULL, 3 * page, readable_writable, anonymous, -1, 0), page); // 8192: the head is cut off
    munmap(mmap(NULL, page, readable_writable, anonymous, -1, 0), page);
}

int main(void)
{
    basic();
    resized();
    aligned();
    mapped();
    // No exit handlers: nothing but the lines above allocates or frees.
    _exit(0);
}
