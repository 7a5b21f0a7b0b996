// Several programs per section, subprograms of every linkage, and a callback.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

long total;
static long other;

static __attribute__((noinline)) long leaf(long x)
{
	return x * 3 + total;
}

static __attribute__((noinline)) long middle(long x)
{
	return leaf(x + 1) + leaf(x + 2);
}

__attribute__((noinline)) int global(int x)
{
	return leaf(x) + 7;
}

__attribute__((weak, noinline)) int weak(int x)
{
	return x + total;
}

__attribute__((noinline)) int never_called(int x)
{
	return x - total;
}

static long callback(__u32 index, void *context)
{
	other += index;
	return middle(index);
}

SEC("uprobe")
int first(void *ctx)
{
	return middle(1) + middle(2);
}

SEC("uprobe")
int second(void *ctx)
{
	return global(3) + weak(5);
}

SEC("uretprobe")
int third(void *ctx)
{
	bpf_loop(10, callback, 0, 0);
	return 0;
}

SEC("uprobe")
int fourth(void *ctx)
{
	return 4;
}
