// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * javagc: how long garbage collections of Java programs take, from the probes that HotSpot has built in.
 *
 * It runs in the process. A collection begins and ends on one thread; within it are those of the memory pools.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Only collections that take at least so long. */
const volatile __u64 min_us = 0;

enum what {
	COLLECTION,
	POOL,
};

struct event {
	enum what what;
	__u32 pid;
	__u32 tid;
	__u32 cpu;
	__u64 duration_ns;
};

struct event *unused_event __attribute__((unused));

struct work {
	__u32 thread;
	enum what what;
};

/* When what each thread is at began. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, struct work);
	__type(value, __u64);
} begun SEC(".maps") __attribute__((btf_decl_tag("hide")));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} events SEC(".maps");

static __always_inline int begin(enum what what)
{
	struct work work = {.thread = bpf_get_current_pid_tgid(), .what = what};
	__u64 now = bpf_ktime_get_ns();
	bpf_map_update_elem(&begun, &work, &now, BPF_ANY);
	return 0;
}

static __always_inline int end(enum what what)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct work work = {.thread = id, .what = what};
	__u64 *since = bpf_map_lookup_elem(&begun, &work);
	if (!since)
		return 0;
	__u64 duration = bpf_ktime_get_ns() - *since;
	bpf_map_delete_elem(&begun, &work);
	if (duration < min_us * 1000)
		return 0;
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->what = what;
	event->pid = id >> 32;
	event->tid = id;
	event->cpu = bpf_get_smp_processor_id();
	event->duration_ns = duration;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("usdt/libjvm.so:hotspot:mem__pool__gc__begin")
int on_pool_begin(void *ctx)
{
	return begin(POOL);
}

SEC("usdt/libjvm.so:hotspot:mem__pool__gc__end")
int on_pool_end(void *ctx)
{
	return end(POOL);
}

SEC("usdt/libjvm.so:hotspot:gc__begin")
int on_begin(void *ctx)
{
	return begin(COLLECTION);
}

SEC("usdt/libjvm.so:hotspot:gc__end")
int on_end(void *ctx)
{
	return end(COLLECTION);
}
