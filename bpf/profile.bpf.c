// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* profile: where CPU time goes, in the kernel and in programs, by samples of every CPU. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Only this process; 0 for all. */
const volatile __u32 target_pid = 0;
/* Only threads of this name; empty for all. */
const volatile char target_comm[TASK_COMM_LEN] = "";
/* The time of CPUs that have nothing to do, too. */
const volatile bool idle = false;

struct place {
	__u32 pid;
	char comm[TASK_COMM_LEN];
	__s32 kernel __attribute__((btf_decl_tag("stack:kernel")));
	__s32 user __attribute__((btf_decl_tag("stack:user")));
};

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, PERF_MAX_STACK_DEPTH * sizeof(__u64));
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct place);
	__type(value, __u64);
} samples SEC(".maps");

SEC("perf_event")
int on_sample(struct bpf_perf_event_data *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct place place = {.pid = id >> 32};
	if (target_pid && target_pid != place.pid)
		return 0;
	if (!idle && !(__u32)id)
		return 0;
	bpf_get_current_comm(place.comm, sizeof(place.comm));
	for (int i = 0; target_comm[0] && i < TASK_COMM_LEN; i++) {
		if (place.comm[i] != target_comm[i])
			return 0;
		if (!target_comm[i])
			break;
	}
	/* Negative: no stack, and why. */
	place.kernel = bpf_get_stackid(ctx, &stacks, 0);
	place.user = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	__u64 *count = bpf_map_lookup_elem(&samples, &place);
	if (count) {
		__sync_fetch_and_add(count, 1);
		return 0;
	}
	__u64 one = 1;
	if (bpf_map_update_elem(&samples, &place, &one, BPF_NOEXIST)) {
		/* Another CPU was first. */
		count = bpf_map_lookup_elem(&samples, &place);
		if (count)
			__sync_fetch_and_add(count, 1);
	}
	return 0;
}
