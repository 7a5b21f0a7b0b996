// Everything in section `inject_code` is copied into another process and runs there at another address: no relocations, no libc, no
// constants outside of the code. See Documentation/Attaching.md for the protocol.
#define _GNU_SOURCE
#include "clinux_inject.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

// The compiler may not use vector registers here: their constants would lie elsewhere.
#define INJECTED __attribute__((section("inject_code"), target("general-regs-only"), noinline, used))

_Static_assert(sizeof(pthread_attr_t) <= sizeof(((struct clinux_inject_block *)0)->attributes), "pthread_attr_t");

INJECTED static int64_t call(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    int64_t result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

INJECTED static void publish(struct clinux_inject_block *block, int32_t state, int64_t error) {
    block->error = (int32_t)-error;
    __atomic_store_n(&block->state, state, __ATOMIC_RELEASE);
}

INJECTED static void set_mask(uint64_t mask) {
    call(SYS_rt_sigprocmask, SIG_SETMASK, (uint64_t)&mask, 0, sizeof mask, 0);
}

/// Whether a socket pair, and a memory file if one is wanted, could be made.
INJECTED static int64_t open_descriptors(struct clinux_inject_block *block) {
    int pair[2];
    int64_t failed = call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (uint64_t)pair, 0);
    if (failed < 0) {
        publish(block, clinux_inject_no_sockets, failed);
        return 0;
    }
    block->given = pair[0];
    block->kept = pair[1];
    // Programs close or overwrite low numbers that they believe to be theirs.
    int64_t high = call(SYS_fcntl, (uint64_t)pair[1], F_DUPFD_CLOEXEC, block->first_socket, 0, 0);
    if (high >= 0) {
        call(SYS_close, (uint64_t)pair[1], 0, 0, 0, 0);
        block->kept = (int32_t)high;
    }
    if (!block->wants_file) return 1;
    enum { cloexec = 1, executable = 0x10 };
    // MFD_EXEC is Linux 6.3; before, all memory files are executable.
    int64_t file = call(SYS_memfd_create, (uint64_t)block->path, cloexec | executable, 0, 0, 0);
    if (file < 0) file = call(SYS_memfd_create, (uint64_t)block->path, cloexec, 0, 0, 0);
    if (file < 0) {
        publish(block, clinux_inject_no_file, file);
        return 0;
    }
    block->file = (int32_t)file;
    return 1;
}

INJECTED static void close_all(struct clinux_inject_block *block) {
    if (block->given >= 0) call(SYS_close, (uint64_t)block->given, 0, 0, 0, 0);
    if (block->kept >= 0) call(SYS_close, (uint64_t)block->kept, 0, 0, 0, 0);
    if (block->file >= 0) call(SYS_close, (uint64_t)block->file, 0, 0, 0, 0);
    block->given = block->kept = block->file = -1;
}

/// Waits for the injector's datagram, which says that it has taken the other end and filled the file.
INJECTED static int64_t await_injector(struct clinux_inject_block *block) {
    struct pollfd socket = {.fd = block->kept, .events = POLLIN};
    int64_t ready = call(SYS_poll, (uint64_t)&socket, 1, block->patience, 0, 0);
    if (ready <= 0) return ready < 0 ? ready : -ETIMEDOUT;
    char byte;
    int64_t got = call(SYS_read, (uint64_t)block->kept, (uint64_t)&byte, 1, 0, 0);
    return got == 1 ? 0 : got < 0 ? got : -EPIPE;
}

/// Makes the worker; 0, or an errno value negated.
INJECTED static int64_t create_worker(struct clinux_inject_block *block) {
    pthread_attr_t *attributes = (pthread_attr_t *)block->attributes;
    ((int (*)(pthread_attr_t *))block->attr_init)(attributes);
    int failed = ((int (*)(pthread_attr_t *, void *, size_t))block->attr_setstack)(
        attributes, (void *)block->stack, block->stack_size);
    if (failed == 0)
        failed = ((int (*)(pthread_attr_t *, int))block->attr_setdetachstate)(attributes, PTHREAD_CREATE_DETACHED);
    if (failed == 0)
        failed = ((int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))block->create)(
            (pthread_t *)&block->thread_id, attributes, (void *(*)(void *))block->worker, block);
    return -failed;
}

/// Ends what others have tied to the first thread, as its end by libc would: an allocator other than libc's keeps a list of its threads.
INJECTED static void run_destructors(struct clinux_inject_block *block) {
    struct key {
        uint64_t sequence;    // odd while the key is in use
        void (*destroy)(void *);
    };
    const volatile struct key *keys = (const volatile struct key *)block->keys;
    for (uint32_t round = 0, again = 1; again && round < PTHREAD_DESTRUCTOR_ITERATIONS; round++) {
        again = 0;
        for (uint32_t key = 0; key < PTHREAD_KEYS_MAX; key++) {
            void (*destroy)(void *) = keys[key].destroy;
            if (!(keys[key].sequence & 1) || destroy == NULL) continue;
            void *value = ((void *(*)(uint32_t))block->getspecific)(key);
            if (value == NULL) continue;
            ((int (*)(uint32_t, const void *))block->setspecific)(key, NULL);
            destroy(value);
            again = 1;
        }
    }
}

/// The first thread: not one of libc's, with thread-local storage that only looks like it. It makes one of libc's and ends.
INJECTED static void first_thread(struct clinux_inject_block *block) {
    *(int32_t *)(block->thread + block->tid_offset) = block->helper;
    if (block->rseq_size != 0)
        call(SYS_rseq, block->thread + block->rseq_offset, block->rseq_size, 0, block->rseq_signature, 0);
    call(SYS_mprotect, block->guard, 4096, PROT_NONE, 0, 0);
    set_mask(block->first_mask);
    if (open_descriptors(block)) {
        publish(block, clinux_inject_sockets, 0);
        int64_t failed = await_injector(block);
        if (failed < 0) {
            publish(block, clinux_inject_no_answer, failed);
        } else {
            call(SYS_close, (uint64_t)block->given, 0, 0, 0, 0);
            block->given = -1;
            failed = create_worker(block);
            run_destructors(block);
            if (failed == 0) goto out;
            publish(block, clinux_inject_no_thread, failed);
        }
    }
    close_all(block);
out:
    for (;;) call(SYS_exit, 0, 0, 0, 0, 0);
}

/// Takes over what the first thread's calls of malloc have left in libc's variables: a cache and an arena, which would be lost with it.
INJECTED static void adopt(struct clinux_inject_block *block) {
    uint64_t self;
    __asm__("mov %%fs:0, %0" : "=r"(self));
    volatile uint64_t *from = (volatile uint64_t *)(block->thread - block->handover);
    volatile uint64_t *to = (volatile uint64_t *)(self - block->handover);
    for (uint64_t i = 0; i < block->handover_size / 8; i++)
        if (to[i] == 0 && from[i] != 0) to[i] = from[i];
}

INJECTED static void copy_error(struct clinux_inject_block *block) {
    const volatile char *text = block->dlerror ? ((char *(*)(void))block->dlerror)() : NULL;
    if (text == NULL) return;
    volatile char *to = block->text;
    for (uint32_t i = 0; i + 1 < clinux_inject_text && text[i] != 0; i++) to[i] = text[i];
}

/// Loads the library unless it is there already; whether its function is known.
INJECTED static int load(struct clinux_inject_block *block) {
    if (block->serve != 0) return 1;
    void *handle = ((void *(*)(const char *, int))block->dlopen)(block->path, (int)block->dlopen_flags);
    if (handle == NULL) {
        copy_error(block);
        publish(block, clinux_inject_not_loaded, 0);
        return 0;
    }
    void *(*find)(void *, const char *) = (void *(*)(void *, const char *))block->dlsym;
    block->serve = (uint64_t)find(handle, block->serve_name);
    if (block->serve == 0) {
        copy_error(block);
        if (block->dlclose != 0) ((int (*)(void *))block->dlclose)(handle);
        publish(block, clinux_inject_no_function, 0);
        return 0;
    }
    block->reap = (uint64_t)find(handle, block->reap_name);
    return 1;
}

INJECTED static uint64_t identity(int32_t descriptor) {
    struct stat status;
    return call(SYS_fstat, (uint64_t)descriptor, (uint64_t)&status, 0, 0, 0) < 0 ? 0 : status.st_ino;
}

/// Starts a thread without stack in the library's own text, which unmaps the block when this thread has ended.
INJECTED static void start_reaper(struct clinux_inject_block *block) {
    register uint64_t workers __asm__("r13") = (uint64_t)&block->workers;
    register uint64_t base __asm__("r12") = block->base;
    register uint64_t size __asm__("r14") = block->size;
    register uint64_t reap __asm__("r15") = block->reap;
    register uint64_t r10 __asm__("r10") = 0;
    register uint64_t r8 __asm__("r8") = 0;
    uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    int64_t result;
    __asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\tjmp *%%r15\n1:"
                     : "=a"(result)
                     : "a"((int64_t)SYS_clone), "D"(flags), "S"(0L), "d"(0L), "r"(r10), "r"(r8), "r"(workers), "r"(base),
                       "r"(size), "r"(reap)
                     : "rcx", "r11", "memory");
}

/// A thread of libc's own: loads the library, lets it serve the socket, and leaves nothing behind.
INJECTED static void *worker(void *argument) {
    struct clinux_inject_block *block = argument;
    int32_t helper;
    while ((helper = __atomic_load_n(&block->helper, __ATOMIC_ACQUIRE)) != 0)
        call(SYS_futex, (uint64_t)&block->helper, FUTEX_WAIT, (uint64_t)helper, 0, 0);
    adopt(block);
    block->workers = (int32_t)call(SYS_gettid, 0, 0, 0, 0, 0);
    call(SYS_set_tid_address, (uint64_t)&block->workers, 0, 0, 0, 0);
    set_mask(block->worker_mask);
    int loaded = load(block);
    if (block->file >= 0) call(SYS_close, (uint64_t)block->file, 0, 0, 0, 0);
    if (loaded) {
        uint64_t socket = identity(block->kept);
        publish(block, clinux_inject_serving, 0);
        ((clinux_serve_function *)block->serve)(block->kept);
        // Closed by the library against its contract, the number may be another file's by now.
        if (socket == identity(block->kept)) call(SYS_close, (uint64_t)block->kept, 0, 0, 0, 0);
        publish(block, clinux_inject_ended, 0);
    } else {
        call(SYS_close, (uint64_t)block->kept, 0, 0, 0, 0);
    }
    set_mask(~0ul);
    if (block->reap != 0) start_reaper(block);
    return NULL;
}

/// Where the first thread begins, with its block in rbx and a stack but no return address.
__attribute__((naked, section("inject_code"), used)) static void entry(void) {
    __asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\tmov %%rbx, %%rdi\n\txor %%ebp, %%ebp\n\tcall %P0\n1:\thlt"
                     :
                     : "i"(first_thread));
}

extern const uint8_t __start_inject_code[];
extern const uint8_t __stop_inject_code[];

const uint8_t *clinux_inject_code(uint64_t *size) {
    *size = (uint64_t)(__stop_inject_code - __start_inject_code);
    return __start_inject_code;
}

uint64_t clinux_inject_entry(void) { return (uint64_t)((const uint8_t *)entry - __start_inject_code); }

uint64_t clinux_inject_worker_entry(void) { return (uint64_t)((const uint8_t *)worker - __start_inject_code); }

uint64_t clinux_inject_clone_flags(void) {
    return CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
        CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
}
