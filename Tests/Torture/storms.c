// storms KIND: does one nasty thing over and over until standard input ends, checks every result, and says how it went.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

extern char **environ;
static volatile int stopping;
static const char *plugin_path;
static int bad;

#define CHECK(condition) ((condition) ? (void)0 : complain(#condition, __LINE__))
static void complain(const char *what, int line)
{
	if (__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED) < 5)
		fprintf(stderr, "storms:%d: not so: %s (errno %d)\n", line, what, errno);
}

static int churn(int blocks)
{
	unsigned char *held[64];
	int sum = 0;
	for (int i = 0; i < blocks && i < 64; i++) {
		held[i] = malloc((size_t)(i * 37 % 900 + 1));
		if (!held[i])
			return -1;
		memset(held[i], i + 1, (size_t)(i * 37 % 900 + 1));
	}
	for (int i = 0; i < blocks && i < 64; i++) {
		sum += held[i][i * 37 % 900] == (unsigned char)(i + 1);
		free(held[i]);
	}
	return sum;
}

static int status_of(pid_t child)
{
	int status = 0;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

static void fork_once(void)
{
	pid_t child = fork();
	if (child == 0)
		_exit(churn(50) == 50 ? 7 : 1);
	CHECK(child > 0);
	int status = status_of(child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void vfork_once(void)
{
	pid_t child = vfork();
	if (child == 0) {
		execl("/bin/sh", "sh", "-c", "exit 3", NULL);
		_exit(127);
	}
	CHECK(child > 0);
	int status = status_of(child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
}

static void spawn_once(void)
{
	char *arguments[] = {"sh", "-c", "exit 4", NULL};
	pid_t child = 0;
	CHECK(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) == 0);
	int status = status_of(child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 4);
}

static void system_once(void)
{
	int status = system("exit 5");
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

static void *short_thread(void *argument) { return (void *)((intptr_t)argument + churn(10)); }

static void threads_once(void)
{
	pthread_t ids[10];
	for (intptr_t i = 0; i < 10; i++)
		CHECK(pthread_create(&ids[i], NULL, short_thread, (void *)i) == 0);
	for (intptr_t i = 0; i < 10; i++) {
		void *result = NULL;
		pthread_join(ids[i], &result);
		CHECK(result == (void *)(i + 10));
	}
}

static void plugin_once(void)
{
	void *library = dlopen(plugin_path, RTLD_NOW);
	CHECK(library);
	int (*work)(int) = library ? (int (*)(int))dlsym(library, "plugin_work") : NULL;
	CHECK(work);
	for (int i = 0; work && i < 100; i++)
		CHECK(work(i) == i * 3 + 1);
	if (library)
		CHECK(dlclose(library) == 0);
}

// Sixteen threads open and close one library, call it, and fork in the middle; every call of the library is counted.
static unsigned long plugin_calls;
static long plugin_rounds;
static void *plugin_thread(void *rounds)
{
	for (intptr_t i = 0; i < (intptr_t)rounds; i++) {
		void *library = dlopen(plugin_path, RTLD_NOW);
		CHECK(library);
		int (*work)(int) = library ? (int (*)(int))dlsym(library, "plugin_work") : NULL;
		CHECK(work);
		for (int j = 0; work && j < 10; j++) {
			CHECK(work(j) == j * 3 + 1);
			__atomic_fetch_add(&plugin_calls, 1, __ATOMIC_RELAXED);
		}
		if (i % 8 == 7) {
			pid_t child = fork();
			if (child == 0)
				_exit(churn(10) == 10 ? 7 : 1);
			CHECK(child > 0);
			int status = status_of(child);
			CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
		}
		if (library)
			CHECK(dlclose(library) == 0);
	}
	return NULL;
}

static void plugins_once(void)
{
	enum { THREADS = 16 };
	pthread_t ids[THREADS];
	long rounds = plugin_rounds ? plugin_rounds : 5;
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&ids[i], NULL, plugin_thread, (void *)rounds) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(ids[i], NULL);
}
static void plugins_at_end(void) { fprintf(stderr, "calls %lu\n", plugin_calls); }

// Fibers: each step runs inside a function that probes return from, on the other fiber's stack in between.
static ucontext_t main_context;
static ucontext_t fiber_contexts[8];
static int fiber_done;

__attribute__((noinline)) int fiber_step(int fiber, int step)
{
	void *block = malloc(100);
	swapcontext(&fiber_contexts[fiber], &main_context);
	free(block);
	return fiber * 1000 + step;
}

static void fiber_main(int fiber)
{
	for (int step = 0; step < 20; step++)
		CHECK(fiber_step(fiber, step) == fiber * 1000 + step);
	fiber_done++;
}

static void fibers_once(void)
{
	enum { STACK = 64 << 10 };
	char *stacks[8];
	fiber_done = 0;
	for (int i = 0; i < 8; i++) {
		stacks[i] = malloc(STACK);
		getcontext(&fiber_contexts[i]);
		fiber_contexts[i].uc_stack.ss_sp = stacks[i];
		fiber_contexts[i].uc_stack.ss_size = STACK;
		fiber_contexts[i].uc_link = &main_context;
		makecontext(&fiber_contexts[i], (void (*)(void))fiber_main, 1, i);
	}
	for (int round = 0; round <= 20; round++)
		for (int i = 0; i < 8; i++)
			swapcontext(&main_context, &fiber_contexts[i]);
	CHECK(fiber_done == 8);
	for (int i = 0; i < 8; i++)
		free(stacks[i]);
}

__attribute__((noinline)) long descend(long depth)
{
	char *block = malloc(16);
	block[0] = (char)depth;
	long below = depth ? descend(depth - 1) : 0;
	below += block[0] == (char)depth;
	free(block);
	return below;
}
static void recursion_once(void) { CHECK(descend(20000) == 20001); }

static sigjmp_buf after_fault;
static volatile int traps;
static volatile int illegal;
static volatile int faults;
static void on_trap(int number, siginfo_t *information, void *context)
{
	(void)number, (void)context;
	traps += information->si_code == SI_KERNEL || information->si_code == TRAP_BRKPT;
}
static void on_illegal(int number, siginfo_t *information, void *context)
{
	(void)number, (void)information;
	illegal++;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}
static void on_fault(int number, siginfo_t *information, void *context)
{
	(void)number, (void)context;
	faults += information->si_addr == (void *)16;
	siglongjmp(after_fault, 1);
}

static void handlers_set_up(void)
{
	struct sigaction action = {.sa_flags = SA_SIGINFO};
	action.sa_sigaction = on_trap;
	sigaction(SIGTRAP, &action, NULL);
	action.sa_sigaction = on_illegal;
	sigaction(SIGILL, &action, NULL);
	action.sa_sigaction = on_fault;
	sigaction(SIGSEGV, &action, NULL);
}

static void handlers_once(void)
{
	int before_traps = traps, before_illegal = illegal, before_faults = faults;
	__asm__ volatile("int3");
	__asm__ volatile("ud2");
	if (!sigsetjmp(after_fault, 1)) {
		free(malloc(50));
		*(volatile int *)16 = 1;
	}
	CHECK(traps == before_traps + 1 && illegal == before_illegal + 1 && faults == before_faults + 1);
	CHECK(churn(10) == 10);
}

static void handlers_at_end(void)
{
	struct sigaction action;
	sigaction(SIGTRAP, NULL, &action);
	CHECK(action.sa_sigaction == on_trap);
	sigaction(SIGILL, NULL, &action);
	CHECK(action.sa_sigaction == on_illegal);
	sigaction(SIGSEGV, NULL, &action);
	CHECK(action.sa_sigaction == on_fault);
}

static volatile long ticks;
static void on_tick(int number)
{
	int kept = errno;
	(void)number;
	ticks++;
	errno = kept;
}
static void timer_set_up(void)
{
	struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
	struct itimerval every = {{0, 100}, {0, 100}};
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}
static void churn_once(void) { CHECK(churn(40) == 40); }

static void blocked_set_up(void)
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
}

static void *churner(void *mask_all)
{
	if (mask_all)
		blocked_set_up();
	while (!stopping)
		CHECK(churn(40) == 40);
	return NULL;
}

static void *watch_input(void *unused)
{
	char byte;
	sigset_t all;
	sigfillset(&all);
	sigdelset(&all, SIGTRAP);
	sigdelset(&all, SIGILL);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	while (read(0, &byte, 1) > 0 || errno == EINTR)
		errno = 0;
	stopping = 1;
	return unused;
}

static void nothing(void) {}

static const struct {
	const char *name;
	void (*set_up)(void);
	void (*once)(void);
	void (*at_end)(void);
	int churners;
	int churners_block;
} kinds[] = {
	{"fork", nothing, fork_once, nothing, 2, 0},
	{"vfork", nothing, vfork_once, nothing, 2, 0},
	{"spawn", nothing, spawn_once, nothing, 2, 0},
	{"system", nothing, system_once, nothing, 2, 0},
	{"threads", nothing, threads_once, nothing, 0, 0},
	{"plugin", nothing, plugin_once, nothing, 1, 0},
	{"plugins", nothing, plugins_once, plugins_at_end, 0, 0},
	{"fibers", nothing, fibers_once, nothing, 1, 0},
	{"recursion", nothing, recursion_once, nothing, 1, 0},
	{"handlers", handlers_set_up, handlers_once, handlers_at_end, 2, 0},
	{"timer", timer_set_up, churn_once, nothing, 4, 0},
	{"blocked", nothing, churn_once, nothing, 4, 1},
	{"all-blocked", blocked_set_up, churn_once, nothing, 4, 1},
};

int main(int count, char **arguments)
{
	pthread_t watcher;
	pthread_t ids[8];
	unsigned long rounds = 0;
	plugin_path = count > 2 ? arguments[2] : NULL;
	plugin_rounds = count > 3 ? atol(arguments[3]) : 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (plugin_rounds > 0) {
		plugins_once();
		plugins_at_end();
		return bad ? 1 : 0;
	}
	for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
		if (count < 2 || strcmp(arguments[1], kinds[kind].name))
			continue;
		pthread_create(&watcher, NULL, watch_input, NULL);
		kinds[kind].set_up();
		for (intptr_t i = 0; i < kinds[kind].churners; i++)
			pthread_create(&ids[i], NULL, churner, (void *)(intptr_t)kinds[kind].churners_block);
		puts("up");
		for (; !stopping; rounds++)
			kinds[kind].once();
		for (int i = 0; i < kinds[kind].churners; i++)
			pthread_join(ids[i], NULL);
		kinds[kind].at_end();
		fprintf(stderr, "rounds %lu\n", rounds);
		printf("%s: %s, rounds %s\n", kinds[kind].name, bad ? "BAD" : "good", rounds > 0 ? "some" : "none");
		return bad ? 1 : 0;
	}
	return 64;
}
