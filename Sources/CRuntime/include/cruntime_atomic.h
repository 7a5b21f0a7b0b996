// Atomic operations on shared memory for Swift code on the probe path: inlined, no generic code, no lock.
#ifndef CRUNTIME_ATOMIC_H
#define CRUNTIME_ATOMIC_H

#include "cruntime.h"
#include <csession.h>

#define CRUNTIME_INLINE CRUNTIME_RT static inline __attribute__((always_inline))

CRUNTIME_INLINE uint32_t cruntime_load32(const uint32_t *_Nonnull at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
CRUNTIME_INLINE uint64_t cruntime_load64(const uint64_t *_Nonnull at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
CRUNTIME_INLINE void cruntime_store32(uint32_t *_Nonnull at, uint32_t value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }
CRUNTIME_INLINE void cruntime_store64(uint64_t *_Nonnull at, uint64_t value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }

/// Sequentially consistent read-modify-write; each returns the old value.
CRUNTIME_INLINE uint32_t cruntime_exchange32(uint32_t *_Nonnull at, uint32_t value) {
    return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);
}
CRUNTIME_INLINE uint64_t cruntime_exchange64(uint64_t *_Nonnull at, uint64_t value) {
    return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);
}
CRUNTIME_INLINE uint32_t cruntime_add32(uint32_t *_Nonnull at, uint32_t value) {
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
CRUNTIME_INLINE uint32_t cruntime_or32(uint32_t *_Nonnull at, uint32_t value) {
    return __atomic_fetch_or(at, value, __ATOMIC_SEQ_CST);
}
CRUNTIME_INLINE uint64_t cruntime_add64(uint64_t *_Nonnull at, uint64_t value) {
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}

/// Compare and exchange; 1 where `expected` was found and replaced.
CRUNTIME_INLINE int32_t cruntime_cas32(uint32_t *_Nonnull at, uint32_t expected, uint32_t value) {
    return __atomic_compare_exchange_n(at, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE);
}
CRUNTIME_INLINE int32_t cruntime_cas64(uint64_t *_Nonnull at, uint64_t expected, uint64_t value) {
    return __atomic_compare_exchange_n(at, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE);
}

/// The first of a context's reservations (Swift sees the array as a tuple).
CRUNTIME_INLINE struct cruntime_reservation *_Nonnull cruntime_reservations(struct cruntime_context *_Nonnull context) {
    return context->reservations;
}

/// The counter of a session's failed reads.
CRUNTIME_INLINE uint64_t *_Nonnull cruntime_guest_faults(struct csession_shared *_Nonnull shared) {
    return &shared->guest_faults;
}

/// The fields of task_struct that a session knows.
CRUNTIME_INLINE const struct csession_task *_Nonnull cruntime_task_layout(const struct csession_image *_Nonnull image) {
    return &image->task;
}

/// The counters of a session's stack memo.
CRUNTIME_INLINE uint64_t *_Nonnull cruntime_stack_hits(struct csession_shared *_Nonnull shared) {
    return &shared->stack_hits;
}
CRUNTIME_INLINE uint64_t *_Nonnull cruntime_stack_misses(struct csession_shared *_Nonnull shared) {
    return &shared->stack_misses;
}
CRUNTIME_INLINE uint64_t *_Nonnull cruntime_stack_differences(struct csession_shared *_Nonnull shared) {
    return &shared->stack_differences;
}

/// The first frame of a buffer.
CRUNTIME_INLINE uint64_t *_Nonnull cruntime_frames_start(struct cruntime_frames *_Nonnull buffer) {
    return buffer->frames;
}

/// The first word of a key's room.
CRUNTIME_INLINE uint64_t *_Nonnull cruntime_key_start(struct cruntime_key *_Nonnull key) { return key->words; }

/// Byte `index` of a piece of text.
CRUNTIME_INLINE uint8_t cruntime_text_byte(const struct cruntime_text *_Nonnull text, uint64_t index) {
    return text->bytes[index & 63];
}

/// Keeps loads and stores on both sides in their order among their own kind: x86 does so, the compiler is told to.
CRUNTIME_INLINE void cruntime_barrier(void) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

/// A word of memory and what it holds or held.
struct cruntime_word {
    uint64_t address, value;
};

/// Whether a word holds its value.
CRUNTIME_INLINE int32_t cruntime_is(struct cruntime_word word) { return *(const uint64_t *)word.address == word.value; }

/// Whether all `count` words at `words` still hold their values; without a branch for each.
CRUNTIME_INLINE int32_t cruntime_unchanged(const void *_Nonnull words, uint32_t count) {
    const struct cruntime_word *word = (const struct cruntime_word *)words, *end = word + count;
    uint64_t changes = 0;
    for (; word < end; word++) changes |= *(const uint64_t *)word->address ^ word->value;
    return changes == 0;
}

/// Plain loads at any alignment.
CRUNTIME_INLINE uint64_t cruntime_peek64(const void *_Nonnull at) {
    uint64_t value;
    __builtin_memcpy(&value, at, 8);
    return value;
}
/// The first `size` (0 to 7) bytes at `at`, zero-extended; reads no byte beyond them.
CRUNTIME_INLINE uint64_t cruntime_peek_tail(const void *_Nonnull at, uint64_t size) {
    const uint8_t *from = (const uint8_t *)at;
    uint64_t value = 0;
    if (size & 4) {
        uint32_t part;
        __builtin_memcpy(&part, from, 4);
        value = part;
        from += 4;
    }
    if (size & 2) {
        uint16_t part;
        __builtin_memcpy(&part, from, 2);
        value |= (uint64_t)part << ((size & 4) * 8);
        from += 2;
    }
    if (size & 1) value |= (uint64_t)*from << ((size & 6) * 8);
    return value;
}

#endif
