// Threads that wait inside a probed function while probes come and go. Commands: enter, go.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int ends[2];
static int entered;

__attribute__((noinline)) long wait_inside(long value)
{
	char byte = 0;
	__atomic_fetch_add(&entered, 1, __ATOMIC_SEQ_CST);
	if (read(ends[0], &byte, 1) != 1)
		return -1;
	return value * 2 + byte;
}

__attribute__((noinline)) long outer(long value)
{
	return wait_inside(value) + 1;
}

static void *enter(void *argument) { return (void *)outer((intptr_t)argument); }

int main(void)
{
	pthread_t ids[4];
	char line[32];
	int waiting = 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (pipe(ends))
		return 70;
	puts("up");
	while (fgets(line, sizeof line, stdin)) {
		if (!strcmp(line, "enter\n") && !waiting) {
			entered = 0;
			for (intptr_t i = 0; i < 4; i++)
				if (pthread_create(&ids[i], NULL, enter, (void *)i))
					return 71;
			while (__atomic_load_n(&entered, __ATOMIC_SEQ_CST) < 4)
				usleep(1000);
			usleep(20000);
			waiting = 1;
			puts("inside");
		} else if (!strcmp(line, "go\n") && waiting) {
			int good = write(ends[1], "\1\1\1\1", 4) == 4;
			for (intptr_t i = 0; i < 4; i++) {
				void *result = NULL;
				pthread_join(ids[i], &result);
				good = good && result == (void *)(i * 2 + 2);
			}
			waiting = 0;
			puts(good ? "returned" : "BAD");
			if (!good)
				return 1;
		}
	}
	puts("end");
	return 0;
}
