// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * fentry-link: as kprobe-link, by the kernel's trampolines: arguments are typed and read like any memory, the program at the exit sees
 * them as well as the result.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("fentry/do_unlinkat")
int BPF_PROG(on_unlink, int dfd, struct filename *file)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	char text[128];
	if (bpf_probe_read_kernel_str(text, sizeof(text), file->name) < 0)
		return 0;
	bpf_printk("PID %d removes %s", pid, text);
	return 0;
}

/* The name is gone by now: do_unlinkat() gives it back before it returns. */
SEC("fexit/do_unlinkat")
int BPF_PROG(on_unlinked, int dfd, struct filename *file, long result)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	bpf_printk("PID %d: result %ld", pid, result);
	return 0;
}
