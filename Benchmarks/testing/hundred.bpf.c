// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* About a hundred instructions with a lookup, an update and a read of the clock. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

SEC("uprobe")
int BPF_UPROBE(hundred, __u64 n)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 *count = bpf_map_lookup_elem(&counts, &pid), value = bpf_ktime_get_ns();

#pragma clang loop unroll(disable)
	for (int i = 0; i < 16; i++)
		value = value * 31 + (n >> i);
	if (count)
		value += *count;
	return bpf_map_update_elem(&counts, &pid, &value, BPF_ANY);
}
