// Programs of every kind that contexts can be made for, and what they can learn of the world.
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

enum color { RED, GREEN = 5 };

struct inner {
	__s16 x, y;
};

struct seen {
	__u64 time;
	__u64 pid_tgid;
	__u64 uid_gid;
	__u32 cpu;
	__u32 random;
	char comm[16];
	__u8 raw[4];
	enum color color;
	__u32 low : 3, high : 5;
	struct inner inner[2];
	union {
		__u32 word;
		__u16 half;
	};
	bool flag;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct seen);
} worlds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16);
	__uint(key_size, 4);
	__uint(value_size, 127 * 8);
} stacks SEC(".maps");

struct seen last;

SEC("uprobe")
int BPF_UPROBE(look)
{
	struct seen seen = {.color = GREEN, .low = 5, .high = 17, .word = 0x10002, .flag = true};
	__u32 key = 1;

	seen.time = bpf_ktime_get_ns();
	seen.pid_tgid = bpf_get_current_pid_tgid();
	seen.uid_gid = bpf_get_current_uid_gid();
	seen.cpu = bpf_get_smp_processor_id();
	seen.random = bpf_get_prandom_u32();
	bpf_get_current_comm(seen.comm, sizeof(seen.comm));
	seen.raw[1] = 0xab;
	seen.inner[1].y = -7;
	last = seen;
	return bpf_map_update_elem(&worlds, &key, &seen, BPF_ANY);
}

struct text {
	long length;
	char text[16];
};

/* Or the object's types only say that there is a struct of that name. */
const struct text *unused __attribute__((unused));

SEC("uprobe")
int BPF_UPROBE(read_text, const char *from, struct text **indirect)
{
	struct text *out = bpf_ringbuf_reserve(&events, sizeof(*out), 0);
	struct text *pointer = 0;

	if (!out)
		return 1;
	if (bpf_probe_read_user(&pointer, sizeof(pointer), indirect)) {
		bpf_ringbuf_discard(out, 0);
		return 2;
	}
	__builtin_memset(out, 0, sizeof(*out));
	out->length = bpf_probe_read_user_str(out->text, sizeof(out->text), from);
	bpf_ringbuf_submit(out, 0);
	return 0;
}

SEC("uprobe")
int BPF_UPROBE(send, __u64 value)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&percpu, &zero);

	if (count)
		*count += value;
	return bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &value, sizeof(value));
}

SEC("uprobe")
int BPF_UPROBE(stack)
{
	return bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
}

SEC("tracepoint/syscalls/sys_enter_openat")
int on_syscall(struct trace_event_raw_sys_enter *ctx)
{
	return ctx->id * 1000 + ctx->args[1];
}

SEC("raw_tp/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];

	return BPF_CORE_READ(task, group_leader, pid);
}

SEC("perf_event")
int on_sample(struct bpf_perf_event_data *ctx)
{
	return ctx->sample_period + ctx->regs.ip;
}

SEC("xdp")
int on_packet(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 14 > end)
		return 1;
	data[0] = 0xff;
	return data[12] == 8 && data[13] == 0 ? 2 : 1;
}

SEC("socket")
int on_socket(struct __sk_buff *skb)
{
	__u8 protocol = 0;

	if (bpf_skb_load_bytes(skb, 23, &protocol, 1))
		return 0;
	return protocol == 6 ? skb->len : 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 4);
} groups SEC(".maps");

SEC("kprobe/x")
int in_group(void *ctx)
{
	if (bpf_current_task_under_cgroup(&groups, 1) != 1)
		return -1;
	return bpf_get_current_cgroup_id() * 100 + bpf_get_current_ancestor_cgroup_id(1);
}

SEC("kprobe/x")
int needs_kernel(void *ctx)
{
	return bpf_get_cgroup_classid(ctx);
}

SEC("uprobe")
int BPF_UPROBE(no_check)
{
	__u32 key = 1;
	struct seen *seen = bpf_map_lookup_elem(&worlds, &key);

	return seen->cpu;
}
