// The kernel's task_struct as programs read it: no such memory exists here, so each field that is asked for is made from what the
// kernel tells everybody.
#define _GNU_SOURCE
#include "cruntime.h"

#include <csession.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

#pragma clang attribute push(__attribute__((minsize)), apply_to = function)

// Nobody has memory there: the upper half of addresses is the kernel's.
#define BASE 0xffffc00000000000ull
#define PIDS (1ull << 22)

uint64_t cruntime_task_address(uint64_t pid) { return BASE | pid << 16; }

int32_t cruntime_is_task(uint64_t address) { return address - BASE < PIDS << 16; }

// A file of /proc/PID; its length, at most `size`, or -errno.
static int64_t read_file(uint64_t pid, const char *name, char *buffer, uint64_t size) {
    char path[40] = "/proc/", digits[20];
    uint32_t length = 6, count = 0;
    do digits[count++] = (char)('0' + pid % 10);
    while ((pid /= 10) != 0);
    while (count > 0) path[length++] = digits[--count];
    for (; *name != 0; name++) path[length++] = *name;
    path[length] = 0;
    int64_t file = cruntime_syscall(SYS_open, (int64_t)path, O_RDONLY | O_CLOEXEC, 0, 0, 0, 0);
    if (file < 0) return file;
    int64_t got = cruntime_syscall(SYS_read, file, (int64_t)buffer, (int64_t)size, 0, 0, 0);
    cruntime_syscall(SYS_close, file, 0, 0, 0, 0, 0);
    return got;
}

// A number of /proc/PID/stat, by its place in proc(5), 4 or more; -errno where there is none.
static int64_t status_number(uint64_t pid, uint32_t place) {
    char text[512];
    int64_t length = read_file(pid, "/stat", text, sizeof text);
    if (length < 0) return length;
    // The name, which is the second, may hold anything; the third comes after its last parenthesis.
    int64_t at = length;
    while (at > 0 && text[at - 1] != ')') at--;
    for (place -= 2; at < length && place > 0; at++) place -= text[at] == ' ';
    if (place > 0 || at >= length) return -ESRCH;
    uint64_t number = 0;
    for (; at < length && text[at] >= '0' && text[at] <= '9'; at++) number = number * 10 + (uint64_t)(text[at] - '0');
    return (int64_t)number;
}

int64_t cruntime_task_read(
    const struct csession_task *layout, uint64_t pid_tgid, uint64_t address, void *destination, uint64_t size) {
    uint64_t pid = (address - BASE) >> 16, offset = address & 0xffff;
    uint64_t own = (uint32_t)pid_tgid, group = pid_tgid >> 32;
    // Of threads that are not the first of their process, programs reach only their own.
    uint64_t leader = pid == own ? group : pid;
    union {
        char bytes[16];
        uint64_t number;
    } value = {{0}};
    uint64_t start = 0;
    int64_t number = 0;
#define LIES_IN(field, length) (layout->field != 0 && offset >= (start = layout->field) && offset + size <= start + (length))
    if (size > sizeof value) {
        number = -EFAULT;
    } else if (LIES_IN(pid, 4)) {
        number = (int64_t)pid;
    } else if (LIES_IN(tgid, 4)) {
        number = (int64_t)leader;
    } else if (LIES_IN(exit_code, 4)) {
        // Nobody runs programs after its end.
    } else if (LIES_IN(group_leader, 8)) {
        number = (int64_t)leader;
    } else if (LIES_IN(real_parent, 8) || LIES_IN(parent, 8)) {
        number = leader == group ? cruntime_syscall(SYS_getppid, 0, 0, 0, 0, 0, 0) : status_number(pid, 4);
    } else if (LIES_IN(start_time, 8) || LIES_IN(start_boottime, 8)) {
        number = status_number(pid, 22);
        // In ticks of 10 ms (USER_HZ).
        if (number > 0) number *= 10000000;
    } else if (LIES_IN(comm, 16)) {
        if (pid == own) {
            cruntime_get_comm((struct cruntime_comm *)value.bytes);
        } else {
            int64_t length = read_file(pid, "/comm", value.bytes, sizeof value.bytes);
            if (length <= 0) number = -EFAULT;
            // It ends with a line feed.
            else cruntime_zero(value.bytes + length - 1, sizeof value.bytes - (uint64_t)length + 1);
        }
    } else {
        number = -EFAULT;
    }
    if (number < 0) {
        cruntime_zero(destination, size);
        return -EFAULT;
    }
    if (start != layout->comm) {
        int isPointer = start == layout->group_leader || start == layout->real_parent || start == layout->parent;
        value.number = isPointer ? cruntime_task_address((uint64_t)number) : (uint64_t)number;
    }
    cruntime_copy(destination, value.bytes + (offset - start), size);
    return 0;
}

int64_t cruntime_task_read_string(
    const struct csession_task *layout, uint64_t pid_tgid, uint64_t address, void *destination, uint64_t size) {
    struct cruntime_comm name;
    uint64_t start = address & 0xffff, end = layout->comm + sizeof name;
    char *out = destination;
    if (start < layout->comm || start >= end
        || cruntime_task_read(layout, pid_tgid, address, &name, end - start) != 0) {
        cruntime_zero(out, size);
        return -EFAULT;
    }
    for (uint64_t i = 0; i < size && i < end - start; i++)
        if ((out[i] = name.bytes[i]) == 0) return (int64_t)i + 1;
    // A name ends in time, so this is a place too small for it.
    out[size - 1] = 0;
    return (int64_t)size;
}

#pragma clang attribute pop
