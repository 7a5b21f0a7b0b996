// Kernel functions and variables that the object leaves to the loader.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

extern void *bpf_kernel_function(int pid) __ksym;
extern void bpf_weak_function(void *p) __ksym __weak;
extern const void kernel_variable __ksym;

SEC("raw_tp/sched_switch")
int strong(void *ctx)
{
	bpf_kernel_function(1);
	return (long)&kernel_variable;
}

SEC("raw_tp/sched_switch")
int weak(void *ctx)
{
	if (bpf_weak_function)
		bpf_weak_function(ctx);
	return 0;
}

SEC("uprobe")
int none(void *ctx)
{
	return 0;
}
