// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* exitsnoop: processes that end: their exit code, the signal that killed them, and how long they lived. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	__u32 pid;
	__u32 ppid;
	__u32 exit_code;
	__u32 signal;
	__u64 duration_ns;
	char comm[TASK_COMM_LEN];
};

struct event *unused_event __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

SEC("tracepoint/sched/sched_process_exit")
int on_exit(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	/* Threads end too; the process does with its first one. */
	if (id >> 32 != (__u32)id)
		return 0;
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;

	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	int code = BPF_CORE_READ(task, exit_code);
	event->pid = id >> 32;
	event->ppid = BPF_CORE_READ(task, real_parent, tgid);
	event->exit_code = code >> 8 & 0xff;
	event->signal = code & 0x7f;
	event->duration_ns = bpf_ktime_get_ns() - BPF_CORE_READ(task, start_time);
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);
	return 0;
}
