// ptrace(2), the memory and descriptors of other processes; every function returns -errno on failure.
#ifndef CLINUX_TRACE_H
#define CLINUX_TRACE_H

#include <stdint.h>

/// The registers of a stopped thread, laid out as struct user_regs_struct (sys/user.h).
struct clinux_registers {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax;
    uint64_t rip, cs, eflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs;
};

/// Where a thread has registered its rseq area (PTRACE_GET_RSEQ_CONFIGURATION).
struct clinux_rseq {
    uint64_t address;
    uint32_t size;
    uint32_t signature;
    uint32_t flags;
    uint32_t padding;
};

/// How a wait for a tracee ended.
enum clinux_stop {
    clinux_stop_syscall,     // at the entry or exit of a system call
    clinux_stop_event,       // by PTRACE_INTERRUPT, or with its whole group by a stop signal
    clinux_stop_signal,      // about to receive a signal
    clinux_stop_other,       // another ptrace event
    clinux_stop_ended,       // it ended or was killed
};

/// PTRACE_SEIZE with PTRACE_O_TRACESYSGOOD, and PTRACE_O_SUSPEND_SECCOMP if asked for.
int32_t clinux_seize(int32_t tid, int32_t suspend_seccomp);
int32_t clinux_interrupt(int32_t tid);
/// How far a tracee runs.
enum clinux_run {
    clinux_run_on,
    clinux_run_to_syscall,    // to the next entry or exit of a system call
    clinux_run_step,          // one instruction
};

/// Resumes with `signal` delivered.
int32_t clinux_resume(int32_t tid, enum clinux_run run, int32_t signal);
int32_t clinux_detach(int32_t tid, int32_t signal);
int32_t clinux_get_registers(int32_t tid, struct clinux_registers *_Nonnull registers);
int32_t clinux_set_registers(int32_t tid, const struct clinux_registers *_Nonnull registers);
int32_t clinux_get_mask(int32_t tid, uint64_t *_Nonnull mask);
int32_t clinux_set_mask(int32_t tid, uint64_t mask);
/// One instruction of a classic BPF program (struct sock_filter of linux/filter.h).
struct clinux_filter_instruction {
    uint16_t code;
    uint8_t jt, jf;
    uint32_t k;
};
/// A stopped thread's seccomp filter number `index`: its length, and its instructions where `instructions` is not null; -ENOENT
/// after the last, -EACCES for all but root outside of any filter (PTRACE_SECCOMP_GET_FILTER).
int32_t clinux_get_filter(int32_t tid, uint64_t index, struct clinux_filter_instruction *_Nullable instructions);
int32_t clinux_get_rseq(int32_t tid, struct clinux_rseq *_Nonnull rseq);

/// Waits until a tracee stops: an `enum clinux_stop` with the signal in `*signal`, -ETIMEDOUT at `deadline` (CLOCK_MONOTONIC), or -ECHILD
/// when it is no tracee of ours any more.
int32_t clinux_wait_stop(int32_t tid, uint64_t deadline, int32_t *_Nonnull signal);

/// Copies from or to another process's memory (process_vm_readv(2)); 0 only when all of it was.
int32_t clinux_read_memory(int32_t pid, uint64_t address, void *_Nonnull bytes, uint64_t size);
int32_t clinux_write_memory(int32_t pid, uint64_t address, const void *_Nonnull bytes, uint64_t size);

/// A copy of another process's descriptor (pidfd_getfd(2)). `tid` may be any of its threads where the kernel has PIDFD_THREAD.
int32_t clinux_take_descriptor(int32_t pid, int32_t tid, int32_t descriptor);

/// tgkill(2).
int32_t clinux_thread_signal(int32_t pid, int32_t tid, int32_t signal);

/// Whether two processes share one address space (kcmp(2)): 1, 0 or -errno.
int32_t clinux_same_memory(int32_t pid, int32_t other);

/// CLOCK_MONOTONIC in nanoseconds.
uint64_t clinux_now(void);

/// Sleeps for so many nanoseconds, without the timer slack that the kernel adds.
void clinux_sleep(uint64_t nanoseconds);

/// Whether the caller may PTRACE_ATTACH the process, without touching it: opens and closes /proc/PID/mem, which asks the same questions
/// (proc(5)); 0 or -errno.
int32_t clinux_may_attach(int32_t tid);

/// Device and inode of a path, or -errno.
int32_t clinux_identity(const char *_Nonnull path, uint64_t *_Nonnull device, uint64_t *_Nonnull inode);

/// Runs `body` in a process of its own that shares this one's memory and descriptors, while the calling thread waits. A SIGKILL for this
/// process does not stop it. -errno when it could not be started.
int32_t clinux_shielded(void (*_Nonnull body)(void *_Nonnull), void *_Nonnull context);

/// Runs `body` in a thread of its own, while the calling thread waits; -errno when it could not be started.
int32_t clinux_apart(void (*_Nonnull body)(void *_Nonnull), void *_Nonnull context);

#endif
