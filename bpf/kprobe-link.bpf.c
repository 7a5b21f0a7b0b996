// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * kprobe-link: files that are removed, from the kernel's own do_unlinkat(). Needs a kernel with kprobes; the tracepoint
 * syscalls/sys_enter_unlinkat says the same where there are none.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("kprobe/do_unlinkat")
int BPF_KPROBE(on_unlink, int dfd, struct filename *file)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	/* The name was copied from the process before: it is the kernel's memory. */
	const char *name = BPF_CORE_READ(file, name);
	char text[128];
	if (bpf_probe_read_kernel_str(text, sizeof(text), name) < 0)
		return 0;
	bpf_printk("PID %d removes %s", pid, text);
	return 0;
}

SEC("kretprobe/do_unlinkat")
int BPF_KRETPROBE(on_unlinked, long result)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	bpf_printk("PID %d: result %ld", pid, result);
	return 0;
}
