// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* hardirqs: how long the kernel's interrupt handlers run, as a histogram of nanoseconds for each of them. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_NAME 32
#define MAX_SLOTS 32

struct handler {
	char name[MAX_NAME];
};

struct hist {
	__u64 count;
	__u64 total_ns;
	__u32 slots[MAX_SLOTS];
};

/* When the handler that runs on each CPU began; handlers do not interrupt each other. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} begun SEC(".maps") __attribute__((btf_decl_tag("hide")));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, struct handler);
	__type(value, struct hist);
} handlers SEC(".maps");

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

SEC("tp_btf/irq_handler_entry")
int BPF_PROG(on_begin, int irq, struct irqaction *action)
{
	__u32 zero = 0;
	__u64 *since = bpf_map_lookup_elem(&begun, &zero);
	if (since)
		*since = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/irq_handler_exit")
int BPF_PROG(on_end, int irq, struct irqaction *action, int result)
{
	__u32 zero = 0;
	__u64 *since = bpf_map_lookup_elem(&begun, &zero);
	if (!since || !*since)
		return 0;
	__u64 taken = bpf_ktime_get_ns() - *since;
	*since = 0;

	struct handler handler = {};
	bpf_probe_read_kernel_str(handler.name, sizeof(handler.name), action->name);
	struct hist *hist = bpf_map_lookup_elem(&handlers, &handler);
	if (!hist) {
		static struct hist none;
		bpf_map_update_elem(&handlers, &handler, &none, BPF_NOEXIST);
		hist = bpf_map_lookup_elem(&handlers, &handler);
		if (!hist)
			return 0;
	}
	__u32 slot = log2(taken);
	if (slot >= MAX_SLOTS)
		slot = MAX_SLOTS - 1;
	__sync_fetch_and_add(&hist->slots[slot], 1);
	__sync_fetch_and_add(&hist->count, 1);
	__sync_fetch_and_add(&hist->total_ns, taken);
	return 0;
}
