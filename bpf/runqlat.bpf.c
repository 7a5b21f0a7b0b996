// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* runqlat: how long threads that could run wait for a CPU, as a histogram of microseconds. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_SLOTS 27

/* Only threads of this process; 0 for all. */
const volatile __u32 target_pid = 0;
/* One histogram for each process. */
const volatile bool per_process = false;

struct hist {
	__u32 slots[MAX_SLOTS];
	char comm[TASK_COMM_LEN];
};

/* When each thread became ready to run. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, __u64);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} ready SEC(".maps") __attribute__((btf_decl_tag("hide")));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct hist);
} hists SEC(".maps");

static __always_inline int note_ready(struct task_struct *task)
{
	__u32 thread = BPF_CORE_READ(task, pid);
	if (!thread || (target_pid && target_pid != BPF_CORE_READ(task, tgid)))
		return 0;
	__u64 now = bpf_ktime_get_ns();
	bpf_map_update_elem(&ready, &thread, &now, BPF_ANY);
	return 0;
}

/* The number of the highest bit that is set. */
static __always_inline __u32 log2(__u64 value)
{
	__u32 slot = 0;
	for (int shift = 32; shift > 0; shift >>= 1) {
		if (value >> shift) {
			value >>= shift;
			slot += shift;
		}
	}
	return slot;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	return note_ready(task);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(on_wakeup_new, struct task_struct *task)
{
	return note_ready(task);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *previous, struct task_struct *next)
{
	__u32 thread = BPF_CORE_READ(next, pid);
	__u64 *since = bpf_map_lookup_elem(&ready, &thread);
	if (!since)
		return 0;
	__s64 delta = bpf_ktime_get_ns() - *since;
	bpf_map_delete_elem(&ready, &thread);
	if (delta < 0)
		return 0;

	__u32 key = per_process ? BPF_CORE_READ(next, tgid) : 0;
	struct hist *hist = bpf_map_lookup_elem(&hists, &key);
	if (!hist) {
		static struct hist zero;
		bpf_map_update_elem(&hists, &key, &zero, BPF_NOEXIST);
		hist = bpf_map_lookup_elem(&hists, &key);
		if (!hist)
			return 0;
		if (per_process)
			BPF_CORE_READ_STR_INTO(&hist->comm, next, comm);
	}
	__u32 slot = log2(delta / 1000);
	if (slot >= MAX_SLOTS)
		slot = MAX_SLOTS - 1;
	__sync_fetch_and_add(&hist->slots[slot], 1);
	return 0;
}
