// SPDX-License-Identifier: Apache-2.0
// throw-loop [THROWS]: nanoseconds of processor time that an exception takes through ten frames; the median of 21 rounds.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

static double now()
{
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return double(time.tv_sec) * 1e9 + double(time.tv_nsec);
}

// The assignment keeps it from being a tail call.
static volatile int depth_seen;

__attribute__((noinline)) static void descend(int depth)
{
    if (depth == 0)
        throw depth;
    descend(depth - 1);
    depth_seen = depth;
}

int main(int argc, char **argv)
{
    const int rounds = 21, throws = argc > 1 ? atoi(argv[1]) : 2000;
    double result[rounds];
    for (double &value : result) {
        double start = now();
        for (int index = 0; index < throws; index++) {
            try {
                descend(10);
            } catch (int) {
                depth_seen = 0;
            }
        }
        value = (now() - start) / throws;
    }
    std::sort(result, result + rounds);
    std::printf("%.1f\n", result[rounds / 2]);
}
