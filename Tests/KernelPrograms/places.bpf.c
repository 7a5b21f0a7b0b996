// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* Probes on a program, in the kernel: many functions at once, returns, and a static probe with its arguments. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* What libbpf's usdt.bpf.h has; a program that wants arguments of static probes needs no more than this. */
struct argument {
	__u64 value;
	__u32 type;
	__s16 offset;
	bool is_signed;
	char shift;
};

struct specification {
	struct argument arguments[12];
	__u64 cookie;
	__s16 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, int);
	__type(value, struct specification);
} __bpf_usdt_specs SEC(".maps") __attribute__((btf_decl_tag("hide")));

struct hits {
	__u64 entries, returns, steps;
	__s64 first, second, count;
};

struct hits hits;

SEC("uprobe.multi")
int on_entry(void *ctx)
{
	__sync_fetch_and_add(&hits.entries, 1);
	return 0;
}

SEC("uretprobe")
int on_return(void *ctx)
{
	__sync_fetch_and_add(&hits.returns, 1);
	return 0;
}

SEC("usdt")
int on_step(struct pt_regs *ctx)
{
	int number = bpf_get_attach_cookie(ctx);
	struct specification *specification = bpf_map_lookup_elem(&__bpf_usdt_specs, &number);
	if (!specification)
		return 0;
	struct argument *first = &specification->arguments[0];
	unsigned long value = 0;
	__s16 offset = first->offset;
	if (first->type == 1)
		bpf_probe_read_kernel(&value, sizeof(value), (void *)ctx + offset);
	value <<= first->shift & 63;
	hits.first = first->is_signed ? (long)value >> (first->shift & 63) : value >> (first->shift & 63);
	hits.second = specification->arguments[1].value;
	hits.count = specification->count;
	__sync_fetch_and_add(&hits.steps, 1);
	return 0;
}
