// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * memleak: which allocations are still outstanding, and from where.
 *
 * An allocation call is recorded when it returns, by the outermost call only: calloc may be built on malloc, realloc on
 * malloc + free, malloc on mmap, and none of that is the caller's. A block that is given back leaves `allocs` before the allocator
 * sees the call, so an address that another thread gets at once is never mistaken for the old block.
 *
 * With --trace-kernel also what the kernel allocates for the process, in maps of its own.
 *
 * Program and map names are those of bcc's memleak, so that one recipe attaches and reports both.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_THREADS 65536
#define OWN_CALLS 16384
#define MAX_ALLOCATIONS (4 << 20)
#define MAX_STACKS 65536

/* Options. */
const volatile __u64 min_size = 0;
const volatile __u64 max_size = (__u64)-1;
const volatile __u64 sample_every_n = 1;
const volatile __u64 stack_flags = BPF_F_USER_STACK;
/* Times to the nanosecond, which cost more; the kernel gives programs on functions no others. */
const volatile bool exact_time = false;

/* The kernel's own allocations for the process, too; and the pages it takes, most of which are the process's memory or hold small ones. */
const volatile bool trace_kernel = false;
const volatile bool trace_pages = false;

/* Allocations seen but not recorded, because `allocs` was full. */
__u64 lost_allocs = 0;
/* Counts calls for sample_every_n. */
__u64 sample_counter = 0;

/* One outstanding allocation. */
struct alloc_info {
	__u64 size;
	__u64 timestamp_ns __attribute__((btf_decl_tag("time:ns")));
	/* Negative: the errno of bpf_get_stackid(). */
	__s32 stack_id __attribute__((btf_decl_tag("stack:user")));
	__u32 padding;
};

/* The outermost allocation call that a thread is in. */
struct pending {
	/* Stack pointer on entry: calls made from inside this one have a lower one. 0: in none. */
	__u64 sp;
	__u64 size;
	/* posix_memalign: where the address will be stored. */
	__u64 memptr;
	/* realloc, mremap: the block given back, and its record, put back if the call fails. 0 if there is none. */
	__u64 old_address;
	struct alloc_info old;
	__u64 is_recorded;
};

/* A thread's own place for it, by the low bits of its id. The first one that comes by keeps it. */
struct own_call {
	__u32 tid;
	__u32 padding;
	struct pending call;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OWN_CALLS);
	__type(key, __u32);
	__type(value, struct own_call);
} own_calls SEC(".maps") __attribute__((btf_decl_tag("hide")));

/* For threads whose place is another's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_THREADS);
	__type(key, __u32);
	__type(value, struct pending);
} sizes SEC(".maps") __attribute__((btf_decl_tag("hide")));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ALLOCATIONS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct alloc_info);
} allocs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, MAX_STACKS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, PERF_MAX_STACK_DEPTH * sizeof(__u64));
} stack_traces SEC(".maps");

/*
 * An allocator's own frames are shallow. A call further below than this is not inside the pending one: its return was never seen
 * (a thread killed in the middle, a probe missed) or the thread has changed stacks.
 */
#define MAX_ALLOCATOR_FRAMES (256 * 1024)

static __always_inline bool is_inside(const struct pending *outer, __u64 sp)
{
	return sp < outer->sp && outer->sp - sp < MAX_ALLOCATOR_FRAMES;
}

static __always_inline bool is_wanted(__u64 size)
{
	if (size < min_size || size > max_size)
		return false;
	return sample_every_n <= 1 || __sync_fetch_and_add(&sample_counter, 1) % sample_every_n == 0;
}

static __always_inline struct pending *find_own(__u32 tid)
{
	__u32 index = tid & (OWN_CALLS - 1);
	struct own_call *own = bpf_map_lookup_elem(&own_calls, &index);
	if (!own)
		return NULL;
	if (own->tid != tid && (own->tid || __sync_val_compare_and_swap(&own->tid, 0, tid)))
		return NULL;
	return &own->call;
}

/*
 * Notes the call that the thread enters, unless it is inside another. An equal stack pointer is the same call once more: an alias
 * (memalign and aligned_alloc in glibc 2.36) or a tail call; the last one that is entered counts, the first that returns records.
 */
static __always_inline int enter(struct pt_regs *ctx, __u64 size, __u64 memptr, __u64 old_address)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	__u64 sp = PT_REGS_SP(ctx);
	struct pending *own = find_own(tid);
	struct pending *outer = own ? own : bpf_map_lookup_elem(&sizes, &tid);
	if (outer && is_inside(outer, sp))
		return 0;

	if (own && !old_address) {
		own->sp = sp;
		own->size = size;
		own->memptr = memptr;
		own->old_address = 0;
		own->is_recorded = is_wanted(size);
		return 0;
	}
	struct pending call = {.sp = sp, .size = size, .memptr = memptr};
	call.is_recorded = is_wanted(size);
	if (old_address) {
		struct alloc_info *old = bpf_map_lookup_elem(&allocs, &old_address);
		if (old) {
			call.old_address = old_address;
			call.old = *old;
			bpf_map_delete_elem(&allocs, &old_address);
		}
	}
	if (own)
		*own = call;
	else
		bpf_map_update_elem(&sizes, &tid, &call, BPF_ANY);
	return 0;
}

/* Records what the outermost call returned; 0 is a failed call. */
static __always_inline int leave(struct pt_regs *ctx, __u64 address)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct pending *own = find_own(tid);
	struct pending *call = own ? own : bpf_map_lookup_elem(&sizes, &tid);
	/* After the return, the outermost call's stack pointer is above its entry's, an inner call's is not. */
	if (!call || !call->sp || is_inside(call, PT_REGS_SP(ctx) - sizeof(__u64)))
		return 0;

	if (address) {
		if (call->is_recorded) {
			struct alloc_info info = {
				.size = call->size,
				/* Else as of the last timer tick; ages are told in milliseconds. */
				.timestamp_ns = exact_time ? bpf_ktime_get_ns() : bpf_ktime_get_coarse_ns(),
				.stack_id = bpf_get_stackid(ctx, &stack_traces, stack_flags),
			};
			if (bpf_map_update_elem(&allocs, &address, &info, BPF_ANY))
				__sync_fetch_and_add(&lost_allocs, 1);
		}
	} else if (call->old_address && call->size) {
		/* The block was not moved and is still the caller's. A size of 0 has freed it. */
		bpf_map_update_elem(&allocs, &call->old_address, &call->old, BPF_ANY);
	}
	if (own)
		own->sp = 0;
	else
		bpf_map_delete_elem(&sizes, &tid);
	return 0;
}

static __always_inline int leave_with_pages(struct pt_regs *ctx)
{
	__u64 address = PT_REGS_RC(ctx);
	/* MAP_FAILED */
	return leave(ctx, address == (__u64)-1 ? 0 : address);
}

SEC("uprobe/libc.so.6:malloc")
int BPF_UPROBE(malloc_enter, size_t size)
{
	return enter(ctx, size, 0, 0);
}

SEC("uretprobe/libc.so.6:malloc")
int BPF_URETPROBE(malloc_exit)
{
	return leave(ctx, PT_REGS_RC(ctx));
}

SEC("uprobe/libc.so.6:calloc")
int BPF_UPROBE(calloc_enter, size_t nmemb, size_t size)
{
	/* If this overflows, the call fails and nothing is recorded. */
	return enter(ctx, nmemb * size, 0, 0);
}

SEC("uretprobe/libc.so.6:calloc")
int BPF_URETPROBE(calloc_exit)
{
	return leave(ctx, PT_REGS_RC(ctx));
}

SEC("uprobe/libc.so.6:realloc")
int BPF_UPROBE(realloc_enter, void *address, size_t size)
{
	return enter(ctx, size, 0, (__u64)address);
}

SEC("uretprobe/libc.so.6:realloc")
int BPF_URETPROBE(realloc_exit)
{
	return leave(ctx, PT_REGS_RC(ctx));
}

SEC("uprobe/libc.so.6:posix_memalign")
int BPF_UPROBE(posix_memalign_enter, void **memptr, size_t alignment, size_t size)
{
	return enter(ctx, size, (__u64)memptr, 0);
}

SEC("uretprobe/libc.so.6:posix_memalign")
int BPF_URETPROBE(posix_memalign_exit)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	__u64 address = 0;
	struct pending *own = find_own(tid);
	struct pending *call = own ? own : bpf_map_lookup_elem(&sizes, &tid);
	if (call && call->sp && call->memptr && (int)PT_REGS_RC(ctx) == 0)
		bpf_probe_read_user(&address, sizeof(address), (void *)call->memptr);
	return leave(ctx, address);
}

SEC("uprobe/libc.so.6:aligned_alloc")
int BPF_UPROBE(aligned_alloc_enter, size_t alignment, size_t size)
{
	return enter(ctx, size, 0, 0);
}

SEC("uretprobe/libc.so.6:aligned_alloc")
int BPF_URETPROBE(aligned_alloc_exit)
{
	return leave(ctx, PT_REGS_RC(ctx));
}

SEC("uprobe/libc.so.6:memalign")
int BPF_UPROBE(memalign_enter, size_t alignment, size_t size)
{
	return enter(ctx, size, 0, 0);
}

SEC("uretprobe/libc.so.6:memalign")
int BPF_URETPROBE(memalign_exit)
{
	return leave(ctx, PT_REGS_RC(ctx));
}

SEC("uprobe/libc.so.6:valloc")
int BPF_UPROBE(valloc_enter, size_t size)
{
	return enter(ctx, size, 0, 0);
}

SEC("uretprobe/libc.so.6:valloc")
int BPF_URETPROBE(valloc_exit)
{
	return leave(ctx, PT_REGS_RC(ctx));
}

SEC("uprobe/libc.so.6:pvalloc")
int BPF_UPROBE(pvalloc_enter, size_t size)
{
	return enter(ctx, size, 0, 0);
}

SEC("uretprobe/libc.so.6:pvalloc")
int BPF_URETPROBE(pvalloc_exit)
{
	return leave(ctx, PT_REGS_RC(ctx));
}

SEC("uprobe/libc.so.6:free")
int BPF_UPROBE(free_enter, void *address)
{
	__u64 key = (__u64)address;
	if (key)
		bpf_map_delete_elem(&allocs, &key);
	return 0;
}

SEC("uprobe/libc.so.6:mmap")
int BPF_UPROBE(mmap_enter, void *address, size_t size)
{
	return enter(ctx, size, 0, 0);
}

SEC("uretprobe/libc.so.6:mmap")
int BPF_URETPROBE(mmap_exit)
{
	return leave_with_pages(ctx);
}

SEC("uprobe/libc.so.6:mremap")
int BPF_UPROBE(mremap_enter, void *old_address, size_t old_size, size_t new_size)
{
	/* mremap(2): with an old size of 0 the old mapping stays and a second one appears. */
	return enter(ctx, new_size, 0, old_size ? (__u64)old_address : 0);
}

SEC("uretprobe/libc.so.6:mremap")
int BPF_URETPROBE(mremap_exit)
{
	return leave_with_pages(ctx);
}

SEC("uprobe/libc.so.6:munmap")
int BPF_UPROBE(munmap_enter, void *address, size_t size)
{
	__u64 key = (__u64)address;
	struct alloc_info *info = bpf_map_lookup_elem(&allocs, &key);
	if (!info)
		return 0;
	/* Cutting off the head of a mapping, as allocators do to align it, leaves its rest outstanding. */
	struct alloc_info rest = *info;
	bpf_map_delete_elem(&allocs, &key);
	if (rest.size > size) {
		key += size;
		rest.size -= size;
		bpf_map_update_elem(&allocs, &key, &rest, BPF_ANY);
	}
	return 0;
}

/*
 * The kernel's half: objects of kmalloc, of caches and of CPUs, that it allocates while a watched process runs, interrupts
 * included. Whoever gives one back, it is no longer outstanding; nor is it where somebody else is given the same address, as there are
 * ways to free many at once that no tracepoint sees.
 */
#define MAX_KERNEL_ALLOCATIONS (1 << 18)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} watched SEC(".maps") __attribute__((btf_decl_tag("processes"))) __attribute__((btf_decl_tag("hide")));

/* Made in full at once: these programs run inside of allocations. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_KERNEL_ALLOCATIONS);
	__type(key, __u64);
	__type(value, struct alloc_info);
} kernel_allocs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, MAX_STACKS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, PERF_MAX_STACK_DEPTH * sizeof(__u64));
} kernel_stack_traces SEC(".maps");

/* How many found `kernel_allocs` full. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} kernel_lost SEC(".maps");

static __always_inline int kernel_took(void *ctx, __u64 address, __u64 size)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, first = 0;
	if (!address)
		return 0;
	if (!bpf_map_lookup_elem(&watched, &tgid) || size < min_size || size > max_size) {
		bpf_map_delete_elem(&kernel_allocs, &address);
		return 0;
	}
	struct alloc_info info = {
		.size = size,
		.timestamp_ns = bpf_ktime_get_ns(),
		.stack_id = bpf_get_stackid(ctx, &kernel_stack_traces, 0),
	};
	if (bpf_map_update_elem(&kernel_allocs, &address, &info, BPF_ANY)) {
		__u64 *lost = bpf_map_lookup_elem(&kernel_lost, &first);
		if (lost)
			__sync_fetch_and_add(lost, 1);
	}
	return 0;
}

static __always_inline int kernel_gave_back(__u64 address)
{
	if (address)
		bpf_map_delete_elem(&kernel_allocs, &address);
	return 0;
}

/* Contexts of the tracepoints; the fields lie elsewhere in the kernel. */
struct trace_event_raw_kmalloc {
	struct trace_entry ent;
	unsigned long call_site;
	const void *ptr;
	unsigned long bytes_req, bytes_alloc;
} __attribute__((preserve_access_index));

struct trace_event_raw_kmem_cache_alloc {
	struct trace_entry ent;
	unsigned long call_site;
	const void *ptr;
	unsigned long bytes_req, bytes_alloc;
} __attribute__((preserve_access_index));

struct trace_event_raw_kfree {
	struct trace_entry ent;
	unsigned long call_site;
	const void *ptr;
} __attribute__((preserve_access_index));

struct trace_event_raw_kmem_cache_free {
	struct trace_entry ent;
	unsigned long call_site;
	const void *ptr;
} __attribute__((preserve_access_index));

struct trace_event_raw_percpu_alloc_percpu {
	struct trace_entry ent;
	unsigned long call_site;
	void *ptr;
	unsigned long bytes_alloc;
} __attribute__((preserve_access_index));

struct trace_event_raw_percpu_free_percpu {
	struct trace_entry ent;
	void *ptr;
} __attribute__((preserve_access_index));

struct trace_event_raw_mm_page_alloc {
	struct trace_entry ent;
	unsigned long pfn;
	unsigned int order;
} __attribute__((preserve_access_index));

struct trace_event_raw_mm_page_free {
	struct trace_entry ent;
	unsigned long pfn;
} __attribute__((preserve_access_index));

SEC("tp/kmem/kmalloc")
int on_kmalloc(struct trace_event_raw_kmalloc *ctx)
{
	return kernel_took(ctx, (__u64)ctx->ptr, ctx->bytes_alloc);
}

SEC("tp/kmem/kfree")
int on_kfree(struct trace_event_raw_kfree *ctx)
{
	return kernel_gave_back((__u64)ctx->ptr);
}

SEC("tp/kmem/kmem_cache_alloc")
int on_cache_alloc(struct trace_event_raw_kmem_cache_alloc *ctx)
{
	return kernel_took(ctx, (__u64)ctx->ptr, ctx->bytes_alloc);
}

SEC("tp/kmem/kmem_cache_free")
int on_cache_free(struct trace_event_raw_kmem_cache_free *ctx)
{
	return kernel_gave_back((__u64)ctx->ptr);
}

/* Offsets into the memory of each CPU, not addresses: odd here, which no address is. */
SEC("tp/percpu/percpu_alloc_percpu")
int on_percpu_alloc(struct trace_event_raw_percpu_alloc_percpu *ctx)
{
	return ctx->ptr ? kernel_took(ctx, (__u64)ctx->ptr | 1, ctx->bytes_alloc) : 0;
}

SEC("tp/percpu/percpu_free_percpu")
int on_percpu_free(struct trace_event_raw_percpu_free_percpu *ctx)
{
	return ctx->ptr ? kernel_gave_back((__u64)ctx->ptr | 1) : 0;
}

/* Pages by their place in the machine's memory, which is no address of the kernel's. */
SEC("tp/kmem/mm_page_alloc")
int on_page_alloc(struct trace_event_raw_mm_page_alloc *ctx)
{
	unsigned long pfn = ctx->pfn;
	if (!trace_pages || pfn == (unsigned long)-1)
		return 0;
	return kernel_took(ctx, (__u64)pfn << 12, 4096ull << (ctx->order & 63));
}

SEC("tp/kmem/mm_page_free")
int on_page_free(struct trace_event_raw_mm_page_free *ctx)
{
	return trace_pages ? kernel_gave_back((__u64)ctx->pfn << 12) : 0;
}
