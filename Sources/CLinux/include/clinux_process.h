// Processes, sockets, memfds and event descriptors for the controller; every function returns -errno on failure.
#ifndef CLINUX_PROCESS_H
#define CLINUX_PROCESS_H

#include <stdint.h>

/// Makes an anonymous memory file of `size` bytes that may be sealed later (memfd_create(2)), mode 0600.
int32_t clinux_memfd(const char *_Nonnull name, uint64_t size);

/// Seals a memory file against resizing, and against writing too when `frozen` is not 0.
int32_t clinux_seal(int32_t fd, int32_t frozen);

/// Makes a robust process-shared mutex in 64 bytes of shared memory and locks it for the calling thread.
int32_t clinux_owner_lock(void *_Nonnull mutex);

/// Unlocks it: its word becomes 0, and every probe of the session finds its owner gone.
int32_t clinux_owner_unlock(void *_Nonnull mutex);

/// A pair of connected SOCK_SEQPACKET sockets, both closed on exec.
int32_t clinux_socket_pair(int32_t *_Nonnull first, int32_t *_Nonnull second);

/// Sends one datagram with up to four descriptors attached (SCM_RIGHTS).
int32_t clinux_send(
    int32_t fd, const void *_Nonnull bytes, uint64_t size, const int32_t *_Nullable descriptors, uint32_t count);

/// Receives one datagram; its size, 0 at the peer's close, or -errno. `descriptors` takes up to `*count` of them.
int32_t clinux_receive(
    int32_t fd, void *_Nonnull bytes, uint64_t size, int32_t *_Nullable descriptors, uint32_t *_Nullable count);

/// The pid of a socket's peer (SO_PEERCRED).
int32_t clinux_peer_pid(int32_t fd);

/// What a child is made of.
struct clinux_child {
    const char *_Nonnull path;
    char *_Nullable const *_Nonnull arguments;    // NULL-terminated
    char *_Nullable const *_Nonnull environment;  // NULL-terminated
    int32_t inherited;  // descriptor that survives the exec, or -1
};

/// A child that waits before its exec.
struct clinux_held {
    int32_t pid;
    int32_t pidfd;
    int32_t gate;    // what it waits for
    int32_t report;  // where it says that the exec failed
};

/// Whether a number is that of an open descriptor.
int32_t clinux_is_open(int32_t fd);

/// Fills closed standard descriptors with /dev/null, opened so that using one fails as it did: otherwise the next file that is opened, a
/// session's socket perhaps, would be standard output. A child that is started has them closed again.
void clinux_keep_standard(void);

/// Makes a child with the signal mask and SIGPIPE and SIGXFSZ dispositions that this process was started with, which waits before its
/// exec; 0 or -errno. It calls no function any more, so that none is seen by probes which it is given meanwhile.
int32_t clinux_hold(const struct clinux_child *_Nonnull child, struct clinux_held *_Nonnull held);
/// Lets it exec. A failure is reported as -errno and leaves no child.
int32_t clinux_release(const struct clinux_held *_Nonnull held);
/// Ends a child that waits.
void clinux_abandon(const struct clinux_held *_Nonnull held);

/// Remembers the signal mask, blocks SIGINT, SIGTERM, SIGCHLD and SIGUSR1, ignores SIGPIPE and SIGXFSZ, and opens a signalfd.
int32_t clinux_signals(void);

/// The next signal of a signalfd, or -EAGAIN.
int32_t clinux_next_signal(int32_t fd);

/// A timerfd that fires every `nanoseconds`, first after one period.
int32_t clinux_timer(uint64_t nanoseconds);

/// A timerfd that fires once.
int32_t clinux_timer_once(uint64_t nanoseconds);

/// How often a timerfd fired since the last call; 0 when it did not.
uint64_t clinux_timer_fired(int32_t fd);

/// A listening socket of an abstract name (unix(7)), close-on-exec; the name, NUL-terminated, in `name` (64 bytes). -errno.
int32_t clinux_listen(char *_Nonnull name);
/// A socket that has an abstract name of its own for as long as it is open, as a lock between processes; -EADDRINUSE.
int32_t clinux_claim(const char *_Nonnull name);
/// Accepts a connection of this user's or root's; -EACCES for anybody else's, which is closed.
int32_t clinux_accept(int32_t fd);

/// pidfd_open(2).
int32_t clinux_pidfd(int32_t pid);

/// Waits until a descriptor is readable; fills `ready` (1 or 0 each); number of ready ones, 0 after `timeout_ms`.
/// Negative descriptors are skipped.
int32_t clinux_poll(const int32_t *_Nonnull fds, uint8_t *_Nonnull ready, uint32_t count, int32_t timeout_ms);

/// Reaps a child: its exit status, 128 + signal, or -EAGAIN while it runs (unless `block`).
int32_t clinux_reap(int32_t pid, int32_t block);

/// Runs a program to its end with standard output and error on two descriptors; its status as `clinux_reap` gives it.
int32_t clinux_run(
    const char *_Nonnull path, char *_Nullable const *_Nonnull arguments, int32_t output, int32_t errors);

/// Local time as `HH:MM:SS` (size >= 9).
void clinux_clock_text(char *_Nonnull out, uint64_t size);

/// Time in RFC 3339 form, UTC with milliseconds (size >= 25).
void clinux_time_text(char *_Nonnull out, uint64_t size);

/// File type and permission bits of a path (st_mode), or -errno.
int32_t clinux_mode(const char *_Nonnull path);

/// What an errno value means (strerrordesc_np(3)); static text.
const char *_Nonnull clinux_error_text(int32_t number);

/// The calling thread's id.
int32_t clinux_thread(void);

/// errno of the last failed library call of this thread.
int32_t clinux_errno(void);

#endif
