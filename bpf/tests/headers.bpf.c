// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * One use of every macro of our headers. scripts/check-headers compiles this file with them and with libbpf's own, and compares
 * the instructions and the maps. It attaches to nothing.
 */
#ifdef WITH_KERNEL_HEADERS
#include <linux/ptrace.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#else
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} slot SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct { __u64 a; __u32 b[3]; });
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct inner);
} nested SEC(".maps") = {.values = {&slot}};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 4);
} programs SEC(".maps");

const volatile __u64 option = 3;
__u64 counter;

__weak int weak_one(int x)
{
	return x + 1;
}

static __noinline int not_inlined(void *ctx)
{
	return bpf_get_smp_processor_id() + (int)(long)ctx;
}

SEC("uprobe/libc.so.6:malloc")
int BPF_KPROBE(five_arguments, int a, char *b, long c, unsigned char d, void *e)
{
	bpf_printk("%d", a);
	return a + (long)b + c + d + (long)e + weak_one(a) + not_inlined(ctx);
}

/* What libbpf 1.1 lacks or does otherwise. */
#ifdef NEWER
SEC("uprobe/libc.so.6:malloc")
int BPF_UPROBE(six_arguments, int a, char *b, long c, unsigned char d, void *e, __u64 f)
{
	return a + (long)b + c + d + (long)e + f + PT_REGS_PARM6(ctx);
}

SEC("uretprobe/libc.so.6:malloc")
int BPF_URETPROBE(result_of_uprobe, int result)
{
	return result + bpf_core_type_matches(struct pt_regs);
}

/* libbpf also asks the kernel whether it wraps system calls; x86-64 always has since 4.17. */
SEC("ksyscall/kill")
int BPF_KSYSCALL(on_kill, pid_t pid, int sig)
{
	return pid + sig;
}
#endif

SEC("uprobe")
int BPF_KPROBE(no_arguments)
{
	bpf_printk("none");
	return PT_REGS_IP(ctx) + PT_REGS_SP(ctx) + PT_REGS_FP(ctx) + PT_REGS_RET(ctx);
}

SEC("uretprobe/libc.so.6:malloc")
int BPF_KRETPROBE(result, void *address)
{
	__u64 key = (__u64)address;
	__u64 zero[3] = {};
	bpf_map_update_elem(&table, &key, zero, BPF_NOEXIST);
	__sync_fetch_and_add(&counter, option);
	return bpf_map_lookup_elem(&table, &key) != (void *)0;
}

SEC("uretprobe")
int BPF_KRETPROBE(no_result)
{
	bpf_tail_call_static(ctx, &programs, 1);
	return PT_REGS_RC(ctx);
}

SEC("uprobe")
int parameters(struct pt_regs *ctx)
{
	return PT_REGS_PARM1(ctx) + PT_REGS_PARM2(ctx) + PT_REGS_PARM3(ctx) + PT_REGS_PARM4(ctx) + PT_REGS_PARM5(ctx);
}

SEC("uprobe")
int printing(struct pt_regs *ctx)
{
	char out[64];
	bpf_printk("%d %d %d", 1, 2, 3);
	bpf_printk("%d %d %d %d", 1, 2, 3, (int)PT_REGS_PARM1(ctx));
	BPF_SNPRINTF(out, sizeof(out), "%d %lu", 7, PT_REGS_PARM2(ctx));
	return out[0];
}

#ifndef WITH_KERNEL_HEADERS
SEC("uprobe")
int BPF_KPROBE(core_registers, struct pt_regs *regs)
{
	return PT_REGS_PARM1_CORE(regs) + PT_REGS_PARM2_CORE(regs) + PT_REGS_PARM5_CORE(regs) + PT_REGS_RC_CORE(regs) +
	       PT_REGS_PARM4_CORE_SYSCALL(regs) + PT_REGS_IP_CORE(regs) + PT_REGS_SP_CORE(regs);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *previous, struct task_struct *next)
{
	return preempt + previous->pid + next->tgid;
}

SEC("kprobe/do_unlinkat")
int reading(struct pt_regs *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	char comm[TASK_COMM_LEN];
	pid_t pid;
	BPF_CORE_READ_INTO(&pid, task, real_parent, tgid);
	BPF_CORE_READ_STR_INTO(&comm, task, group_leader, comm);
	bpf_core_read(&pid, sizeof(pid), &task->pid);
	return pid + comm[0] + BPF_CORE_READ(task, exit_code) +
	       BPF_CORE_READ(task, real_parent, real_parent, real_parent, group_leader, start_time) +
	       BPF_CORE_READ_USER(task, parent, tgid) + BPF_PROBE_READ(task, parent, parent, tgid) +
	       BPF_PROBE_READ_USER(task, pid);
}

enum color { RED = 5, GREEN = 7 };

struct flags {
	unsigned int first : 3;
	int second : 5;
	unsigned long third : 40;
} __attribute__((preserve_access_index));

SEC("kprobe/do_unlinkat")
int questions(struct pt_regs *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct flags *flags = (struct flags *)ctx;
	__u64 answer = 0;
	if (bpf_core_field_exists(task->exit_code))
		answer += bpf_core_field_size(task->comm);
	answer += bpf_core_field_exists(struct task_struct, comm) + bpf_core_field_offset(struct task_struct, tgid);
	answer += bpf_core_type_exists(struct task_struct) + bpf_core_type_size(struct task_struct);
	answer += bpf_core_type_id_local(struct task_struct) + bpf_core_type_id_kernel(struct task_struct);
	if (bpf_core_enum_value_exists(enum color, RED))
		answer += bpf_core_enum_value(enum color, GREEN);
	answer += BPF_CORE_READ_BITFIELD_PROBED(flags, second) + BPF_CORE_READ_BITFIELD_PROBED(flags, third);
	answer += BPF_CORE_READ_BITFIELD(flags, first);
	return answer + bpf_htons(answer) + bpf_ntohl(answer) + bpf_be64_to_cpu(answer);
}
#endif
