// Every form of a map definition, and global data of every section.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct key {
	__u32 pid;
	__u64 address;
};

typedef const struct key key_alias;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1000);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, key_alias);
	__type(value, __u64[3]);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(key_size, sizeof(__u32));
} stacks SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} inner_a SEC(".maps"), inner_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 8);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = {
	.values = { [1] = &inner_a, [5] = &inner_b },
};

int tail(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} calls SEC(".maps") = {
	.values = { [1] = (void *)&tail },
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

const volatile int limit = 42;
const volatile _Bool verbose = 1;
const volatile char prefix[16] = "abc";
const volatile unsigned long mask = 7;
const int fixed = 5;
int counter = 3;
static volatile long hits;
__u64 custom SEC(".data.custom") = 9;

extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool CONFIG_ABSENT __kconfig __weak;

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("uprobe")
int tail(void *ctx)
{
	return 0;
}

SEC("uprobe//bin/bash:readline")
int use(void *ctx)
{
	static const char format[] = "%d\n";
	__u32 zero = 0;
	struct key key = {};
	volatile const int *table = &fixed;

	hits += limit + *table;
	if (verbose && mask)
		counter++;
	custom += prefix[1];
	if (CONFIG_ABSENT)
		counter += LINUX_KERNEL_VERSION;
	bpf_map_update_elem(&hash, &key, &hits, BPF_ANY);
	bpf_map_lookup_elem(&outer, &zero);
	bpf_get_stackid(ctx, &stacks, 0);
	bpf_tail_call(ctx, &calls, 1);
	bpf_ringbuf_output(&events, &key, sizeof(key), 0);
	bpf_trace_printk(format, sizeof(format), LINUX_KERNEL_VERSION);
	return 0;
}
