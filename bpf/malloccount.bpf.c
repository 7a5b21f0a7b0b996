// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* malloccount: how often each process calls malloc, and for how many bytes. The smallest useful program. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct total {
	__u64 calls;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, struct total);
} totals SEC(".maps");

SEC("uprobe/libc.so.6:malloc")
int BPF_UPROBE(on_malloc, size_t size)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct total *total = bpf_map_lookup_elem(&totals, &pid);
	if (!total) {
		/* Two threads may come here at once: the first one's zero stays. */
		struct total zero = {};
		bpf_map_update_elem(&totals, &pid, &zero, BPF_NOEXIST);
		total = bpf_map_lookup_elem(&totals, &pid);
		if (!total)
			return 0;
	}
	__sync_fetch_and_add(&total->calls, 1);
	__sync_fetch_and_add(&total->bytes, size);
	return 0;
}
