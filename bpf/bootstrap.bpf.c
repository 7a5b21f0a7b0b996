// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* bootstrap: programs that start and end, with how long they ran and how they ended. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_NAME 128

/* Only ends of programs that ran at least so long; their starts are not shown then. */
const volatile __u64 min_duration_ms = 0;

enum what {
	EXEC,
	EXIT,
};

struct event {
	enum what what;
	__u32 pid;
	__u32 ppid;
	__u32 exit_code;
	__u32 signal;
	__u64 duration_ns;
	char comm[TASK_COMM_LEN];
	char filename[MAX_NAME];
};

struct event *unused_event __attribute__((unused));

/* When each process executed its program. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u64);
} started SEC(".maps") __attribute__((btf_decl_tag("hide")));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

static __always_inline struct event *new_event(enum what what, __u32 pid)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return NULL;
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	event->what = what;
	event->pid = pid;
	event->ppid = BPF_CORE_READ(task, real_parent, tgid);
	event->exit_code = 0;
	event->signal = 0;
	event->duration_ns = 0;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->filename[0] = 0;
	return event;
}

SEC("tp/sched/sched_process_exec")
int on_exec(struct trace_event_raw_sched_process_exec *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 now = bpf_ktime_get_ns();
	bpf_map_update_elem(&started, &pid, &now, BPF_ANY);
	if (min_duration_ms)
		return 0;
	struct event *event = new_event(EXEC, pid);
	if (!event)
		return 0;
	/* Low half: where the string is in the tracepoint's record. */
	__u32 offset = ctx->__data_loc_filename & 0xffff;
	bpf_probe_read_kernel_str(event->filename, sizeof(event->filename), (void *)ctx + offset);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("tp/sched/sched_process_exit")
int on_exit(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 pid = id >> 32;
	/* Threads end too; the process does with its first one. */
	if (pid != (__u32)id)
		return 0;
	__u64 duration = 0;
	__u64 *since = bpf_map_lookup_elem(&started, &pid);
	if (since)
		duration = bpf_ktime_get_ns() - *since;
	else if (min_duration_ms)
		return 0;
	bpf_map_delete_elem(&started, &pid);
	if (duration < min_duration_ms * 1000000)
		return 0;

	struct event *event = new_event(EXIT, pid);
	if (!event)
		return 0;
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	int code = BPF_CORE_READ(task, exit_code);
	event->exit_code = code >> 8 & 0xff;
	event->signal = code & 0x7f;
	event->duration_ns = duration;
	bpf_ringbuf_submit(event, 0);
	return 0;
}
