#include "cworld.h"

static _Thread_local cworld_answer current;
static _Thread_local void *current_user;

void *cworld_enter(cworld_answer answer, void *user) {
    void *before = current_user;
    current = answer;
    current_user = user;
    return before;
}

// A helper is called without its number (cruntime_call_user), so each number has a function.
#define HELPER(n) \
    static uint64_t helper_##n(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) { \
        return current(current_user, 0x##n, a, b, c, d, e); \
    }
#define ADDRESS(n) (uint64_t)helper_##n,
#define ROW(M, h) M(h##0) M(h##1) M(h##2) M(h##3) M(h##4) M(h##5) M(h##6) M(h##7) M(h##8) M(h##9) M(h##a) M(h##b) M(h##c) M(h##d) M(h##e) M(h##f)
#define ALL(M) \
    ROW(M, 0) ROW(M, 1) ROW(M, 2) ROW(M, 3) ROW(M, 4) ROW(M, 5) ROW(M, 6) ROW(M, 7) ROW(M, 8) ROW(M, 9) ROW(M, a) ROW(M, b) \
    ROW(M, c) ROW(M, d) ROW(M, e) ROW(M, f)

ALL(HELPER)

const uint64_t cworld_helpers[256] = {ALL(ADDRESS)};
