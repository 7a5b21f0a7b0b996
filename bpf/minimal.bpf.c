// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* minimal: a line for every write(2), of one process if asked. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Only this process; 0 for all. */
const volatile __u32 target_pid = 0;

SEC("tracepoint/syscalls/sys_enter_write")
int on_write(struct trace_event_raw_sys_enter *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	if (target_pid && target_pid != pid)
		return 0;
	bpf_printk("PID %d writes %lu bytes to %lu", pid, ctx->args[2], ctx->args[0]);
	return 0;
}
