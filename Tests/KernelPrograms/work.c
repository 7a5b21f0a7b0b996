/*
 * The fixed workload that kernel programs are tested with: `work KIND [ARGUMENT]` does what KIND says, a known number of times. Its pid is
 * its first line.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMES 3

static void must(int holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "work: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* Seconds of CPU time. */
static double used(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* Opens, closes and removes a file; and fails to open one. */
static void files(void)
{
	for (int i = 0; i < TIMES; i++) {
		int fd = open("w_x", O_CREAT | O_RDWR, 0600);
		must(fd >= 0, "open");
		close(fd);
		must(unlink("w_x") == 0, "unlink");
		must(open("w_missing", O_RDONLY) < 0 && errno == ENOENT, "open of nothing");
	}
}

static void writes(void)
{
	int fd = open("/dev/null", O_WRONLY);
	must(fd >= 0, "open");
	for (int i = 0; i < TIMES; i++)
		must(write(fd, "0123456789", 10) == 10, "write");
	close(fd);
}

static void await(pid_t child)
{
	must(child > 0, "fork");
	must(waitpid(child, NULL, 0) == child, "waitpid");
}

static void executes(const char *self)
{
	for (int i = 0; i < TIMES; i++) {
		pid_t child = fork();
		if (child == 0) {
			execl(self, self, "nothing", NULL);
			_exit(9);
		}
		await(child);
	}
}

/* Children that live for 50 ms: some end with 7, some of a signal. */
static void exits(void)
{
	for (int i = 0; i < 2 * TIMES; i++) {
		pid_t child = fork();
		if (child == 0) {
			usleep(50000);
			if (i % 2)
				raise(SIGTERM);
			_exit(7);
		}
		await(child);
	}
}

static void signals(void)
{
	for (int i = 0; i < TIMES; i++)
		must(kill(getpid(), 0) == 0, "kill");
	signal(SIGUSR1, SIG_IGN);
	must(kill(getpid(), SIGUSR1) == 0, "kill");
	must(kill(-2147483647, SIGUSR1) < 0, "kill of nobody");
}

/* A connection to a server of our own, five messages there and back, then the client closes first. */
static void connection(int family, int port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr *address = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t size = family == AF_INET ? sizeof(v4) : sizeof(v6);
	int one = 1, listener = socket(family, SOCK_STREAM, 0);
	must(listener >= 0, "socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	must(bind(listener, address, size) == 0, "bind");
	must(listen(listener, 1) == 0, "listen");
	int client = socket(family, SOCK_STREAM, 0);
	must(connect(client, address, size) == 0, "connect");
	int server = accept(listener, NULL, NULL);
	must(server >= 0, "accept");
	char byte = 'x';
	for (int i = 0; i < 5; i++) {
		must(write(client, &byte, 1) == 1 && read(server, &byte, 1) == 1, "there");
		must(write(server, &byte, 1) == 1 && read(client, &byte, 1) == 1, "back");
	}
	close(client);
	must(read(server, &byte, 1) == 0, "end");
	close(server);
	close(listener);
	/* The last ACK is handled a moment later. */
	usleep(20000);
}

static void connections(void)
{
	for (int i = 0; i < TIMES; i++)
		connection(AF_INET, 7000 + i);
	connection(AF_INET6, 7000 + TIMES);
}

static volatile unsigned long spun;

__attribute__((noinline)) void spin_in_program(double until)
{
	while (used() < until)
		for (int i = 0; i < 100000; i++)
			spun += i;
}

/* Without libc's function, which is no frame: the kernel would take its caller for main(). */
static inline __attribute__((always_inline)) long read_here(long fd, void *buffer, unsigned long size)
{
	long result = 0;
	__asm__ volatile("syscall" : "+a"(result) : "D"(fd), "S"(buffer), "d"(size) : "rcx", "r11", "memory");
	return result;
}

__attribute__((noinline)) void spin_in_kernel(double until)
{
	static char buffer[1 << 16];
	int fd = open("/dev/zero", O_RDONLY);
	must(fd >= 0, "open");
	while (used() < until)
		for (int i = 0; i < 100; i++)
			must(read_here(fd, buffer, sizeof(buffer)) == sizeof(buffer), "read");
	close(fd);
}

static void sleeps(void)
{
	for (int i = 0; i < 50; i++)
		usleep(2000);
}

/* Interrupts of a device: by what is written to it, past every cache. */
static void interrupts(const char *path)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_SYNC, 0600);
	must(fd >= 0, path);
	char line[64];
	memset(line, '.', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	for (int i = 0; i < 20; i++)
		must(write(fd, line, sizeof(line)) == sizeof(line), "write");
	close(fd);
}

/* What several kinds of probes are on: each is called TIMES times. */
__attribute__((noinline)) int work_one(int value) { return spun += value; }
__attribute__((noinline)) int work_two(int value) { return spun -= value; }

/* A static probe with a counter, as <sys/sdt.h> makes them: provider work, name step; an int and a constant. */
__attribute__((section(".probes"), used)) unsigned short work_step_semaphore;

static void step(long value)
{
	if (!work_step_semaphore)
		return;
	__asm__ volatile("990: nop\n"
			 ".pushsection .note.stapsdt,\"?\",\"note\"\n"
			 ".balign 4\n.4byte 992f-991f, 994f-993f, 3\n"
			 "991: .asciz \"stapsdt\"\n992: .balign 4\n"
			 "993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte work_step_semaphore\n"
			 ".asciz \"work\"\n.asciz \"step\"\n.asciz \"-4@%k0 8@$1234\"\n"
			 "994: .balign 4\n.popsection\n"
			 ".ifndef _.stapsdt.base\n"
			 ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
			 ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base,1\n.popsection\n"
			 ".endif\n"
			 :
			 : "r"(value));
}

static void functions(void)
{
	must(setpgid(0, 0) == 0 || getpgid(0) == getpid(), "setpgid");
	for (int i = 0; i < TIMES; i++) {
		must(getpgid(getpid()) >= 0, "getpgid");
		work_one(i);
		work_two(i);
		step(-1 - i);
	}
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "nothing";
	const char *argument = argc > 2 ? argv[2] : "";
	if (strcmp(kind, "nothing") == 0)
		return 0;
	printf("%d\n", getpid());
	fflush(stdout);
	if (strcmp(kind, "files") == 0)
		files();
	else if (strcmp(kind, "writes") == 0)
		writes();
	else if (strcmp(kind, "executes") == 0)
		executes("/proc/self/exe");
	else if (strcmp(kind, "exits") == 0)
		exits();
	else if (strcmp(kind, "signals") == 0)
		signals();
	else if (strcmp(kind, "connections") == 0)
		connections();
	else if (strcmp(kind, "spins") == 0) {
		spin_in_program(used() + 0.7);
		spin_in_kernel(used() + 0.7);
	} else if (strcmp(kind, "sleeps") == 0)
		sleeps();
	else if (strcmp(kind, "interrupts") == 0)
		interrupts(argument);
	else if (strcmp(kind, "functions") == 0)
		functions();
	else
		must(0, kind);
	return 0;
}
