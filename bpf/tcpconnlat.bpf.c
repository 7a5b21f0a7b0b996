// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * tcpconnlat: how long TCP connections that programs here open take to be established: from the SYN to the other side's answer.
 *
 * A socket that connects goes to SYN_SENT in the process that asked for it, and to ESTABLISHED wherever the answer is handled.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define AF_INET 2
#define IPPROTO_TCP 6
#define ESTABLISHED 1
#define SYN_SENT 2

/* Only this process; 0 for all. */
const volatile __u32 target_pid = 0;
/* Only what takes at least so long. */
const volatile __u64 min_us = 0;

struct attempt {
	__u64 since;
	__u32 pid;
	char comm[TASK_COMM_LEN];
};

struct event {
	__u32 pid;
	char comm[TASK_COMM_LEN];
	__u16 family __attribute__((btf_decl_tag("hide")));
	__u8 source[16] __attribute__((btf_decl_tag("ip")));
	__u16 sport;
	__u8 target[16] __attribute__((btf_decl_tag("ip")));
	__u16 dport;
	__u64 latency_us;
};

struct event *unused_event __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct attempt);
} attempts SEC(".maps") __attribute__((btf_decl_tag("hide")));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

static __always_inline int begin(__u64 socket)
{
	struct attempt attempt = {.since = bpf_ktime_get_ns(), .pid = bpf_get_current_pid_tgid() >> 32};
	if (target_pid && target_pid != attempt.pid)
		return 0;
	bpf_get_current_comm(attempt.comm, sizeof(attempt.comm));
	bpf_map_update_elem(&attempts, &socket, &attempt, BPF_ANY);
	return 0;
}

SEC("tracepoint/sock/inet_sock_set_state")
int on_state(struct trace_event_raw_inet_sock_set_state *ctx)
{
	if (ctx->protocol != IPPROTO_TCP)
		return 0;
	__u64 socket = (__u64)ctx->skaddr;
	if (ctx->newstate == SYN_SENT)
		return begin(socket);
	if (ctx->oldstate != SYN_SENT)
		return 0;
	struct attempt *attempt = bpf_map_lookup_elem(&attempts, &socket);
	if (!attempt)
		return 0;
	__u64 latency = (bpf_ktime_get_ns() - attempt->since) / 1000;
	/* An attempt that failed is forgotten. */
	if (ctx->newstate != ESTABLISHED || latency < min_us)
		goto done;

	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		goto done;
	__builtin_memset(event, 0, sizeof(*event));
	event->pid = attempt->pid;
	__builtin_memcpy(event->comm, attempt->comm, sizeof(event->comm));
	event->family = ctx->family;
	event->sport = ctx->sport;
	event->dport = ctx->dport;
	event->latency_us = latency;
	if (ctx->family == AF_INET) {
		bpf_probe_read_kernel(event->source, 4, ctx->saddr);
		bpf_probe_read_kernel(event->target, 4, ctx->daddr);
	} else {
		bpf_probe_read_kernel(event->source, 16, ctx->saddr_v6);
		bpf_probe_read_kernel(event->target, 16, ctx->daddr_v6);
	}
	bpf_ringbuf_submit(event, 0);
done:
	bpf_map_delete_elem(&attempts, &socket);
	return 0;
}
