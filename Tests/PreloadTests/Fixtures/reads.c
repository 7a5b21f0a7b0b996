// Calls `ask` with addresses, which a program at its entry reads: 24 bytes at an address, and a string. It writes what it got back.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, SIZE = 24 };

struct question {
    uint64_t address;
    int64_t result;
    uint8_t bytes[SIZE];
    int64_t length;  // of the string, at most 16
    uint8_t text[16];
};

__attribute__((noinline)) void ask(struct question *question) { __asm__ volatile("" : : "r"(question) : "memory"); }

static struct question at(const void *address) {
    struct question question = {.address = (uint64_t)address, .result = 1, .length = 1};
    memset(question.bytes, 0x55, SIZE);
    memset(question.text, 0x55, sizeof question.text);
    ask(&question);
    return question;
}

static int zeros(const uint8_t *bytes, uint64_t size) {
    uint8_t all = 0;
    for (uint64_t i = 0; i < size; i++) all |= bytes[i];
    return all == 0;
}

static uint8_t *map(uint64_t size, int protection) {
    uint8_t *memory = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    return memory;
}

// right: all of it, as it is in memory; refused: -EFAULT and zeros.
static const char *verdict(const struct question *question, const uint8_t *expected) {
    if (question->result == 0) return expected != NULL && memcmp(question->bytes, expected, SIZE) == 0 ? "right" : "wrong";
    return question->result == -EFAULT && zeros(question->bytes, SIZE) ? "refused" : "odd";
}

static int is_bad(const void *address) {
    struct question question = at(address);
    return strcmp(verdict(&question, NULL), "refused") != 0 || question.length != -EFAULT
        || !zeros(question.text, sizeof question.text);
}

static void say(const char *name, const void *address, const void *expected) {
    struct question question = at(address);
    printf("%s %s %ld\n", name, verdict(&question, expected), (long)question.length);
}

static uint32_t vdso(void) {
    const uint8_t *bytes = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
    if (bytes == NULL) return 0;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)bytes;
    const Elf64_Phdr *segment = (const Elf64_Phdr *)(bytes + header->e_phoff);
    while (segment->p_type != PT_LOAD) segment++;
    uint32_t sum = 0;
    for (uint64_t i = 0; i < segment->p_filesz; i++) sum = sum * 31 + bytes[i];
    return sum;
}

static void addresses(void) {
    fprintf(stderr, "VDSO %u\n", vdso());
    uint8_t *pages = map(3 * PAGE, PROT_READ | PROT_WRITE);
    for (int i = 0; i < 2 * PAGE; i++) pages[i] = (uint8_t)(i % 250 + 1);
    pages[PAGE + 3] = 0;
    pages[2 * PAGE - 1] = 0;
    mprotect(pages + 2 * PAGE, PAGE, PROT_NONE);
    FILE *file = tmpfile();
    if (file == NULL || ftruncate(fileno(file), PAGE) != 0) abort();
    uint8_t *mapped = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fileno(file), 0);
    say("inside", pages + 100, pages + 100);
    say("across", pages + PAGE - 11, pages + PAGE - 11);
    say("end", pages + 2 * PAGE - SIZE, pages + 2 * PAGE - SIZE);
    say("over", pages + 2 * PAGE - SIZE + 1, NULL);
    say("short", pages + 2 * PAGE - 1, NULL);
    say("none", pages + 2 * PAGE, NULL);
    mprotect(pages + 2 * PAGE, PAGE, PROT_READ);
    say("again", pages + 2 * PAGE, pages + 2 * PAGE);
    munmap(pages + 2 * PAGE, PAGE);
    say("gone", pages + 2 * PAGE, NULL);
    say("file", mapped, mapped);
    if (ftruncate(fileno(file), 0) != 0) abort();
    say("past", mapped, NULL);
    say("null", NULL, NULL);
    say("odd", (void *)0x8000000000000001, NULL);
    say("kernel", (void *)0xffffffff81000000, NULL);
    say("vsyscall", (void *)0xffffffffff600000, NULL);
    say("last", (void *)-1ll, NULL);
    const char *text = "a text of more than 24 bytes";
    say("literal", text, text);
}

// ---- Many threads ----

enum { THREADS = 16, CHANGERS = 4, SLOTS = 64 };
static uint8_t *region;
static _Atomic long wrong, right, refused;
static volatile int stop;

static void *change(void *argument) {
    uint32_t seed = (uint32_t)(uint64_t)argument * 7919 + 1;
    while (!stop) {
        seed = seed * 1103515245 + 12345;
        // The slots of this thread. What is unmapped at odd ones, the program may map for something else.
        uint32_t slot = (seed >> 8) % (SLOTS / CHANGERS) * CHANGERS + (uint32_t)(uint64_t)argument / CHANGERS;
        uint8_t *page = region + slot * PAGE;
        int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
        if (slot % 2) {
            if (mmap(page, PAGE, PROT_READ | PROT_WRITE, fixed, -1, 0) != page) continue;
            memset(page, 0x77, PAGE);
            munmap(page, PAGE);
        } else {
            mprotect(page, PAGE, PROT_READ | PROT_WRITE);
            memset(page, 0x77, PAGE);
            mprotect(page, PAGE, PROT_NONE);
            if (seed & 1 << 20) madvise(page, PAGE, MADV_DONTNEED);
        }
    }
    return NULL;
}

static void *look(void *argument) {
    // Half of them block everything: a fault that becomes a signal is then the end of the process.
    sigset_t all;
    sigfillset(&all);
    if ((uint64_t)argument % 2) pthread_sigmask(SIG_BLOCK, &all, NULL);
    uint32_t seed = (uint32_t)(uint64_t)argument * 104729 + 3;
    while (!stop) {
        seed = seed * 1103515245 + 12345;
        uint32_t slot = (seed >> 8) % SLOTS;
        struct question question = at(region + slot * PAGE + (seed >> 16) % (PAGE - SIZE));
        if (question.result == 0) {
            // Until it is filled a page is zeros.
            int good = 1;
            for (int i = 0; i < SIZE; i++) good &= slot % 2 || question.bytes[i] == 0 || question.bytes[i] == 0x77;
            if (good) right++;
            else wrong++;
        } else if (question.result == -EFAULT && zeros(question.bytes, SIZE)) {
            refused++;
        } else {
            wrong++;
        }
    }
    return NULL;
}

static void storm(int seconds) {
    pthread_t threads[THREADS];
    region = map(SLOTS * PAGE, PROT_NONE);
    for (int i = 1; i < SLOTS; i += 2) munmap(region + i * PAGE, PAGE);
    for (uint64_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, i % CHANGERS == 3 ? change : look, (void *)i);
    for (int i = 0; i < seconds * 20; i++) {
        usleep(50000);
        // Blocks all signals and changes mappings.
        if (i % 10 == 0 && system(":") != 0) abort();
    }
    stop = 1;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    printf("wrong=%ld\n", wrong);
    fprintf(stderr, "RIGHT %ld\nREFUSED %ld\n", right, refused);
}

// ---- The program's own signals ----

static volatile char *volatile nowhere = (char *)8;
static sigjmp_buf back;
static volatile int handled;

static void on_fault(int signal) {
    (void)signal;
    handled++;
    siglongjmp(back, 1);
}

static void handlers(void) {
    struct sigaction action = {.sa_handler = on_fault}, now;
    sigaction(SIGSEGV, &action, NULL);
    volatile int bad = 0;
    for (volatile int i = 0; i < 2000; i++) {
        bad += is_bad((void *)(uint64_t)(i % 2 ? 16 : 0x8000000000000000));
        if (sigsetjmp(back, 1) == 0) *nowhere = 1;
    }
    sigaction(SIGSEGV, NULL, &now);
    printf("bad=%d handled=%d ours=%d\n", bad, handled, now.sa_handler == on_fault);
}

static void dispositions(void) {
    struct sigaction ignore = {.sa_handler = SIG_IGN}, now;
    int bad = 0;
    for (int kind = 0; kind < 3; kind++) {
        ignore.sa_handler = kind == 0 ? SIG_IGN : SIG_DFL;
        sigaction(SIGSEGV, &ignore, NULL);
        sigaction(SIGBUS, &ignore, NULL);
        sigset_t all;
        sigfillset(&all);
        if (kind == 2) sigprocmask(SIG_BLOCK, &all, NULL);
        for (int i = 0; i < 1000; i++) bad += is_bad((void *)16);
    }
    sigaction(SIGSEGV, NULL, &now);
    printf("bad=%d default=%d\n", bad, now.sa_handler == SIG_DFL);
}

// Children, and a child's child, read too where a session follows them; all end as they should.
static void forks(void) {
    int bad = 0, ended = 0;
    for (int i = 0; i < 50; i++) {
        bad += is_bad((void *)16);
        pid_t child = fork();
        if (child == 0) {
            struct question question = at(&bad);
            (void)question;
            (void)is_bad((void *)16);
            _exit(fork() == 0 ? 0 : 7);
        }
        int status;
        ended += waitpid(child, &status, 0) == child && status == 7 << 8;
    }
    printf("bad=%d ended=%d\n", bad, ended);
}

// Has memory allocated, to a place that memleak reads and that is no stack, while a command attaches to PID, which is this
// process. It is interrupted a second after the vDSO has changed, or after some
// seconds.
static void attached(int seconds, char **command) {
    static char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    for (char **word = command; *word != NULL; word++)
        if (strcmp(*word, "PID") == 0) *word = pid;
    uint32_t before = vdso();
    int changed = 0;
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    pid_t child = fork();
    if (child == 0) {
        execv(command[0], command);
        _exit(127);
    }
    int status = 0;
    long wrong_results = 0;
    time_t end = time(NULL) + seconds;
    while (waitpid(child, &status, WNOHANG) == 0) {
        static void *block;
        wrong_results += posix_memalign(&block, 64, 100) != 0;
        free(block);
        if (!changed && vdso() != before) {
            changed = 1;
            end = time(NULL) + 1;
        }
        if (end != 0 && time(NULL) > end) {
            kill(child, SIGINT);
            end = 0;
        }
    }
    printf("status=%d wrong=%ld restored=%d\n", status, wrong_results, vdso() == before);
    fprintf(stderr, "CHANGED %d\n", changed);
}

// Dies of its own fault, as ever.
static void dies(void) {
    printf("bad=%d\n", is_bad((void *)16));
    fflush(stdout);
    *nowhere = 1;
}

// ---- Speed ----

static void speed(void) {
    uint8_t *memory = map(PAGE, PROT_READ | PROT_WRITE);
    struct question *question = (struct question *)(map(PAGE, PROT_READ | PROT_WRITE));
    question->address = (uint64_t)memory;
    double best = 1e9;
    for (int round = 0; round < 20; round++) {
        struct timespec before, after;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
        for (int i = 0; i < 20000; i++) ask(question);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
        double ns = ((after.tv_sec - before.tv_sec) * 1e9 + (after.tv_nsec - before.tv_nsec)) / 20000;
        if (ns < best) best = ns;
    }
    fprintf(stderr, "TENTHS %d\n", (int)(best * 10));
    printf("done\n");
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *name = count > 1 ? arguments[1] : "";
    if (strcmp(name, "addresses") == 0) addresses();
    if (strcmp(name, "storm") == 0) storm(count > 2 ? atoi(arguments[2]) : 3);
    if (strcmp(name, "handlers") == 0) handlers();
    if (strcmp(name, "dispositions") == 0) dispositions();
    if (strcmp(name, "forks") == 0) forks();
    if (strcmp(name, "dies") == 0) dies();
    if (strcmp(name, "attached") == 0) attached(atoi(arguments[2]), arguments + 3);
    if (strcmp(name, "speed") == 0) speed();
    return 0;
}
