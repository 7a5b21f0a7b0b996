// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* sigsnoop: signals that processes send each other by kill(2), tkill(2) and tgkill(2), and with what result. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	__u32 pid;
	__s32 target;
	__s32 signal;
	__s32 ret;
	char comm[TASK_COMM_LEN];
};

struct event *unused_event __attribute__((unused));

struct sent {
	__s32 target;
	__s32 signal;
};

/* Calls between entry and exit, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, struct sent);
} started SEC(".maps") __attribute__((btf_decl_tag("hide")));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

static __always_inline int begin(__s32 target, __s32 signal)
{
	__u32 thread = bpf_get_current_pid_tgid();
	struct sent sent = {.target = target, .signal = signal};
	bpf_map_update_elem(&started, &thread, &sent, BPF_ANY);
	return 0;
}

static __always_inline int end(long ret)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 thread = id;
	struct sent *sent = bpf_map_lookup_elem(&started, &thread);
	if (!sent)
		return 0;
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (event) {
		event->pid = id >> 32;
		event->target = sent->target;
		event->signal = sent->signal;
		event->ret = ret;
		bpf_get_current_comm(event->comm, sizeof(event->comm));
		bpf_ringbuf_submit(event, 0);
	}
	bpf_map_delete_elem(&started, &thread);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_kill")
int kill_entry(struct trace_event_raw_sys_enter *ctx)
{
	return begin(ctx->args[0], ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_exit_kill")
int kill_exit(struct trace_event_raw_sys_exit *ctx)
{
	return end(ctx->ret);
}

SEC("tracepoint/syscalls/sys_enter_tkill")
int tkill_entry(struct trace_event_raw_sys_enter *ctx)
{
	return begin(ctx->args[0], ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_exit_tkill")
int tkill_exit(struct trace_event_raw_sys_exit *ctx)
{
	return end(ctx->ret);
}

SEC("tracepoint/syscalls/sys_enter_tgkill")
int tgkill_entry(struct trace_event_raw_sys_enter *ctx)
{
	return begin(ctx->args[1], ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_exit_tgkill")
int tgkill_exit(struct trace_event_raw_sys_exit *ctx)
{
	return end(ctx->ret);
}
