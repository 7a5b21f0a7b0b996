// Exceptions through frames that are probed, from several threads, until standard input ends.
#include <atomic>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

static std::atomic<bool> stopping;
static std::atomic<int> bad;

extern "C" __attribute__((noinline)) int thrower(int value)
{
	std::string text(40, 'x');
	if (value % 2 == 0)
		throw std::runtime_error(std::to_string(value));
	return value + static_cast<int>(text.size());
}

extern "C" __attribute__((noinline)) int middle(int value)
{
	std::vector<int> held(static_cast<std::size_t>(value % 100 + 1), value);
	int result = thrower(value);
	return result + held.back();
}

static void work()
{
	for (int i = 0; !stopping; i = (i + 1) % 1000) {
		try {
			if (middle(i) != 2 * i + 40 || i % 2 == 0)
				bad++;
		} catch (const std::runtime_error &error) {
			if (error.what() != std::to_string(i) || i % 2 != 0)
				bad++;
		}
	}
}

int main()
{
	std::setvbuf(stdout, nullptr, _IOLBF, 0);
	std::vector<std::thread> threads;
	for (int i = 0; i < 4; i++)
		threads.emplace_back(work);
	std::puts("up");
	char byte;
	while (read(0, &byte, 1) > 0) {
	}
	stopping = true;
	for (auto &thread : threads)
		thread.join();
	std::printf("throws: %s\n", bad ? "BAD" : "good");
	return bad ? 1 : 0;
}
