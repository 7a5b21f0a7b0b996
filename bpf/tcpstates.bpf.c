// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* tcpstates: TCP connections as they go from state to state, and how long they were in the one before. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define AF_INET 2
#define IPPROTO_TCP 6

/* Only connections with this port at this side; 0 for all. */
const volatile __u16 local_port = 0;
/* Only connections with this port at the other side; 0 for all. */
const volatile __u16 remote_port = 0;

/* include/net/tcp_states.h */
enum state {
	NONE,
	ESTABLISHED,
	SYN_SENT,
	SYN_RECV,
	FIN_WAIT1,
	FIN_WAIT2,
	TIME_WAIT,
	CLOSE,
	CLOSE_WAIT,
	LAST_ACK,
	LISTEN,
	CLOSING,
	NEW_SYN_RECV,
};

struct event {
	__u64 socket __attribute__((btf_decl_tag("hex")));
	__u32 pid;
	char comm[TASK_COMM_LEN];
	__u16 family __attribute__((btf_decl_tag("hide")));
	__u8 source[16] __attribute__((btf_decl_tag("ip")));
	__u16 sport;
	__u8 target[16] __attribute__((btf_decl_tag("ip")));
	__u16 dport;
	enum state old_state;
	enum state new_state;
	__u64 duration_us;
};

struct event *unused_event __attribute__((unused));

/* When each socket came to its state. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u64);
	__type(value, __u64);
} since SEC(".maps") __attribute__((btf_decl_tag("hide")));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

SEC("tracepoint/sock/inet_sock_set_state")
int on_state(struct trace_event_raw_inet_sock_set_state *ctx)
{
	if (ctx->protocol != IPPROTO_TCP)
		return 0;
	if (local_port && local_port != ctx->sport)
		return 0;
	if (remote_port && remote_port != ctx->dport)
		return 0;

	__u64 socket = (__u64)ctx->skaddr;
	__u64 now = bpf_ktime_get_ns();
	__u64 *begun = bpf_map_lookup_elem(&since, &socket);
	__u64 duration = begun ? (now - *begun) / 1000 : 0;
	if (ctx->newstate == CLOSE)
		bpf_map_delete_elem(&since, &socket);
	else
		bpf_map_update_elem(&since, &socket, &now, BPF_ANY);

	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->socket = socket;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->family = ctx->family;
	event->sport = ctx->sport;
	event->dport = ctx->dport;
	event->old_state = ctx->oldstate;
	event->new_state = ctx->newstate;
	event->duration_us = duration;
	if (ctx->family == AF_INET) {
		bpf_probe_read_kernel(event->source, 4, ctx->saddr);
		bpf_probe_read_kernel(event->target, 4, ctx->daddr);
	} else {
		bpf_probe_read_kernel(event->source, 16, ctx->saddr_v6);
		bpf_probe_read_kernel(event->target, 16, ctx->daddr_v6);
	}
	bpf_ringbuf_submit(event, 0);
	return 0;
}
