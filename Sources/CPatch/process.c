// The process around the agent: environment, mappings, sockets, code bytes. Raw system calls; no allocation, no stdio.
#define _GNU_SOURCE
#include "clive.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct cpatch_process cpatch_the_process;
struct cpatch_session cpatch_sessions[CPATCH_SESSIONS];

#define CALL(number, a, b, c) cruntime_syscall((number), (int64_t)(a), (int64_t)(b), (int64_t)(c), 0, 0, 0)

// ---- Memory ----

uint8_t *cpatch_allocate(uint64_t size, uint64_t hint) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (hint != 0 ? MAP_FIXED_NOREPLACE : 0);
    int64_t got = cruntime_syscall(SYS_mmap, (int64_t)hint, (int64_t)size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (got < 0 && got > -4096) return NULL;
    if (hint != 0 && (uint64_t)got != hint) {
        // A kernel before 4.17 took the address as a wish.
        CALL(SYS_munmap, got, size, 0);
        return NULL;
    }
    return (uint8_t *)got;
}

int32_t cpatch_protect(void *memory, uint64_t size, int32_t executable) {
    return (int32_t)CALL(SYS_mprotect, memory, size, PROT_READ | (executable ? PROT_EXEC : 0));
}

void cpatch_release(void *memory, uint64_t size) { CALL(SYS_munmap, memory, size, 0); }

volatile uint64_t *cpatch_presence(void) {
    uint8_t *page = cpatch_allocate(4096, 0);
    if (page == NULL) return NULL;
    if (CALL(SYS_madvise, page, 4096, MADV_WIPEONFORK) != 0) {
        cpatch_release(page, 4096);
        return NULL;
    }
    *(volatile uint64_t *)page = 1;
    return (volatile uint64_t *)page;
}

static uint64_t distance = 64ull << 30;

uint8_t *cpatch_map(int32_t descriptor, int32_t writable, uint64_t *size) {
    struct stat status;
    if (CALL(SYS_fstat, descriptor, &status, 0) != 0 || status.st_size <= 0) return NULL;
    int protection = PROT_READ | (writable ? PROT_WRITE : 0);
    // Far from all libraries, whose neighbourhood is for islands; a wish, if something is there already.
    uint64_t size_here = ((uint64_t)status.st_size + 4095) & ~4095ull;
    uint64_t place = ((uint64_t)&cpatch_map & ~4095ull) - distance - size_here;
    if (place > (uint64_t)&cpatch_map) place = 0;
    int64_t got = cruntime_syscall(SYS_mmap, (int64_t)place, status.st_size, protection, MAP_SHARED, descriptor, 0);
    if (got == (int64_t)place && place != 0) distance += size_here + (1 << 20);
    if (got < 0 && got > -4096) return NULL;
    *size = (uint64_t)status.st_size;
    // Maps are large and mostly untouched; a core file would hold them in full.
    CALL(SYS_madvise, got, status.st_size, MADV_DONTDUMP);
    return (uint8_t *)got;
}

int32_t cpatch_map_arrays(const uint8_t *image, uint8_t *shared, struct cpatch_descriptors *files) {
    const struct csession_image *header = (const struct csession_image *)image;
    const struct csession_map *map = (const struct csession_map *)(image + header->maps_offset);
    for (uint32_t left = header->map_count; left > 0; left--, map++) {
        if (map->kernel == 0 || map->storage != CSESSION_STORAGE_SHARED) continue;
        int64_t got = cruntime_syscall(
            SYS_mmap, (int64_t)(shared + map->values_offset), (int64_t)map->values_size, PROT_READ | PROT_WRITE,
            MAP_SHARED | MAP_FIXED, files->number[3], 0);
        if (got < 0 && got > -4096) return (int32_t)got;
        // A mapping needs no descriptor.
        CALL(SYS_close, files->number[3], 0, 0);
        for (uint32_t i = 3; i < CPATCH_DESCRIPTORS; i++) files->number[i] = i + 1 < CPATCH_DESCRIPTORS ? files->number[i + 1] : -1;
    }
    return 0;
}

void cpatch_close_all(const struct cpatch_descriptors *files) {
    for (uint32_t i = 0; i < CPATCH_DESCRIPTORS; i++)
        if (files->number[i] >= 0) CALL(SYS_close, files->number[i], 0, 0);
}

// ---- Code bytes ----

int32_t cpatch_write_code(uint64_t address, const uint8_t *bytes, uint64_t size) {
    // Linux 6.12 can forbid this (proc_mem.force_override); then the page is writable, not executable, for a moment.
    if (cruntime_write_live(address, bytes, size) == 0
        && cruntime_compare((const void *)address, bytes, size) == 0)
        return 0;
    uint64_t low = address & ~4095ull, high = (address + size + 4095) & ~4095ull;
    int64_t failed = CALL(SYS_mprotect, low, high - low, PROT_READ | PROT_WRITE);
    if (failed != 0) return (int32_t)failed;
    cruntime_copy((void *)address, bytes, size);
    failed = CALL(SYS_mprotect, low, high - low, PROT_READ | PROT_EXEC);
    if (failed != 0) return (int32_t)failed;
    return cruntime_compare((const void *)address, bytes, size) == 0 ? 0 : -EIO;
}

// ---- Guarded reads ----

static struct cruntime_guard guard;
static int32_t guards;

static int32_t is_guard(const struct cpatch_mapping *mapping, void *found) {
    // The kernel's fixups are those of the mapping that it calls so, wherever the program has moved it.
    if (mapping->is_vdso) *(int32_t *)found = mapping->start == guard.vdso;
    return 1;
}

void cpatch_guard_reads(void) {
    int32_t found = 0;
    if (guards || !cruntime_find_guard(&guard)) return;
    if (!cpatch_each_mapping(is_guard, &found) || !found) return;
    guards = cruntime_set_guard(&guard, 1) == 0;
}

void cpatch_unguard_reads(void) {
    if (guards) guards = cruntime_set_guard(&guard, 0) != 0;
}

uint32_t cpatch_thread_count(void) {
    struct stat status;
    // proc_task_getattr (fs/proc/base.c): two links of its own and one for each thread.
    if (CALL(SYS_stat, "/proc/self/task", &status, 0) != 0 || status.st_nlink < 3) return 0;
    return (uint32_t)status.st_nlink - 2;
}

// ---- Mappings ----

int32_t cpatch_each_mapping(int32_t (*visit)(const struct cpatch_mapping *, void *), void *data) {
    char buffer[512];
    int64_t fd = CALL(SYS_open, "/proc/thread-self/maps", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return 0;
    struct cpatch_mapping mapping = {0};
    uint32_t field = 0, bracket = 0;
    int32_t done = 0;
    char last = ' ';
    while (!done) {
        int64_t got = CALL(SYS_read, fd, buffer, sizeof buffer);
        if (got == -EINTR) continue;
        if (got <= 0) {
            done = got == 0;
            break;
        }
        for (int64_t i = 0; i < got && !done; i++) {
            char c = buffer[i];
            uint64_t digit = c >= 'a' ? (uint64_t)(c - 'a' + 10) : (uint64_t)(c - '0');
            if (c == '\n') {
                done = !visit(&mapping, data);
                mapping = (struct cpatch_mapping){0};
                field = 0;
                bracket = 0;
            } else if (field == 0 && c == '-') {
                field = 1;
            } else if (field < 5 && c == ' ') {
                if (last != ' ') field = field == 0 ? 1 : field + 1;
            } else if (field == 0) {
                mapping.start = mapping.start << 4 | digit;
            } else if (field == 1) {
                mapping.end = mapping.end << 4 | digit;
            } else if (field == 2) {
                mapping.readable |= c == 'r';
                mapping.writable |= c == 'w';
                mapping.executable |= c == 'x';
            } else if (c == '[') {
                bracket = 1;
            } else if (bracket == 1) {
                mapping.is_stack = c == 's';
                mapping.is_heap = c == 'h';
                bracket = 2;
            } else if (bracket == 2) {
                mapping.is_vdso = last == 'v' && c == 'd';
                bracket = 3;
            }
            last = c;
        }
    }
    CALL(SYS_close, fd, 0, 0);
    return done;
}

struct gap {
    uint64_t address, size, previous_end, best;
    uint32_t previous_is_heap;
};

static int32_t look_below(const struct cpatch_mapping *mapping, void *data) {
    enum { PAGE = 4096, LOWEST = 65536 };
    const uint64_t reach = 0x70000000, heap_room = 8ull << 30;
    struct gap *gap = data;
    uint64_t floor = gap->previous_end < LOWEST ? LOWEST : gap->previous_end;
    uint64_t need = gap->size + 2 * PAGE;  // and a page on both sides
    // Just below a mapping: what is above one may be where it grows to (brk, mremap); what grows down is left alone.
    if (mapping->start > floor && mapping->start - floor >= need && !mapping->is_stack
        && !(gap->previous_is_heap && mapping->start - floor < heap_room)) {
        uint64_t place = mapping->start - PAGE - gap->size;
        uint64_t distance = place > gap->address ? place - gap->address : gap->address - place;
        uint64_t best = gap->best > gap->address ? gap->best - gap->address : gap->address - gap->best;
        if (distance < reach && (gap->best == 0 || distance < best)) gap->best = place;
    }
    gap->previous_end = mapping->end;
    gap->previous_is_heap = mapping->is_heap;
    return 1;
}

uint64_t cpatch_find_gap(uint64_t address, uint64_t size) {
    struct gap gap = {address, size, 0, 0, 0};
    return cpatch_each_mapping(look_below, &gap) ? gap.best : 0;
}

// ---- Messages ----

int32_t cpatch_send(int32_t socket, const struct csession_message *message) {
    int64_t sent;
    do {
        sent = cruntime_syscall(
            SYS_sendto, socket, (int64_t)message, sizeof *message, MSG_NOSIGNAL, 0, 0);
    } while (sent == -EINTR);
    return sent < 0 ? (int32_t)sent : 0;
}

int32_t cpatch_receive(int32_t socket, struct csession_message *message, int32_t *descriptors) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(CPATCH_DESCRIPTORS * sizeof(int))];
    } control;
    struct iovec part = {message, sizeof *message};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int64_t got;
    do {
        got = CALL(SYS_recvmsg, socket, &header, MSG_CMSG_CLOEXEC);
    } while (got == -EINTR);
    for (uint32_t i = 0; i < CPATCH_DESCRIPTORS; i++) descriptors[i] = -1;
    uint32_t count = 0;
    if (got >= 0)
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c != NULL; c = CMSG_NXTHDR(&header, c)) {
            if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
            uint64_t fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (uint64_t i = 0; i < fds; i++) {
                int fd;
                cruntime_copy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                if (count < CPATCH_DESCRIPTORS)
                    descriptors[count++] = fd;
                else
                    CALL(SYS_close, fd, 0, 0);
            }
        }
    if (got == 0) return -EPIPE;
    if (got < 0) return (int32_t)got;
    return got == (int64_t)sizeof *message ? 0 : -EBADMSG;
}
