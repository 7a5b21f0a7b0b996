// The lists that lead from a patched site to the sessions with probes on it. Hits read them without a lock.
#include "cpatch.h"

#include <sys/syscall.h>
#include <time.h>

// The process that holds the lock: what a forked child finds held by its parent is free.
static _Atomic uint32_t lock_word;

static void pause_shortly(void) {
    struct timespec pause = {0, 100000};
    cruntime_syscall(SYS_nanosleep, (int64_t)&pause, 0, 0, 0, 0, 0);
}

static int take(void) {
    uint32_t own = (uint32_t)cruntime_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
    uint32_t holder = atomic_load(&lock_word);
    return holder != own && atomic_compare_exchange_strong(&lock_word, &holder, own);
}

void cpatch_lock(void) {
    // Unmapping takes microseconds; a flag that a fork copied in the middle of it stays.
    uint64_t patience = 10000;
    for (;;) {
        while (!take()) pause_shortly();
        if (!cpatch_loader_removes() || patience == 0) return;
        patience--;
        cpatch_unlock();
        pause_shortly();
    }
}

int32_t cpatch_lock_until(uint64_t deadline) {
    while (!take()) {
        if (cruntime_monotonic_ns() >= deadline) return 0;
        pause_shortly();
    }
    return 1;
}

int32_t cpatch_is_locked(void) { return atomic_load(&lock_word) != 0; }

void cpatch_unlock(void) { atomic_store_explicit(&lock_word, 0, memory_order_release); }

void cpatch_append_link(struct cpatch_site *site, struct cpatch_link *link) {
    link->next = NULL;
    struct cpatch_link **place = &site->links;
    while (*place != NULL) place = &(*place)->next;
    __atomic_store_n(place, link, __ATOMIC_RELEASE);
}

void cpatch_remove_link(struct cpatch_site *site, struct cpatch_link *link) {
    struct cpatch_link **place = &site->links;
    while (*place != NULL && *place != link) place = &(*place)->next;
    // The link keeps its own `next`: who stands on it goes on to the rest.
    if (*place != NULL) __atomic_store_n(place, link->next, __ATOMIC_RELEASE);
}

// ---- Sites by address ----

enum { BUCKETS = CPATCH_SITES * 2 };
// Open addressing; a number + 1, 0 for none. In memory only once there is a session.
static uint32_t *buckets;

static uint32_t bucket_of(uint64_t address) { return (uint32_t)((address * 0x9e3779b97f4a7c15ull) >> 48) % BUCKETS; }

static uint32_t *find(uint64_t address) {
    if (buckets == NULL) return NULL;
    uint32_t i = bucket_of(address);
    while (buckets[i] != 0 && cpatch_the_process.sites[buckets[i] - 1].address != address) i = (i + 1) % BUCKETS;
    return &buckets[i];
}

uint32_t cpatch_site_index(uint64_t address) {
    const uint32_t *found = find(address);
    return found != NULL && *found != 0 ? *found - 1 : ~0u;
}

int32_t cpatch_site_insert(uint32_t number) {
    if (buckets == NULL) {
        buckets = (uint32_t *)cpatch_allocate(BUCKETS * sizeof *buckets, 0);
        if (buckets == NULL) return -1;
    }
    struct cpatch_site *site = &cpatch_the_process.sites[number];
    uint32_t *place = find(site->address);
    site->older = *place != 0 ? *place - 1 : ~0u;
    *place = number + 1;
    return 0;
}

void cpatch_site_remove(uint32_t number) {
    const struct cpatch_site *site = &cpatch_the_process.sites[number];
    uint32_t *place = find(site->address);
    if (place == NULL || *place != number + 1) return;
    if (site->older != ~0u) {
        *place = site->older + 1;
        return;
    }
    // Only ever the newest entries go; those that hashed past this place move up.
    *place = 0;
    uint32_t hole = (uint32_t)(place - buckets);
    for (uint32_t i = (hole + 1) % BUCKETS; buckets[i] != 0; i = (i + 1) % BUCKETS) {
        uint32_t wanted = bucket_of(cpatch_the_process.sites[buckets[i] - 1].address);
        if ((i - wanted) % BUCKETS < (i - hole) % BUCKETS) continue;
        buckets[hole] = buckets[i];
        buckets[i] = 0;
        hole = i;
    }
}
