// hammer THREADS: threads that allocate, fill, check and free without a pause; commands on standard input, one answer line for each.
// At the end it prints a checksum of all blocks' contents, which is the same in every run.
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <fcntl.h>

enum { SLOTS = 32, OPERATIONS = 4096 };

static volatile int stopping;
static uint64_t expected;
static unsigned long rounds;
static int bad;

static uint32_t next(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static int intact(const unsigned char *block, size_t size, unsigned char pattern)
{
	for (size_t i = 0; i < size; i++)
		if (block[i] != pattern)
			return 0;
	return 1;
}

// One round is always the same work; what comes out depends on the contents of all blocks.
static uint64_t play(void)
{
	unsigned char *blocks[SLOTS] = {0};
	size_t sizes[SLOTS] = {0};
	uint32_t state = 42;
	uint64_t sum = 1469598103934665603u;
	for (int i = 0; i < OPERATIONS; i++) {
		unsigned slot = next(&state) % SLOTS;
		size_t size = 1 + next(&state) % 700;
		unsigned char pattern = (unsigned char)(slot * 7 + 1);
		if (!blocks[slot]) {
			blocks[slot] = i % 3 ? malloc(size) : calloc(1, size);
			if (!blocks[slot])
				abort();
			if (i % 3 == 0 && !intact(blocks[slot], size, 0))
				__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
		} else if (!intact(blocks[slot], sizes[slot], pattern)) {
			__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
		} else if (i % 5 == 0) {
			size_t kept = size < sizes[slot] ? size : sizes[slot];
			blocks[slot] = realloc(blocks[slot], size);
			if (!blocks[slot] || !intact(blocks[slot], kept, pattern))
				__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
		} else {
			sum = (sum ^ blocks[slot][sizes[slot] / 2] ^ sizes[slot]) * 1099511628211u;
			free(blocks[slot]);
			blocks[slot] = NULL;
			continue;
		}
		memset(blocks[slot], pattern, size);
		sizes[slot] = size;
	}
	for (int slot = 0; slot < SLOTS; slot++)
		free(blocks[slot]);
	return sum;
}

static void *hammer(void *unused)
{
	(void)unused;
	while (!stopping) {
		if (play() != expected)
			__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *idle(void *unused)
{
	pause();
	return unused;
}

static void on_signal(int number) { (void)number; }

static void *volatile kept;
__attribute__((noinline)) static void leak_here(size_t size)
{
	kept = malloc(size);
	if (!kept)
		abort();
}

// Planted faults, for which the checks outside have to fail.
static int plant(const char *what)
{
	pthread_t thread;
	if (!strcmp(what, "descriptor"))
		return open("/dev/null", O_RDONLY) >= 0;
	if (!strcmp(what, "thread"))
		return !pthread_create(&thread, NULL, idle, NULL);
	if (!strcmp(what, "handler"))
		return signal(SIGTRAP, on_signal) != SIG_ERR;
	if (!strcmp(what, "ignored"))
		return signal(SIGUSR2, SIG_IGN) != SIG_ERR;
	if (!strcmp(what, "writable-code"))
		return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
	if (!strcmp(what, "memory")) {
		void *block = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		return block != MAP_FAILED && memset(block, 1, 64 << 20);
	}
	if (!strcmp(what, "checksum"))
		return __atomic_fetch_add(&expected, 1, __ATOMIC_RELAXED) != 0;
	return 0;
}

int main(int count, char **arguments)
{
	int threads = count > 1 ? atoi(arguments[1]) : 1;
	pthread_t ids[64];
	char line[128];
	if (threads < 1 || threads > 64)
		return 64;
	setvbuf(stdout, NULL, _IOLBF, 0);
	expected = play();
	uint64_t sum = expected;
	for (int i = 0; i < threads; i++)
		if (pthread_create(&ids[i], NULL, hammer, NULL))
			return 70;
	puts("up");
	while (fgets(line, sizeof line, stdin)) {
		unsigned number = 0;
		unsigned size = 0;
		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "leak %u %u", &number, &size) == 2) {
			for (unsigned i = 0; i < number; i++)
				leak_here(size);
			puts("leaked");
		} else if (!strncmp(line, "plant ", 6)) {
			puts(plant(line + 6) ? "planted" : "cannot");
		} else if (!strcmp(line, "rounds")) {
			printf("%lu\n", __atomic_load_n(&rounds, __ATOMIC_RELAXED));
		} else {
			puts("what?");
		}
	}
	stopping = 1;
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	printf("checksum %016llx bad %d\n", (unsigned long long)sum, bad);
	return bad ? 1 : 0;
}
