// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* opensnoop: files that are opened, and with what result. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_NAME 128

/* Only this process; 0 for all. */
const volatile __u32 target_pid = 0;
/* Only opens that fail. */
const volatile bool failed = false;

struct open {
	const char *name;
	__u32 flags;
};

struct event {
	__u32 pid;
	__u32 uid;
	__s32 ret;
	__u32 flags;
	char comm[TASK_COMM_LEN];
	char filename[MAX_NAME];
};

struct event *unused_event __attribute__((unused));

/* Opens between entry and exit, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, struct open);
} started SEC(".maps") __attribute__((btf_decl_tag("hide")));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 512 * 1024);
} events SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_openat")
int on_open(struct trace_event_raw_sys_enter *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	if (target_pid && target_pid != id >> 32)
		return 0;
	__u32 thread = id;
	struct open open = {.name = (const char *)ctx->args[1], .flags = ctx->args[2]};
	bpf_map_update_elem(&started, &thread, &open, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int on_opened(struct trace_event_raw_sys_exit *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 thread = id;
	struct open *open = bpf_map_lookup_elem(&started, &thread);
	if (!open)
		return 0;
	if (failed && ctx->ret >= 0)
		goto done;
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		goto done;
	event->pid = id >> 32;
	event->uid = bpf_get_current_uid_gid();
	event->ret = ctx->ret;
	event->flags = open->flags;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->filename[0] = 0;
	bpf_probe_read_user_str(event->filename, sizeof(event->filename), open->name);
	bpf_ringbuf_submit(event, 0);
done:
	bpf_map_delete_elem(&started, &thread);
	return 0;
}
