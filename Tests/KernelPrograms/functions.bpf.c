// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* Every kind of probe on functions of the kernel; each counts its own hits by the process that is asked for. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct hits {
	__u64 kprobe, kretprobe, multi, multi_return, syscall, syscall_return, fentry, fexit, fmod_ret;
	/* What the probes saw. */
	__s64 result;
};

struct hits hits;

static __always_inline bool is_work(void)
{
	char comm[TASK_COMM_LEN] = {};
	bpf_get_current_comm(comm, sizeof(comm));
	return comm[0] == 'w' && comm[1] == 'o' && comm[2] == 'r' && comm[3] == 'k' && !comm[4];
}

#define COUNT(WHAT)                                                                                                            \
	do {                                                                                                                       \
		if (is_work())                                                                                                         \
			__sync_fetch_and_add(&hits.WHAT, 1);                                                                               \
	} while (0)

SEC("kprobe/__x64_sys_getpgid")
int on_kprobe(void *ctx)
{
	COUNT(kprobe);
	return 0;
}

SEC("kretprobe/__x64_sys_getpgid")
int BPF_KRETPROBE(on_kretprobe, long result)
{
	COUNT(kretprobe);
	if (is_work())
		hits.result = result;
	return 0;
}

SEC("kprobe.multi/__x64_sys_getpg*")
int on_multi(void *ctx)
{
	COUNT(multi);
	return 0;
}

SEC("kretprobe.multi/__x64_sys_getpgid")
int on_multi_return(void *ctx)
{
	COUNT(multi_return);
	return 0;
}

SEC("ksyscall/getpgid")
int BPF_KSYSCALL(on_syscall, int pid)
{
	if (pid == bpf_get_current_pid_tgid() >> 32)
		COUNT(syscall);
	return 0;
}

SEC("kretsyscall/getpgid")
int on_syscall_return(void *ctx)
{
	COUNT(syscall_return);
	return 0;
}

SEC("fentry/__x64_sys_getpgid")
int BPF_PROG(on_fentry, struct pt_regs *regs)
{
	COUNT(fentry);
	return 0;
}

SEC("fexit/__x64_sys_getpgid")
int BPF_PROG(on_fexit, struct pt_regs *regs, long result)
{
	COUNT(fexit);
	return 0;
}

/* A function that may be given another result; this one leaves it. */
SEC("fmod_ret/security_task_getpgid")
int BPF_PROG(on_fmod_ret, void *task, int result)
{
	COUNT(fmod_ret);
	return result;
}
