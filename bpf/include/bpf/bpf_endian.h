/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Byte order: what the network or a big-endian file holds, against the machine's order. */
#ifndef __BPF_ENDIAN__
#define __BPF_ENDIAN__

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ___bpf_big16(X) __builtin_bswap16(X)
#define ___bpf_big32(X) __builtin_bswap32(X)
#define ___bpf_big64(X) __builtin_bswap64(X)
#define ___bpf_little16(X) (X)
#define ___bpf_little32(X) (X)
#define ___bpf_little64(X) (X)
#elif __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define ___bpf_big16(X) (X)
#define ___bpf_big32(X) (X)
#define ___bpf_big64(X) (X)
#define ___bpf_little16(X) __builtin_bswap16(X)
#define ___bpf_little32(X) __builtin_bswap32(X)
#define ___bpf_little64(X) __builtin_bswap64(X)
#else
#error "unknown byte order"
#endif

#define bpf_htons(X) ___bpf_big16(X)
#define bpf_ntohs(X) ___bpf_big16(X)
#define bpf_htonl(X) ___bpf_big32(X)
#define bpf_ntohl(X) ___bpf_big32(X)
#define bpf_cpu_to_be64(X) ___bpf_big64(X)
#define bpf_be64_to_cpu(X) ___bpf_big64(X)
#define bpf_cpu_to_le64(X) ___bpf_little64(X)
#define bpf_le64_to_cpu(X) ___bpf_little64(X)

#endif
