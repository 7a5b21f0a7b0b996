/* Open-coded iterators as programs use them; each program's result is what the test expects of its arguments, N and M. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

#define N ((int)PT_REGS_PARM1(ctx))
#define M ((int)PT_REGS_PARM2(ctx))

static int numbers[32];
static int found;

SEC("uprobe")
int sum(struct pt_regs *ctx)
{
	int i, sum = 0;
	bpf_for(i, 0, N) sum += i;
	return sum;
}

SEC("uprobe")
int range(struct pt_regs *ctx)
{
	int i, count = 0, last = -1;
	bpf_for(i, N, M)
	{
		count++;
		last = i;
	}
	return count * 1000 + last;
}

SEC("uprobe")
int repeat(struct pt_regs *ctx)
{
	int count = 0;
	bpf_repeat(N) count += 2;
	return count;
}

SEC("uprobe")
int nested(struct pt_regs *ctx)
{
	int i, j, k, count = 0;
	bpf_for(i, 0, N) bpf_for(j, 0, i) bpf_for(k, 0, j) count++;
	return count;
}

SEC("uprobe")
int fill(struct pt_regs *ctx)
{
	int i, sum = 0;
	bpf_for(i, 0, 32) numbers[i] = i * N;
	bpf_for(i, 0, 32) sum += numbers[i];
	return sum;
}

SEC("uprobe")
int search(struct pt_regs *ctx)
{
	int i;
	found = -1;
	bpf_for(i, 0, 100)
	{
		if (i * i < N)
			continue;
		found = i;
		break;
	}
	return found;
}

static __noinline int triangle(int n)
{
	int i, sum = 0;
	bpf_for(i, 0, n + 1) sum += i;
	return sum;
}

SEC("uprobe")
int functions(struct pt_regs *ctx)
{
	int i, sum = 0;
	bpf_for(i, 0, N) sum += triangle(i);
	return sum;
}

static __noinline int take(struct bpf_iter_num *it)
{
	int *next = bpf_iter_num_next(it);
	return next ? *next : -1;
}

SEC("uprobe")
int passed(struct pt_regs *ctx)
{
	struct bpf_iter_num it;
	int sum;
	bpf_iter_num_new(&it, 5, N);
	sum = take(&it) * 100;
	sum += take(&it);
	bpf_iter_num_destroy(&it);
	return sum;
}

SEC("uprobe")
int codes(struct pt_regs *ctx)
{
	struct bpf_iter_num it;
	int code = bpf_iter_num_new(&it, N, M), *next = bpf_iter_num_next(&it);
	code += next ? 1000 : 0;
	next = bpf_iter_num_next(&it);
	code += next ? 2000 : 0;
	bpf_iter_num_destroy(&it);
	return code;
}

/* The buffer and the index lie on the stack, and only the loop's bound keeps the index inside. */
SEC("uprobe")
int on_stack(struct pt_regs *ctx)
{
	unsigned char bytes[16] = {};
	int i, j = 0, sum = 0;
	bpf_for(i, 0, N)
	{
		if (j >= 16)
			break;
		bytes[j & 15] = i;
		j++;
	}
	bpf_for(i, 0, 16) sum += bytes[i];
	return sum;
}

SEC("uprobe")
int asks(struct pt_regs *ctx)
{
	if (!bpf_ksym_exists(bpf_iter_num_new))
		return -1;
	return repeat(ctx);
}
