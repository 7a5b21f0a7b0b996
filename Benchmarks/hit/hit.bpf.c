// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* hit: programs for hit-loop, from nothing to a little. Probes go where --attach says. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counter SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1024);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 127 * sizeof(__u64));
} stacks SEC(".maps");

SEC("uprobe")
int empty(struct pt_regs *ctx)
{
	return 0;
}

SEC("uretprobe")
int empty_return(struct pt_regs *ctx)
{
	return 0;
}

SEC("uprobe")
int count(struct pt_regs *ctx)
{
	__u32 key = 0;
	__u64 *value = bpf_map_lookup_elem(&counter, &key);
	if (value)
		*value += 1;
	return 0;
}

SEC("uprobe")
int update(struct pt_regs *ctx)
{
	__u64 key = PT_REGS_PARM1(ctx) & 63, value = PT_REGS_SP(ctx);
	bpf_map_update_elem(&calls, &key, &value, BPF_ANY);
	return 0;
}

SEC("uprobe")
int stack(struct pt_regs *ctx)
{
	bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	return 0;
}

/* The probed function's own code: memory that is no stack. */
SEC("uprobe")
int read_8(struct pt_regs *ctx)
{
	__u64 word;

	bpf_probe_read_user(&word, sizeof(word), (void *)PT_REGS_IP(ctx));
	return 0;
}

SEC("uprobe")
int read_256(struct pt_regs *ctx)
{
	__u8 bytes[256];

	bpf_probe_read_user(bytes, sizeof(bytes), (void *)PT_REGS_IP(ctx));
	return 0;
}
