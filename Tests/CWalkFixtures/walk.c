#define _GNU_SOURCE
#include "cwalkfixtures.h"

#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

// Stores the caller's registers as they are after this call returns, as a return probe would see them.
__attribute__((naked, noinline)) static void capture(__attribute__((unused)) struct cruntime_regs *out) {
    __asm__(
        "mov %r15, 0(%rdi)\n mov %r14, 8(%rdi)\n mov %r13, 16(%rdi)\n mov %r12, 24(%rdi)\n"
        "mov %rbp, 32(%rdi)\n mov %rbx, 40(%rdi)\n"
        "mov (%rsp), %rax\n mov %rax, 128(%rdi)\n"
        "lea 8(%rsp), %rax\n mov %rax, 152(%rdi)\n ret");
}

static void leaf(walk_callback callback, void *user) {
    struct cruntime_regs regs;
    memset(&regs, 0, sizeof regs);
    capture(&regs);
    callback(&regs, user);
    __asm__ volatile("" ::: "memory");
}

struct chain {
    uint64_t seed;
    walk_callback callback;
    void *user;
    uint64_t sink;
};

static void descend(int depth, struct chain *chain);

#define NEXT descend(depth - 1, chain)
#define SHAPE(name, body)                                              \
    __attribute__((noinline)) static void name(int depth, struct chain *chain) { \
        body __asm__ volatile("" ::: "memory");                        \
    }

SHAPE(plain, { NEXT; })
SHAPE(large_frame, {
    volatile char space[9000];
    space[depth & 4095] = 1;
    NEXT;
    chain->sink += (uint64_t)space[depth & 4095];
})
SHAPE(with_alloca, {
    volatile char *space = alloca((size_t)(depth * 37 % 300 + 16));
    space[0] = (char)depth;
    NEXT;
    chain->sink += (uint64_t)space[0];
})
SHAPE(realigned, {
    // 64-byte alignment makes the compiler realign the stack, so the CFA is found through a saved pointer.
    volatile char space[128] __attribute__((aligned(64)));
    volatile char *more = alloca((size_t)(depth % 50 + 8));
    more[0] = space[3] = (char)depth;
    NEXT;
    chain->sink += (uint64_t)space[3] + (uint64_t)more[0];
})
__attribute__((noinline)) static void with_frame_pointer(int depth, struct chain *chain) {
    NEXT;
    __asm__ volatile("" ::: "memory");
}
__attribute__((noinline)) static uint64_t many_arguments(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f,
                                                         int depth, struct chain *chain) {
    NEXT;
    return a + b * c + d * e + f;
}
SHAPE(pushes_arguments, { chain->sink += many_arguments(1, 2, 3, 4, 5, chain->sink, depth, chain); })

static void descend(int depth, struct chain *chain) {
    static void (*const shapes[])(int, struct chain *) = {plain,     large_frame,        with_alloca,
                                                          realigned, with_frame_pointer, pushes_arguments};
    if (depth == 0) {
        leaf(chain->callback, chain->user);
        return;
    }
    chain->seed = chain->seed * 6364136223846793005ull + 1442695040888963407ull;
    shapes[(chain->seed >> 40) % (sizeof shapes / sizeof *shapes)](depth, chain);
}

void walk_nested(int depth, uint64_t seed, walk_callback callback, void *user) {
    struct chain chain = {seed, callback, user, 0};
    descend(depth, &chain);
}

static struct chain current;

static int compare(const void *a, const void *b, void *chain) {
    struct chain *c = chain;
    if (c->callback) leaf(c->callback, c->user);
    c->callback = 0;
    return *(const int *)a - *(const int *)b;
}

void walk_in_qsort(walk_callback callback, void *user) {
    int values[] = {3, 1, 2};
    struct chain chain = {0, callback, user, 0};
    qsort_r(values, 3, sizeof *values, compare, &chain);
}

static void on_signal(int number) {
    (void)number;
    leaf(current.callback, current.user);
}

void walk_in_signal(walk_callback callback, void *user) {
    struct sigaction action = {.sa_handler = on_signal}, old;
    current = (struct chain){0, callback, user, 0};
    // Test runners' worker threads block most signals.
    sigset_t signals, before;
    sigemptyset(&signals);
    sigaddset(&signals, SIGURG);
    sigaction(SIGURG, &action, &old);
    pthread_sigmask(SIG_UNBLOCK, &signals, &before);
    raise(SIGURG);
    pthread_sigmask(SIG_SETMASK, &before, 0);
    sigaction(SIGURG, &old, 0);
}

static void *on_thread(void *chain) {
    struct chain *c = chain;
    descend(6, c);
    return 0;
}

void walk_on_thread(walk_callback callback, void *user) {
    struct chain chain = {99, callback, user, 0};
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    pthread_create(&thread, &attributes, on_thread, &chain);
    pthread_join(thread, 0);
    pthread_attr_destroy(&attributes);
}

static ucontext_t main_context, other_context;
static int times_left;

static void in_context(void) {
    for (int i = 0; i < times_left; i++) {
        current.seed = 17;
        descend(3 + i % 4, &current);
    }
}

void walk_in_context(int times, uint64_t *low, uint64_t *high, walk_callback callback, void *user) {
    enum { SIZE = 512 * 1024 };
    char *stack = malloc(SIZE);
    current = (struct chain){17, callback, user, 0};
    times_left = times;
    *low = (uint64_t)stack;
    *high = (uint64_t)stack + SIZE;
    getcontext(&other_context);
    other_context.uc_stack.ss_sp = stack;
    other_context.uc_stack.ss_size = SIZE;
    other_context.uc_link = &main_context;
    makecontext(&other_context, in_context, 0);
    swapcontext(&main_context, &other_context);
    free(stack);
}

static __thread struct chain *through;

static void call_back(void) { leaf(through->callback, through->user); }

void walk_through(void *function, walk_callback callback, void *user) {
    struct chain chain = {0, callback, user, 0};
    through = &chain;
    ((void (*)(void (*)(void)))function)(call_back);
    __asm__ volatile("" ::: "memory");
}

void walk_stack_bounds(uint64_t *low, uint64_t *high) {
    pthread_attr_t attributes;
    void *base;
    size_t size;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &base, &size);
    pthread_attr_destroy(&attributes);
    *low = (uint64_t)base;
    *high = *low + size;
}
