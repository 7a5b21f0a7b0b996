// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * funclatency: how long calls of one function take, as a histogram of powers of two.
 *
 * Attach both programs to the same function: --attach function_enter=libc.so.6:qsort --attach function_exit=libc.so.6:qsort.
 * Recursive calls count as part of the outermost one.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define SLOTS 64

/* Nanoseconds per unit of the histogram: 1000 makes it microseconds. */
const volatile __u64 unit_ns = 1;

struct call {
	__u64 start_ns;
	__u64 depth;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct call);
} calls SEC(".maps");

/* Slot n counts the calls that took [2^n, 2^(n+1)) units; slot 0 also those that took none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} histogram SEC(".maps");

static __always_inline __u32 log2_of(__u64 value)
{
	__u32 result = 0;
#pragma unroll
	for (__u32 shift = SLOTS / 2; shift > 0; shift /= 2) {
		if (value >> shift) {
			value >>= shift;
			result += shift;
		}
	}
	return result;
}

SEC("uprobe")
int BPF_UPROBE(function_enter)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct call *running = bpf_map_lookup_elem(&calls, &tid);
	if (running) {
		running->depth += 1;
		return 0;
	}
	struct call call = {.start_ns = bpf_ktime_get_ns(), .depth = 1};
	bpf_map_update_elem(&calls, &tid, &call, BPF_ANY);
	return 0;
}

SEC("uretprobe")
int BPF_URETPROBE(function_exit)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct call *running = bpf_map_lookup_elem(&calls, &tid);
	if (!running)
		return 0;
	running->depth -= 1;
	if (running->depth)
		return 0;

	__u64 taken = now - running->start_ns;
	__u32 slot = log2_of(unit_ns > 1 ? taken / unit_ns : taken);
	bpf_map_delete_elem(&calls, &tid);
	__u64 *count = bpf_map_lookup_elem(&histogram, &slot);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}
