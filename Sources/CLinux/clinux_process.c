#define _GNU_SOURCE
#include "clinux_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int32_t clinux_memfd(const char *name, uint64_t size) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -errno;
    if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int32_t clinux_is_open(int32_t fd) { return fcntl(fd, F_GETFD) >= 0; }

void clinux_keep_standard(void) {
    for (int fd = 0; fd <= 2; fd++)
        while (fcntl(fd, F_GETFD) < 0)
            if (open("/dev/null", (fd == 0 ? O_WRONLY : O_RDONLY) | O_CLOEXEC) < 0) return;
}

int32_t clinux_seal(int32_t fd, int32_t frozen) {
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | (frozen ? F_SEAL_WRITE : 0);
    // F_SEAL_SEAL: nobody, the target included, changes the seals afterwards.
    return fcntl(fd, F_ADD_SEALS, seals | F_SEAL_SEAL) < 0 ? -errno : 0;
}

_Static_assert(sizeof(pthread_mutex_t) <= 64, "csession_shared.owner holds a pthread_mutex_t");

int32_t clinux_owner_lock(void *mutex) {
    pthread_mutexattr_t attributes;
    int error = pthread_mutexattr_init(&attributes);
    if (error == 0) error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (error == 0) error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (error == 0) error = pthread_mutex_init(mutex, &attributes);
    if (error == 0) error = pthread_mutex_lock(mutex);
    pthread_mutexattr_destroy(&attributes);
    return -error;
}

int32_t clinux_owner_unlock(void *mutex) { return -pthread_mutex_unlock(mutex); }

int32_t clinux_socket_pair(int32_t *first, int32_t *second) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
    *first = pair[0];
    *second = pair[1];
    return 0;
}

enum { max_descriptors = 20 };

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(max_descriptors * sizeof(int))];
};

int32_t clinux_send(int32_t fd, const void *bytes, uint64_t size, const int32_t *descriptors, uint32_t count) {
    if (count > max_descriptors) return -EINVAL;
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    union control control = {0};
    if (count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
    }
    ssize_t sent;
    do sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

int32_t clinux_receive(int32_t fd, void *bytes, uint64_t size, int32_t *descriptors, uint32_t *count) {
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    union control control = {0};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    uint32_t room = count && descriptors ? *count : 0, filled = 0;
    ssize_t got;
    do got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0) return -errno;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
        size_t number = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < number; i++) {
            int received;
            memcpy(&received, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
            if (filled < room) {
                descriptors[filled++] = received;
            } else {
                close(received);
            }
        }
    }
    if (count) *count = filled;
    return (int32_t)got;
}

int32_t clinux_peer_pid(int32_t fd) {
    struct ucred peer;
    socklen_t size = sizeof(peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ? -errno : peer.pid;
}

int32_t clinux_claim(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    if (length >= sizeof address.sun_path) return -ENAMETOOLONG;
    memcpy(address.sun_path + 1, name, length);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)) == 0) return fd;
    int error = errno;
    close(fd);
    return -error;
}

int32_t clinux_listen(char *name) {
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    // No path: the kernel chooses an abstract name.
    socklen_t size = sizeof(sa_family_t);
    if (bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 64) == 0) {
        size = sizeof address;
        if (getsockname(fd, (struct sockaddr *)&address, &size) == 0) {
            size_t length = size - offsetof(struct sockaddr_un, sun_path) - 1;
            if (length < 64) {
                memcpy(name, address.sun_path + 1, length);
                name[length] = 0;
                return fd;
            }
        }
    }
    int error = errno;
    close(fd);
    return error != 0 ? -error : -EINVAL;
}

int32_t clinux_accept(int32_t fd) {
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (peer < 0) return -errno;
    struct ucred who;
    socklen_t size = sizeof who;
    if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && (who.uid == geteuid() || geteuid() == 0)) return peer;
    close(peer);
    return -EACCES;
}

static sigset_t original_mask;
static struct sigaction original_sigpipe, original_sigxfsz;
static int signals_taken;

int32_t clinux_signals(void) {
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGUSR1);
    if (!signals_taken) {
        struct sigaction ignore = {.sa_handler = SIG_IGN};
        if (sigprocmask(SIG_BLOCK, &wanted, &original_mask) < 0) return -errno;
        if (sigaction(SIGPIPE, &ignore, &original_sigpipe) < 0) return -errno;
        // A memfd counts against RLIMIT_FSIZE; too small a limit is then an error with a name.
        if (sigaction(SIGXFSZ, &ignore, &original_sigxfsz) < 0) return -errno;
        signals_taken = 1;
    }
    int fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int32_t clinux_next_signal(int32_t fd) {
    struct signalfd_siginfo info;
    ssize_t got = read(fd, &info, sizeof(info));
    if (got < 0) return -errno;
    return got == sizeof(info) ? (int32_t)info.ssi_signo : -EAGAIN;
}

// A system call without a function of libc's, which may have been given a probe.
static inline long direct(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

// Runs in the child between fork and exec: async-signal-safe calls only.
static void become(const struct clinux_child *child, int gate, int failure) {
    int error = 0;
    if (child->inherited >= 0) {
        int flags = fcntl(child->inherited, F_GETFD);
        if (flags < 0 || fcntl(child->inherited, F_SETFD, flags & ~FD_CLOEXEC) < 0) error = errno;
    }
    if (signals_taken) {
        sigaction(SIGPIPE, &original_sigpipe, NULL);
        sigaction(SIGXFSZ, &original_sigxfsz, NULL);
        sigprocmask(SIG_SETMASK, &original_mask, NULL);
    }
    char word;
    long got;
    // From here on it calls nothing that may be given a probe.
    int ready = 0;
    direct(SYS_write, failure, (long)&ready, sizeof ready);
    do got = direct(SYS_read, gate, (long)&word, 1);
    while (got == -EINTR);
    // Without a word there is nobody any more.
    if (got == 1) {
        if (error == 0) error = (int)-direct(SYS_execve, (long)child->path, (long)child->arguments, (long)child->environment);
        direct(SYS_write, failure, (long)&error, sizeof(error));
    }
    for (;;) direct(SYS_exit_group, 127, 0, 0);
}

int32_t clinux_hold(const struct clinux_child *child, struct clinux_held *held) {
    int report[2], gate[2];
    if (pipe2(report, O_CLOEXEC) < 0) return -errno;
    if (pipe2(gate, O_CLOEXEC) < 0) {
        int error = errno;
        close(report[0]);
        close(report[1]);
        return -error;
    }
    pid_t pid = fork();
    int error = errno;
    if (pid == 0) {
        close(gate[1]);
        become(child, gate[0], report[1]);
    }
    close(report[1]);
    close(gate[0]);
    if (pid < 0) {
        close(report[0]);
        close(gate[1]);
        return -error;
    }
    *held = (struct clinux_held){.pid = pid, .pidfd = clinux_pidfd(pid), .gate = gate[1], .report = report[0]};
    if (held->pidfd >= 0) {
        int ready;
        ssize_t got;
        do got = read(held->report, &ready, sizeof ready);
        while (got < 0 && errno == EINTR);
        return 0;
    }
    clinux_abandon(held);
    return held->pidfd;
}

int32_t clinux_release(const struct clinux_held *held) {
    char word = 1;
    int error = 0;
    ssize_t got;
    do got = write(held->gate, &word, 1);
    while (got < 0 && errno == EINTR);
    close(held->gate);
    do got = read(held->report, &error, sizeof(error));
    while (got < 0 && errno == EINTR);
    close(held->report);
    if (got != sizeof(error)) return 0;
    waitpid(held->pid, NULL, 0);
    return -error;
}

void clinux_abandon(const struct clinux_held *held) {
    close(held->gate);
    close(held->report);
    waitpid(held->pid, NULL, 0);
}

static int32_t timer(uint64_t nanoseconds, int repeat) {
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0) return -errno;
    if (nanoseconds == 0) nanoseconds = 1;
    struct timespec period = {.tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};
    struct itimerspec setting = {.it_value = period};
    if (repeat) setting.it_interval = period;
    if (timerfd_settime(fd, 0, &setting, NULL) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int32_t clinux_timer(uint64_t nanoseconds) { return timer(nanoseconds, 1); }

int32_t clinux_timer_once(uint64_t nanoseconds) { return timer(nanoseconds, 0); }

uint64_t clinux_timer_fired(int32_t fd) {
    uint64_t times = 0;
    return read(fd, &times, sizeof(times)) == sizeof(times) ? times : 0;
}

int32_t clinux_pidfd(int32_t pid) {
    long fd = syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : (int32_t)fd;
}

int32_t clinux_poll(const int32_t *fds, uint8_t *ready, uint32_t count, int32_t timeout_ms) {
    struct pollfd few[64];
    struct pollfd *set = count > sizeof(few) / sizeof(few[0]) ? calloc(count, sizeof *set) : few;
    if (set == NULL) return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) set[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    int number;
    do number = poll(set, count, timeout_ms);
    while (number < 0 && errno == EINTR);
    int result = number < 0 ? -errno : number;
    for (uint32_t i = 0; i < count; i++) ready[i] = set[i].revents != 0;
    if (set != few) free(set);
    return result;
}

int32_t clinux_reap(int32_t pid, int32_t block) {
    int status;
    pid_t got;
    do got = waitpid(pid, &status, block ? 0 : WNOHANG);
    while (got < 0 && errno == EINTR);
    if (got < 0) return -errno;
    if (got == 0) return -EAGAIN;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void clinux_clock_text(char *out, uint64_t size) {
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    strftime(out, size, "%H:%M:%S", &local);
}

void clinux_time_text(char *out, uint64_t size) {
    struct timespec now;
    struct tm utc;
    char seconds[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out, size, "%s.%03dZ", seconds, (int)(now.tv_nsec / 1000000));
}

int32_t clinux_mode(const char *path) {
    struct stat status;
    return stat(path, &status) < 0 ? -errno : (int32_t)status.st_mode;
}

const char *clinux_error_text(int32_t number) {
    const char *text = strerrordesc_np(number < 0 ? -number : number);
    return text ? text : "unknown error";
}

int32_t clinux_thread(void) { return gettid(); }

int32_t clinux_errno(void) { return errno; }

int32_t clinux_run(const char *path, char *const *arguments, int32_t output, int32_t errors) {
    pid_t pid = fork();
    if (pid < 0) return -errno;
    if (pid == 0) {
        if (signals_taken) {
            sigaction(SIGPIPE, &original_sigpipe, NULL);
            sigaction(SIGXFSZ, &original_sigxfsz, NULL);
            sigprocmask(SIG_SETMASK, &original_mask, NULL);
        }
        if (dup2(output, 1) < 0 || dup2(errors, 2) < 0) _exit(127);
        execv(path, arguments);
        dprintf(2, "cannot start %s: %s\n", path, strerrordesc_np(errno));
        _exit(127);
    }
    return clinux_reap(pid, 1);
}
