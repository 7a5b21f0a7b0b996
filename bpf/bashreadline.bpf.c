// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* bashreadline: the lines typed into every bash. readline() returns the line without its newline, NULL at end of input. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_LINE 128

SEC("uretprobe//bin/bash:readline")
int BPF_URETPROBE(printret, const char *line)
{
	char text[MAX_LINE];
	char comm[TASK_COMM_LEN];
	if (!line)
		return 0;

	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(comm, sizeof(comm));
	if (bpf_probe_read_user_str(text, sizeof(text), line) < 0)
		return 0;
	bpf_printk("PID %d (%s) read: %s", pid, comm, text);
	return 0;
}
