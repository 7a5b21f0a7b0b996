// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* tcprtt: round trip times of TCP connections, as the kernel estimates them at every segment that comes, in microseconds. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define AF_INET 2
#define MAX_SLOTS 27

/* Only connections with this port at this side; 0 for all. */
const volatile __u16 local_port = 0;
/* Only connections with this port at the other side; 0 for all. */
const volatile __u16 remote_port = 0;
/* One histogram for each address of the other side. */
const volatile bool per_peer = false;

struct peer {
	__u16 family __attribute__((btf_decl_tag("hide")));
	__u8 address[16] __attribute__((btf_decl_tag("ip")));
};

struct hist {
	__u64 total_us;
	__u64 count;
	__u32 slots[MAX_SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct peer);
	__type(value, struct hist);
} hists SEC(".maps");

/* The number of the highest bit that is set. */
static __always_inline __u32 log2(__u32 value)
{
	__u32 slot = 0;
	for (int shift = 16; shift > 0; shift >>= 1) {
		if (value >> shift) {
			value >>= shift;
			slot += shift;
		}
	}
	return slot;
}

static __always_inline int add(const struct peer *peer, __u32 microseconds)
{
	struct hist *hist = bpf_map_lookup_elem(&hists, peer);
	if (!hist) {
		static struct hist zero;
		bpf_map_update_elem(&hists, peer, &zero, BPF_NOEXIST);
		hist = bpf_map_lookup_elem(&hists, peer);
		if (!hist)
			return 0;
	}
	__u32 slot = log2(microseconds);
	if (slot >= MAX_SLOTS)
		slot = MAX_SLOTS - 1;
	__sync_fetch_and_add(&hist->slots[slot], 1);
	__sync_fetch_and_add(&hist->total_us, microseconds);
	__sync_fetch_and_add(&hist->count, 1);
	return 0;
}

SEC("fentry/tcp_rcv_established")
int BPF_PROG(on_segment, struct sock *sk)
{
	struct sock_common *common = &sk->__sk_common;
	if (local_port && local_port != BPF_CORE_READ(common, skc_num))
		return 0;
	if (remote_port && remote_port != bpf_ntohs(BPF_CORE_READ(common, skc_dport)))
		return 0;
	struct peer peer = {};
	if (per_peer) {
		peer.family = BPF_CORE_READ(common, skc_family);
		if (peer.family == AF_INET)
			bpf_core_read(peer.address, 4, &common->skc_daddr);
		else
			bpf_core_read(peer.address, 16, &common->skc_v6_daddr);
	}
	/* The kernel keeps eighths. */
	return add(&peer, BPF_CORE_READ((struct tcp_sock *)sk, srtt_us) >> 3);
}

/* For kernels without trampolines; the same function of the kernel, a little later. */
SEC("?tracepoint/tcp/tcp_probe")
__attribute__((btf_decl_tag("instead-of:on_segment"))) int on_probe(struct trace_event_raw_tcp_probe *ctx)
{
	if (local_port && local_port != ctx->sport)
		return 0;
	if (remote_port && remote_port != ctx->dport)
		return 0;
	struct peer peer = {};
	if (per_peer) {
		peer.family = ctx->family;
		/* struct sockaddr_in and sockaddr_in6: the address is behind 4 and 8 bytes. */
		if (peer.family == AF_INET)
			bpf_probe_read_kernel(peer.address, 4, ctx->daddr + 4);
		else
			bpf_probe_read_kernel(peer.address, 16, ctx->daddr + 8);
	}
	return add(&peer, ctx->srtt);
}
