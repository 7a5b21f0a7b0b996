// Programs that exercise what the library offers.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u64 min_size = 0;
const volatile char greeting[16] = "hello";
__s32 balance = -5;
__u64 hits;

struct event {
	__u32 pid;
	__u32 uid;
	__u64 size;
	char text[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} sizes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("uprobe")
int BPF_UPROBE(on_alloc, size_t size, const char *text)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, zero = 0;
	__u64 value = size;
	__u64 *count = bpf_map_lookup_elem(&calls, &zero);

	if (count)
		*count += 1;
	if (size < min_size)
		return 1;
	hits++;
	balance -= 1;
	if (bpf_map_update_elem(&sizes, &pid, &value, BPF_ANY))
		return 2;
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 3;
	event->pid = pid;
	event->uid = bpf_get_current_uid_gid();
	event->size = size;
	event->text[0] = 0;
	bpf_probe_read_user_str(event->text, sizeof(event->text), text);
	bpf_ringbuf_submit(event, 0);
	bpf_printk("pid %d size %d", pid, (int)size);
	return 0;
}

SEC("uretprobe")
int BPF_URETPROBE(on_return, __u64 result)
{
	return result == bpf_get_attach_cookie(ctx) ? 7 : 8;
}

SEC("uprobe")
int BPF_UPROBE(wild, __u64 address)
{
	return *(volatile int *)address;
}

SEC("uprobe")
int BPF_UPROBE(endless)
{
	for (;;)
		(*(volatile __u64 *)&hits)++;
	return 0;
}

SEC("syscall")
int swap(unsigned char *bytes)
{
	unsigned char first = bytes[0];

	bytes[0] = bytes[1];
	bytes[1] = first;
	return bytes[0];
}

static __u64 tail_value = 3;

SEC("uprobe")
int target(void *ctx)
{
	return 40 + (int)*(volatile __u64 *)&tail_value;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int(void *));
} programs SEC(".maps") = { .values = { [1] = (void *)&target } };

SEC("uprobe")
int caller(void *ctx)
{
	bpf_tail_call(ctx, &programs, 1);
	return -1;
}

SEC("kprobe/x")
int needs_kernel(void *ctx)
{
	return bpf_override_return(ctx, 1);
}
