// The benchmark programs: uint64_t f(uint8_t *m, uint64_t size), where m has MEMORY bytes. Plain C that any BPF user could have written,
// compiled as it is for BPF, for the host with and without vectors, and once more inside an XDP program for the kernel.
#ifndef PROGRAMS_H
#define PROGRAMS_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define MEMORY 16384

#include "table.h"

#define W(m) ((u64 *)(m))
#define ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))

BENCH(ret0) { return 0; }

// What a probe does: looks at an argument, filters, counts, keeps a maximum.
BENCH(probe) {
    u64 pid = W(m)[14];
    if (pid == 0x12345) return 0;
    W(m)[100]++;
    W(m)[101] += pid;
    if (pid > W(m)[102]) W(m)[102] = pid;
    return 0;
}

BENCH(array_sum) {
    u64 sum = 0;
    for (u64 i = 0; i < 1024; i++) sum += W(m)[i];
    return sum;
}

BENCH(histogram) {
    u32 *counts = (u32 *)(m + 4096);
    u64 mix = 0;
    for (int i = 0; i < 256; i++) counts[i] = 0;
    for (int i = 0; i < 1024; i++) counts[m[i]]++;
    for (int i = 0; i < 256; i++) mix = mix * 31 + counts[i];
    return mix;
}

BENCH(jenkins) {
    u32 hash = 0;
    for (int i = 0; i < 512; i++) {
        hash += m[i];
        hash += hash << 10;
        hash ^= hash >> 6;
    }
    hash += hash << 3;
    hash ^= hash >> 11;
    return hash + (hash << 15);
}

#define SIP_ROUND \
    (v0 += v1, v1 = ROTATE(v1, 13), v1 ^= v0, v0 = ROTATE(v0, 32), v2 += v3, v3 = ROTATE(v3, 16), v3 ^= v2, v0 += v3, \
     v3 = ROTATE(v3, 21), v3 ^= v0, v2 += v1, v1 = ROTATE(v1, 17), v1 ^= v2, v2 = ROTATE(v2, 32))

BENCH(siphash) {
    u64 v0 = 0x7068747077777676, v1 = 0x6b617f6d656e6665, v2 = 0x6b7f626f66697361, v3 = 0x7b6b7f6f7b77716f;
    for (int i = 0; i < 64; i++) {
        u64 word = W(m)[i];
        v3 ^= word;
        SIP_ROUND;
        SIP_ROUND;
        v0 ^= word;
    }
    v2 ^= 0xff;
    SIP_ROUND;
    SIP_ROUND;
    SIP_ROUND;
    SIP_ROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

BENCH(matmul) {
    u64 *a = W(m), *b = a + 256, *c = a + 512, mix = 0;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            u64 sum = 0;
            for (int k = 0; k < 16; k++) sum += a[i * 16 + k] * b[k * 16 + j];
            c[i * 16 + j] = sum;
        }
    for (int i = 0; i < 256; i++) mix ^= c[i] + i;
    return mix;
}

BENCH(prime) {
    u64 count = 0;
    for (u32 i = 2; i < 300; i++) {
        int is_prime = 1;
        for (u32 j = 2; j * j <= i; j++)
            if (i % j == 0) {
                is_prime = 0;
                break;
            }
        count += is_prime;
    }
    return count;
}

BENCH(memwalk) {
    u32 place = 0;
    u64 sum = 0;
    for (u32 i = 0; i < 1024; i++) {
        place = (((u32 *)m)[place & 1023] + i) & 1023;
        sum += place;
    }
    return sum;
}

BENCH(string_compare) {
    u64 length = 0;
    // The harness puts equal bytes there.
    while (length < 1024 && m[length] == m[length + 8192]) length++;
    return length;
}

BENCH(switches) {
    u64 x = 1;
    for (int i = 0; i < 512; i++) switch (m[i] & 7) {
            case 0: x += 3; break;
            case 1: x ^= 0x55; break;
            case 2: x *= 5; break;
            case 3: x -= 7; break;
            case 4: x = ROTATE(x, 3); break;
            case 5: x = ~x; break;
            case 6: x += x >> 3; break;
            default: x ^= x << 7;
        }
    return x;
}

BENCH(stack_sort) {
    u64 v[32], mix = 0;
    for (int i = 0; i < 32; i++) v[i] = m[i * 7] * 2654435761u + i;
    for (int i = 1; i < 32; i++) {
        u64 x = v[i];
        int j = i - 1;
        while (j >= 0 && v[j & 31] > x) {
            v[(j + 1) & 31] = v[j & 31];
            j--;
        }
        v[(j + 1) & 31] = x;
    }
    for (int i = 0; i < 32; i++) mix = mix * 3 + v[i];
    return mix;
}

BENCH(log2_sum) {
    u64 sum = 0;
    for (int i = 0; i < 512; i++) {
        u64 x = W(m)[i] | 1, bits = 0;
        if (x >> 32) x >>= 32, bits += 32;
        if (x >> 16) x >>= 16, bits += 16;
        if (x >> 8) x >>= 8, bits += 8;
        if (x >> 4) x >>= 4, bits += 4;
        if (x >> 2) x >>= 2, bits += 2;
        if (x >> 1) bits += 1;
        sum += bits;
    }
    return sum;
}

BENCH(xorshift) {
    u64 x = W(m)[0] | 1, sum = 0;
    for (int i = 0; i < 1024; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        sum += x;
    }
    return sum;
}

// Nanoseconds to microseconds, and a bucket.
BENCH(divide_constant) {
    u64 sum = 0;
    for (int i = 0; i < 512; i++) {
        sum += W(m)[i] / 1000;
        sum ^= W(m)[i] % 7;
    }
    return sum;
}

BENCH(crc32) {
    u32 crc = ~0u;
    for (int i = 0; i < 256; i++) {
        crc ^= m[i];
        for (int k = 0; k < 8; k++) crc = (crc >> 1) ^ (0xedb88320 & -(crc & 1));
    }
    return ~crc;
}

BENCH(atomics) {
    u64 sum = 0;
    for (int i = 0; i < 512; i++) sum += __sync_fetch_and_add(W(m) + (i & 7), i);
    return sum;
}

static __attribute__((noinline)) u64 mix_two(u64 a, u64 b) { return (a ^ b) * 31 + 7; }

BENCH(calls) {
    u64 x = 1;
    for (int i = 0; i < 512; i++) x = mix_two(x, W(m)[i & 63]);
    return x;
}

BENCH(copy64) {
    for (int i = 0; i < 512; i++) W(m)[i + 512] = W(m)[i];
    return W(m)[1023];
}

BENCH(copy8) {
    for (int i = 0; i < 1024; i++) m[i + 4096] = m[i];
    return m[4096 + 1023];
}

BENCH(simple_loop) {
    u64 x = W(m)[0];
    for (u64 i = 0; i < 1000; i++) {
        x = x * 3 + i;
        x ^= x >> 5;
    }
    return x;
}

#define LINE(n) x = (x ^ W(m)[n]) * 0x9e3779b1u + (x >> 17); y += x ^ (n); x -= y << 3;
#define LINES4(n) LINE(n) LINE(n + 1) LINE(n + 2) LINE(n + 3)
#define LINES16(n) LINES4(n) LINES4(n + 4) LINES4(n + 8) LINES4(n + 12)
#define LINES64(n) LINES16(n) LINES16(n + 16) LINES16(n + 32) LINES16(n + 48)
#define LINES256(n) LINES64(n) LINES64(n + 64) LINES64(n + 128) LINES64(n + 192)

BENCH(big_line) {
    u64 x = W(m)[0], y = size;
    LINES256(0)
    LINES256(256)
    return x + y;
}

#define BRANCH(n) if (m[n] & 1) x += W(m)[(n) & 63]; else x ^= x >> 3; if (m[(n) + 1] > 100) x += n;
#define BRANCHES4(n) BRANCH(n) BRANCH(n + 1) BRANCH(n + 2) BRANCH(n + 3)
#define BRANCHES16(n) BRANCHES4(n) BRANCHES4(n + 4) BRANCHES4(n + 8) BRANCHES4(n + 12)
#define BRANCHES64(n) BRANCHES16(n) BRANCHES16(n + 16) BRANCHES16(n + 32) BRANCHES16(n + 48)

BENCH(big_branch) {
    u64 x = W(m)[0];
    BRANCHES64(0)
    BRANCHES64(64)
    BRANCHES64(128)
    BRANCHES64(192)
    return x;
}

BENCH(binary_search) {
    u64 found = 0;
    for (u32 i = 0; i < 64; i++) {
        u64 want = W(m)[i] >> 54;
        u32 low = 0, high = 1023;
        for (int step = 0; step < 10; step++) {
            u32 middle = (low + high) / 2;
            if (middle < want) low = middle + 1; else high = middle;
        }
        found += low;
    }
    return found;
}

#endif
