// Arguments of a static probe by libbpf's own header, which finds them where `Context.usdt` put them.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct seen {
	__u64 cookie;
	long values[3];
	int count, missing;
};

struct seen seen;

SEC("usdt")
int BPF_USDT(on_probe, long first, int second, void *third)
{
	long value;

	seen.count = bpf_usdt_arg_cnt(ctx);
	seen.cookie = bpf_usdt_cookie(ctx);
	seen.values[0] = first;
	seen.values[1] = second;
	seen.values[2] = (long)third;
	seen.missing = bpf_usdt_arg(ctx, 3, &value);
	return 0;
}
