/* Program arrays whose programs are of one type, and one whose are not. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("uprobe")
int small(void *ctx)
{
	return 1;
}

/* Its context is larger than a probe's. */
SEC("perf_event")
int large(void *ctx)
{
	return *(volatile __u64 *)(ctx + sizeof(struct pt_regs));
}

SEC("perf_event")
int another(void *ctx)
{
	return 2;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int(void *));
} mixed SEC(".maps") = { .values = { (void *)&large } }, alike SEC(".maps") = { .values = { (void *)&another } },
  empty SEC(".maps");

SEC("uprobe")
int caller(void *ctx)
{
	bpf_tail_call(ctx, &mixed, 0);
	return 3;
}

SEC("perf_event")
int calls_alike(void *ctx)
{
	bpf_tail_call(ctx, &alike, 0);
	return 4;
}

SEC("uprobe")
int first(void *ctx)
{
	bpf_tail_call(ctx, &empty, 0);
	return 5;
}

SEC("tracepoint/syscalls/sys_enter_openat")
int second(void *ctx)
{
	bpf_tail_call(ctx, &empty, 0);
	return 6;
}
