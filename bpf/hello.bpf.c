// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* hello: a line for every program that is executed. The smallest program on a tracepoint of the kernel. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tracepoint/syscalls/sys_enter_execve")
int on_execve(struct trace_event_raw_sys_enter *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	bpf_printk("hello from PID %d", pid);
	return 0;
}
