#define _GNU_SOURCE
#include "cruntime.h"
#include "cruntime_dynamic.h"

#include <sys/stat.h>
#include <cpuid.h>

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

int64_t cruntime_syscall(int64_t number, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f) {
    register int64_t r10 __asm__("r10") = d;
    register int64_t r8 __asm__("r8") = e;
    register int64_t r9 __asm__("r9") = f;
    int64_t result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    if (cruntime_dynamic.clock_gettime == NULL || cruntime_dynamic.clock_gettime(clock, &now) != 0)
        cruntime_syscall(SYS_clock_gettime, clock, (int64_t)&now, 0, 0, 0, 0);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

uint64_t cruntime_monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
uint64_t cruntime_coarse_ns(void) { return clock_ns(CLOCK_MONOTONIC_COARSE); }
uint64_t cruntime_boottime_ns(void) { return clock_ns(CLOCK_BOOTTIME); }
uint64_t cruntime_tai_ns(void) { return clock_ns(CLOCK_TAI); }

uint32_t cruntime_cpu(void) {
    if (__rseq_size != 0) {
        const struct rseq *area = (const struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
        int32_t cpu = *(const volatile int32_t *)&area->cpu_id;
        if (cpu >= 0) return (uint32_t)cpu;
    }
    unsigned cpu = 0;
    cruntime_syscall(SYS_getcpu, (int64_t)&cpu, 0, 0, 0, 0, 0);
    return cpu;
}

// What follows takes system calls, beside which its own time is nothing.
#pragma clang attribute push(__attribute__((minsize)), apply_to = function)

uint32_t cruntime_numa_node(void) {
    unsigned node = 0;
    cruntime_syscall(SYS_getcpu, 0, (int64_t)&node, 0, 0, 0, 0);
    return node;
}

int64_t cruntime_pid_namespace(uint64_t *device, uint64_t *inode) {
    struct stat status;
    int64_t failed = cruntime_syscall(SYS_stat, (int64_t)"/proc/thread-self/ns/pid", (int64_t)&status, 0, 0, 0, 0);
    *device = failed ? 0 : status.st_dev;
    *inode = failed ? 0 : status.st_ino;
    return failed;
}

uint32_t cruntime_tid(void) { return (uint32_t)cruntime_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0); }

int32_t cruntime_thread_gone(uint32_t tid) {
    // kill(2) finds zombies too; process_vm_readv(2) answers ESRCH for whatever has no memory any more, and EFAULT or
    // EPERM for the living. Where a filter forbids it, kill must do.
    uint8_t byte;
    struct iovec local = {&byte, 1};
    struct iovec remote = {0, 1};
    int64_t got = cruntime_syscall(SYS_process_vm_readv, tid, (int64_t)&local, 1, (int64_t)&remote, 1, 0);
    if (got == -ENOSYS || got == -EPERM || got == -EACCES) got = cruntime_syscall(SYS_kill, tid, 0, 0, 0, 0, 0);
    return got == -ESRCH;
}

static uint32_t namespace_mark;

void cruntime_find_namespace(void) {
    uint64_t device, inode;
    // PROC_PID_INIT_INO is the machine's own.
    // Without /proc what was found before stays.
    if (cruntime_pid_namespace(&device, &inode) != 0) return;
    if (inode == 0xeffffffcu) inode = 0;
    uint32_t mark = inode == 0 ? 0 : 1 + (uint32_t)inode * 0x9e3779b1u % 511;
    __atomic_store_n(&namespace_mark, mark << 22, __ATOMIC_RELAXED);
}

uint32_t cruntime_namespace_mark(void) { return __atomic_load_n(&namespace_mark, __ATOMIC_RELAXED); }

int32_t cruntime_owner_state(uint32_t owner) {
    if (((owner ^ cruntime_namespace_mark()) & 0x7fc00000u) != 0) return CRUNTIME_OWNER_FOREIGN;
    return cruntime_thread_gone(owner & 0x3fffffu);
}

void cruntime_get_comm(struct cruntime_comm *out) {
    cruntime_zero(out, sizeof *out);
    cruntime_syscall(SYS_prctl, PR_GET_NAME, (int64_t)out, 0, 0, 0, 0);
}

void cruntime_yield(void) { cruntime_syscall(SYS_sched_yield, 0, 0, 0, 0, 0, 0); }

static __attribute__((noinline)) int64_t refuse(void *destination, uint64_t size) {
    cruntime_zero(destination, size);
    return -EFAULT;
}

static int64_t read_of(uint32_t pid, void *destination, uint64_t source, uint64_t size) {
    struct iovec local = {destination, size};
    struct iovec remote = {(void *)source, size};
    return cruntime_syscall(SYS_process_vm_readv, pid, (int64_t)&local, 1, (int64_t)&remote, 1, 0);
}

int64_t cruntime_read(void *destination, uint64_t source, uint64_t size) {
    if (size == 0) return 0;
    // Of this thread: the process's number is its first thread's, which may have ended.
    int64_t got = read_of(cruntime_tid(), destination, source, size);
    if (got == (int64_t)size) return 0;
    refuse(destination, size);
    return got < 0 ? got : -EFAULT;
}

int64_t cruntime_write(uint64_t destination, const void *source, uint64_t size) {
    if (size == 0) return 0;
    struct iovec local = {(void *)source, size};
    struct iovec remote = {(void *)destination, size};
    int64_t got = cruntime_syscall(SYS_process_vm_writev, cruntime_tid(), (int64_t)&local, 1, (int64_t)&remote, 1, 0);
    return got == (int64_t)size ? 0 : -EFAULT;
}

int64_t cruntime_copy_string(void *destination, uint64_t source, uint64_t size, uint64_t available) {
    uint8_t *out = destination;
    const volatile uint8_t *from = (const volatile uint8_t *)source;
    uint64_t end = size < available ? size : available;
    for (uint64_t i = 0; i < end; i++)
        if ((out[i] = from[i]) == 0) return (int64_t)i + 1;
    if (end < size || size == 0) return 0;
    out[size - 1] = 0;
    return (int64_t)size;
}

#pragma clang attribute pop

int32_t cruntime_find_module(uint64_t pc, struct cruntime_module *out) {
    struct dl_find_object found;
    if (cruntime_dynamic.find_object == NULL || cruntime_dynamic.find_object((void *)pc, &found) != 0) return 0;
    out->start = (uint64_t)found.dlfo_map_start;
    out->end = (uint64_t)found.dlfo_map_end;
    out->bias = found.dlfo_link_map ? (uint64_t)found.dlfo_link_map->l_addr : 0;
    out->eh_frame_hdr = found.dlfo_eh_frame;
    out->path = found.dlfo_link_map ? found.dlfo_link_map->l_name : "";
    return 1;
}

static struct cruntime_stubs registered;

void cruntime_register_stubs(struct cruntime_stubs stubs) { registered = stubs; }

uint64_t cruntime_resolve_stub(uint64_t ra) {
    uint64_t offset = ra - registered.low;
    if (offset >= registered.high - registered.low) return ra;
    return *(const volatile uint64_t *)(registered.slots + (offset & ~15ull));
}

uint64_t cruntime_stub_slot(uint64_t ra) {
    uint64_t offset = ra - registered.low;
    return offset >= registered.high - registered.low ? 0 : registered.slots + (offset & ~15ull);
}

int32_t cruntime_get_generation(struct cruntime_generation *out) {
    const struct cruntime_dynamic *loader = &cruntime_dynamic;
    if (loader->loaded == NULL) return 0;
    out->words[0] = *loader->loaded;
    out->words[1] = *loader->added[0];
    out->words[2] = *loader->added[1];
    return 1;
}

// Copying and clearing in general registers: vector instructions would spoil a probed function's arguments, and `rep movsb` takes dozens
// of cycles to start. Small sizes are two moves that may overlap; the barriers keep compilers from making memcpy of the loops.
static inline uint64_t get64(const uint8_t *from) {
    uint64_t word;
    __builtin_memcpy(&word, from, 8);
    return word;
}
static inline uint32_t get32(const uint8_t *from) {
    uint32_t word;
    __builtin_memcpy(&word, from, 4);
    return word;
}
static inline void put64(uint8_t *to, uint64_t word) { __builtin_memcpy(to, &word, 8); }
static inline void put32(uint8_t *to, uint32_t word) { __builtin_memcpy(to, &word, 4); }

enum { LONG = 512 };

void cruntime_copy(void *to, const void *from, uint64_t size) {
    uint8_t *d = to;
    const uint8_t *s = from;
    if (size >= LONG) {
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(size) : : "memory");
    } else if (size >= 8) {
        uint64_t last = get64(s + size - 8);
        for (uint64_t i = 0; i + 8 < size; i += 8) {
            put64(d + i, get64(s + i));
            __asm__ volatile("" ::: "memory");
        }
        put64(d + size - 8, last);
    } else if (size >= 4) {
        uint32_t first = get32(s), last = get32(s + size - 4);
        put32(d, first);
        put32(d + size - 4, last);
    } else if (size > 0) {
        uint8_t first = s[0], middle = s[size / 2], last = s[size - 1];
        d[0] = first;
        d[size / 2] = middle;
        d[size - 1] = last;
    }
}

__attribute__((minsize)) void cruntime_move(void *to, const void *from, uint64_t size) {
    // Going up is right wherever what is written lies before what is still to be read.
    if ((uint64_t)to - (uint64_t)from >= size) {
        cruntime_copy(to, from, size);
        return;
    }
    volatile uint8_t *d = to;
    const volatile uint8_t *s = from;
    while (size-- > 0) d[size] = s[size];
}

void cruntime_zero(void *to, uint64_t size) {
    uint8_t *d = to;
    if (size >= LONG) {
        __asm__ volatile("rep stosb" : "+D"(d), "+c"(size) : "a"(0) : "memory");
    } else if (size >= 8) {
        for (uint64_t i = 0; i + 8 < size; i += 8) {
            put64(d + i, 0);
            __asm__ volatile("" ::: "memory");
        }
        put64(d + size - 8, 0);
    } else {
        for (uint64_t i = 0; i < size; i++) *(volatile uint8_t *)(d + i) = 0;
    }
}

static _Atomic(cruntime_words) fetch_words;

void cruntime_fetch_by(cruntime_words words) { atomic_store(&fetch_words, words); }

static uint32_t fetch_pid;

void cruntime_fetch_from(uint32_t pid) { fetch_pid = pid; }

static int64_t fetch_slowly(void *destination, uint64_t source, uint64_t size) {
    int64_t got = fetch_pid == 0 ? -ESRCH : read_of(fetch_pid, destination, source, size);
    // Nobody has said who we are, this is the child of a vfork in another PID namespace, or the first thread has ended.
    if (got == -ESRCH) got = read_of(cruntime_tid(), destination, source, size);
    return got == (int64_t)size ? 0 : refuse(destination, size);
}

static __attribute__((noinline)) int64_t fetch_any(cruntime_words words, void *destination, uint64_t source, uint64_t size) {
    uint64_t whole = size & ~7ull, rest = size & 7, last;
    if (whole != 0 && words(destination, source, size / 8) != 0) return refuse(destination, size);
    if (rest != 0) {
        // The rest is the end of a word, or its beginning where that end would reach into a page before the range.
        uint64_t from_start = size < 8 && (source & 4095) < 8 - size;
        if (words(&last, from_start ? source : source + size - 8, 1) != 0) return refuse(destination, size);
        if (!from_start) last >>= 64 - 8 * rest;
        uint8_t *to = (uint8_t *)destination + whole;
        if (rest & 4) {
            put32(to, (uint32_t)last);
            to += 4;
            last >>= 32;
        }
        if (rest & 2) {
            to[0] = (uint8_t)last;
            to[1] = (uint8_t)(last >> 8);
            to += 2;
            last >>= 16;
        }
        if (rest & 1) *to = (uint8_t)last;
    }
    return 0;
}

int64_t cruntime_fetch(void *destination, uint64_t source, uint64_t size) {
    cruntime_words words = atomic_load_explicit(&fetch_words, memory_order_acquire);
    if (words == NULL || size == 0) return fetch_slowly(destination, source, size);
    // Most reads are of a word, and need to keep little.
    if (size == 8) return words(destination, source, 1) == 0 ? 0 : refuse(destination, 8);
    return fetch_any(words, destination, source, size);
}

int64_t cruntime_fetch_with(cruntime_words words, void *destination, uint64_t source, uint64_t size) {
    return size == 0 ? 0 : fetch_any(words, destination, source, size);
}

__attribute__((minsize)) int64_t cruntime_read_string(void *destination, uint64_t source, uint64_t size) {
    uint8_t *out = destination;
    uint64_t done = 0;
    uint64_t most = atomic_load_explicit(&fetch_words, memory_order_relaxed) == NULL ? 256 : 64;
    while (done < size) {
        // Never ask for more than the rest of a page: the string may end just before an unmapped one.
        uint64_t chunk = 4096 - ((source + done) & 4095);
        if (chunk > size - done) chunk = size - done;
        if (chunk > most) chunk = most;
        if (cruntime_fetch(out + done, source + done, chunk) != 0) {
            cruntime_zero(out, size);
            return -EFAULT;
        }
        for (uint64_t i = 0; i < chunk; i++)
            if (out[done + i] == 0) return (int64_t)(done + i + 1);
        done += chunk;
    }
    if (size > 0) out[size - 1] = 0;
    return (int64_t)size;
}

int32_t cruntime_compare(const void *a, const void *b, uint64_t size) {
    const volatile uint8_t *x = a, *y = b;
    for (uint64_t i = 0; i < size; i++)
        if (x[i] != y[i]) return (int32_t)x[i] - (int32_t)y[i];
    return 0;
}

uint64_t cruntime_enter_checked(void *memory, size_t size, void *vm, uint64_t code, cruntime_body body) {
    struct cruntime_context context;
    _Alignas(16) uint8_t stack[CRUNTIME_STACK_SIZE];
    __builtin_memset_inline(&context, 0, sizeof context);
    return body(memory, size, vm, code, &context, (uint64_t)(stack + sizeof stack));
}

uint64_t cruntime_enter_unchecked(void *memory, size_t size, const uint64_t *user_helpers, uint64_t code) {
    struct cruntime_context context;
    _Alignas(16) uint8_t stack[CRUNTIME_STACK_SIZE];
    context.stack_low = (uint64_t)stack;
    context.stack_high = (uint64_t)(stack + sizeof stack);
    context.user_helpers = user_helpers;
    context.budget = INT64_MAX;
    context.trap.kind = 0;
    return cruntime_run(code, &context, (uint64_t)memory, size);
}

void cruntime_pause(void) { __builtin_ia32_pause(); }

uint32_t cruntime_cpu_features(void) {
    // CPUID leaves a virtual machine, which takes microseconds; the answer is always the same.
    enum { KNOWN = 1u << 31 };
    static uint32_t known;
    uint32_t features = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (features & KNOWN) return features & ~KNOWN;
    uint32_t a, b, c, d;
    features = KNOWN;
    // CPUID leaf 7, EBX bits 8 and 2 (Intel SDM volume 2, CPUID).
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) features |= (b >> 8 & CRUNTIME_CPU_BMI2) | (b >> 1 & CRUNTIME_CPU_SGX);
    __atomic_store_n(&known, features, __ATOMIC_RELAXED);
    return features & ~KNOWN;
}
