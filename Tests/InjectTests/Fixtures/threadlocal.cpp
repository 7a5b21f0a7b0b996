// threadlocal SECONDS: objects with constructors per thread, in threads that come and go; each must see its own, fresh.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static std::atomic<long> made, gone, wrong;
struct Own {
    std::string text = "fresh and long enough for the heap, as a string of its own";
    Own() { made++; }
    ~Own() { gone++; }
};
static thread_local Own own;
static thread_local int plain = 7;

static void work(int n) {
    if (plain != 7 || own.text.compare(0, 5, "fresh") != 0) wrong++;
    plain = n;
    own.text += std::to_string(n);
    try { throw std::runtime_error(own.text); }
    catch (const std::runtime_error &error) { if (own.text != error.what()) wrong++; }
    if (plain != n) wrong++;
}

int main(int, char **arguments) {
    auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds((long)(atof(arguments[1]) * 1000));
    puts("ready");
    fflush(stdout);
    while (std::chrono::steady_clock::now() < end) {
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; i++) threads.emplace_back(work, i + 100);
        for (auto &thread : threads) thread.join();
    }
    printf("wrong %ld left %ld\n", wrong.load(), made.load() - gone.load());
    return wrong != 0;
}
