// A program without maps: needs no BTF.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

long total = 1;

SEC("uprobe")
int plain(void *ctx)
{
	total += bpf_ktime_get_ns();
	return 0;
}
