#define _GNU_SOURCE
#include "clinux_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(struct clinux_registers) == sizeof(struct user_regs_struct), "as the kernel lays it out");
_Static_assert(offsetof(struct clinux_registers, fs_base) == offsetof(struct user_regs_struct, fs_base), "");

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif
enum { get_rseq_configuration = 0x420f, pidfd_thread = O_EXCL, event_stop = 128 };

static int32_t request(int operation, int32_t tid, uint64_t address, const void *data) {
    // The library's ptrace() is variadic and changes what PEEK returns; the plain system call does neither.
    return syscall(SYS_ptrace, operation, tid, address, data) < 0 ? -errno : 0;
}

int32_t clinux_seize(int32_t tid, int32_t suspend_seccomp) {
    uint64_t options = PTRACE_O_TRACESYSGOOD | (suspend_seccomp ? PTRACE_O_SUSPEND_SECCOMP : 0);
    return request(PTRACE_SEIZE, tid, 0, (void *)options);
}

int32_t clinux_interrupt(int32_t tid) { return request(PTRACE_INTERRUPT, tid, 0, NULL); }

int32_t clinux_resume(int32_t tid, enum clinux_run run, int32_t signal) {
    int operation = run == clinux_run_step ? PTRACE_SINGLESTEP : run == clinux_run_to_syscall ? PTRACE_SYSCALL : PTRACE_CONT;
    return request(operation, tid, 0, (void *)(intptr_t)signal);
}

int32_t clinux_detach(int32_t tid, int32_t signal) {
    return request(PTRACE_DETACH, tid, 0, (void *)(intptr_t)signal);
}

int32_t clinux_get_registers(int32_t tid, struct clinux_registers *registers) {
    return request(PTRACE_GETREGS, tid, 0, registers);
}

int32_t clinux_set_registers(int32_t tid, const struct clinux_registers *registers) {
    return request(PTRACE_SETREGS, tid, 0, registers);
}

int32_t clinux_get_mask(int32_t tid, uint64_t *mask) { return request(PTRACE_GETSIGMASK, tid, sizeof *mask, mask); }

int32_t clinux_set_mask(int32_t tid, uint64_t mask) { return request(PTRACE_SETSIGMASK, tid, sizeof mask, &mask); }

int32_t clinux_get_filter(int32_t tid, uint64_t index, struct clinux_filter_instruction *instructions) {
    long got = syscall(SYS_ptrace, 0x420c, tid, index, instructions);
    return got < 0 ? -errno : (int32_t)got;
}

int32_t clinux_get_rseq(int32_t tid, struct clinux_rseq *rseq) {
    *rseq = (struct clinux_rseq){0};
    return request(get_rseq_configuration, tid, sizeof *rseq, rseq);
}

uint64_t clinux_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void clinux_sleep(uint64_t nanoseconds) {
    struct timespec time = {.tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};
    int slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    nanosleep(&time, NULL);
    if (slack > 0) prctl(PR_SET_TIMERSLACK, slack, 0, 0, 0);
}

int32_t clinux_wait_stop(int32_t tid, uint64_t deadline, int32_t *signal) {
    // A thread that is on another CPU stops within microseconds: look often at first. One that waits for this CPU needs us to sleep.
    enum { eager = 40 };
    uint64_t pause = 10000;
    for (int round = 0;; round++) {
        int status;
        int got = waitpid(tid, &status, WNOHANG | __WALL);
        if (got < 0 && errno != EINTR) return -errno;
        if (got == tid) {
            *signal = 0;
            if (!WIFSTOPPED(status)) return clinux_stop_ended;
            *signal = WSTOPSIG(status) & 0x7F;
            int event = status >> 16;
            if (event == event_stop) return clinux_stop_event;
            if (event != 0) return clinux_stop_other;
            return WSTOPSIG(status) == (SIGTRAP | 0x80) ? clinux_stop_syscall : clinux_stop_signal;
        }
        if (round < eager) continue;
        if (clinux_now() > deadline) return -ETIMEDOUT;
        clinux_sleep(pause);
        if (pause < 200000) pause += pause / 4;
    }
}

int32_t clinux_read_memory(int32_t pid, uint64_t address, void *bytes, uint64_t size) {
    struct iovec here = {bytes, size}, there = {(void *)address, size};
    ssize_t got = process_vm_readv(pid, &here, 1, &there, 1, 0);
    return got < 0 ? -errno : (uint64_t)got == size ? 0 : -EFAULT;
}

int32_t clinux_write_memory(int32_t pid, uint64_t address, const void *bytes, uint64_t size) {
    struct iovec here = {(void *)bytes, size}, there = {(void *)address, size};
    ssize_t put = process_vm_writev(pid, &here, 1, &there, 1, 0);
    return put < 0 ? -errno : (uint64_t)put == size ? 0 : -EFAULT;
}

int32_t clinux_take_descriptor(int32_t pid, int32_t tid, int32_t descriptor) {
    // The descriptors of a process whose first thread has ended belong to the others (Linux 6.9).
    int file = (int)syscall(SYS_pidfd_open, tid, pidfd_thread);
    if (file < 0) file = (int)syscall(SYS_pidfd_open, pid, 0);
    if (file < 0) return -errno;
    int taken = (int)syscall(SYS_pidfd_getfd, file, descriptor, 0);
    int error = errno;
    close(file);
    return taken < 0 ? -error : taken;
}

int32_t clinux_thread_signal(int32_t pid, int32_t tid, int32_t signal) {
    return syscall(SYS_tgkill, pid, tid, signal) < 0 ? -errno : 0;
}

int32_t clinux_same_memory(int32_t pid, int32_t other) {
    long order = syscall(SYS_kcmp, pid, other, KCMP_VM, 0, 0);
    return order < 0 ? -errno : order == 0;
}

int32_t clinux_may_attach(int32_t tid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", tid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -errno;
    close(file);
    return 0;
}

int32_t clinux_identity(const char *path, uint64_t *device, uint64_t *inode) {
    struct stat status;
    if (stat(path, &status) < 0) return -errno;
    *device = status.st_dev;
    *inode = status.st_ino;
    return 0;
}

struct shielded {
    void (*body)(void *);
    void *context;
};

static int run_shielded(void *argument) {
    struct shielded *shielded = argument;
    // What is sent to the group of the terminal is not for this process.
    setsid();
    shielded->body(shielded->context);
    _exit(0);
}

int32_t clinux_shielded(void (*body)(void *), void *context) {
    enum { stack_size = 1 << 20 };
    struct shielded shielded = {body, context};
    void *stack = mmap(NULL, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) return -errno;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    // CLONE_VFORK: this thread waits, so the two never use its thread-local storage at once. No exit signal: nobody's SIGCHLD.
    int pid = clone(run_shielded, (char *)stack + stack_size, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_FS, &shielded);
    int error = errno;
    if (pid > 0)
        while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR) continue;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    munmap(stack, stack_size);
    return pid < 0 ? -error : 0;
}

static void *run_apart(void *argument) {
    struct shielded *shielded = argument;
    shielded->body(shielded->context);
    return NULL;
}

int32_t clinux_apart(void (*body)(void *), void *context) {
    struct shielded shielded = {body, context};
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run_apart, &shielded);
    if (error == 0) error = pthread_join(thread, NULL);
    return -error;
}
