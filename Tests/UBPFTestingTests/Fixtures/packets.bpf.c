// Programs that move the ends of packets, sum them, and send parts of them; most run in the kernel, too.
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

struct order {
	__s32 head, tail;
	__u32 from, size;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct order);
} orders SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u16);
	__type(value, __u64);
} protocols SEC(".maps");

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
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

__u64 total;

static void count(__u16 protocol)
{
	__u32 zero = 0;
	__u64 one = 1, *value = bpf_map_lookup_elem(&seen, &zero);

	if (value)
		*value += 1;
	value = bpf_map_lookup_elem(&protocols, &protocol);
	if (value)
		__sync_fetch_and_add(value, 1);
	else
		bpf_map_update_elem(&protocols, &protocol, &one, BPF_ANY);
	total++;
}

/* Moves both ends as it is told; the new length, or which of them could not be moved. */
SEC("xdp")
int move(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct order *order = bpf_map_lookup_elem(&orders, &zero);

	if (!order)
		return -1;
	if (order->head && bpf_xdp_adjust_head(ctx, order->head))
		return -2;
	if (order->tail && bpf_xdp_adjust_tail(ctx, order->tail))
		return -3;
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (data + 14 > end)
		return -4;
	data[0] = 0xaa;
	count(data[12] << 8 | data[13]);
	return end - data;
}

/* Metadata before the packet is gone with it, and moves with its start. */
SEC("xdp")
int meta(struct xdp_md *ctx)
{
	if (bpf_xdp_adjust_meta(ctx, -4))
		return 1;
	__u32 *before = (void *)(long)ctx->data_meta;
	if ((void *)(before + 1) > (void *)(long)ctx->data)
		return 2;
	*before = 77;
	if (bpf_xdp_adjust_head(ctx, 2))
		return 3;
	before = (void *)(long)ctx->data_meta;
	if ((void *)(before + 1) > (void *)(long)ctx->data)
		return 4;
	int result = *before;
	return bpf_xdp_adjust_meta(ctx, -3) == -13 ? result : 5;
}

/* Loads and stores by calls. */
SEC("xdp")
int copies(struct xdp_md *ctx)
{
	__u8 bytes[4] = {};
	int status = bpf_xdp_load_bytes(ctx, bpf_xdp_get_buff_len(ctx) - 4, bytes, 4);

	if (status)
		return status;
	bytes[0]++;
	if (bpf_xdp_load_bytes(ctx, bpf_xdp_get_buff_len(ctx) - 3, bytes, 4) != -22)
		return 1;
	return bpf_xdp_store_bytes(ctx, 10, bytes, 4);
}

/* The Internet's checksum of the part that it is told. */
SEC("tc")
int sums(struct __sk_buff *skb)
{
	__u8 bytes[16] = {}, other[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	if (bpf_skb_load_bytes(skb, 0, bytes, sizeof(bytes)))
		return -1;
	__s64 add = bpf_csum_diff(0, 0, (void *)bytes, 16, 7);
	__s64 difference = bpf_csum_diff((void *)other, 8, (void *)bytes, 8, 0xffff1234);
	__s64 take = bpf_csum_diff((void *)bytes, 12, 0, 0, 9);
	__u64 *record = bpf_ringbuf_reserve(&events, 24, 0);
	if (!record)
		return -3;
	record[0] = add;
	record[1] = difference;
	record[2] = take;
	bpf_ringbuf_submit(record, 0);
	skb->mark = add;
	skb->cb[1] = 5;
	count(skb->protocol);
	return 0;
}

/* Linux up to 6.12 refuses sizes that are no multiples of 4, later ones take them. */
SEC("tc")
int sums_of_three(struct __sk_buff *skb)
{
	__u8 bytes[3] = {};

	return bpf_csum_diff((void *)bytes, 3, 0, 0, 0);
}

/* Changes a word of the IP header, and the sums that it is in. */
SEC("tc")
int rewrites(struct __sk_buff *skb)
{
	__u32 old = 0, new = bpf_htonl(0x0a0000fe);

	if (bpf_skb_pull_data(skb, 42) || bpf_skb_load_bytes(skb, 30, &old, 4))
		return -1;
	if (bpf_l3_csum_replace(skb, 24, old, new, 4))
		return -2;
	if (bpf_l4_csum_replace(skb, 40, old, new, 0x10 | 0x20 | 4))
		return -3;
	if (bpf_l3_csum_replace(skb, 25, old, new, 4) != -14 || bpf_l3_csum_replace(skb, 24, old, new, 3) != -22)
		return -4;
	if (bpf_skb_store_bytes(skb, 30, &new, 4, 0))
		return -5;
	return bpf_skb_change_tail(skb, skb->len + 4, 0);
}

/* Which of the two ends there is room at. */
SEC("xdp")
int room(struct xdp_md *ctx)
{
	int result = 0;

	for (int step = 256; step; step >>= 1)
		if (!bpf_xdp_adjust_head(ctx, -step))
			result += step;
	for (int step = 2048; step; step >>= 1)
		if (!bpf_xdp_adjust_tail(ctx, step))
			result += step << 12;
	return result;
}

/* The packet goes behind the record. */
SEC("xdp")
int sample(struct xdp_md *ctx)
{
	__u64 length = ctx->data_end - ctx->data, header = 0x1122334455667788;

	return bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU | length << 32, &header, 8);
}

SEC("xdp")
int redirects(struct xdp_md *ctx)
{
	return bpf_redirect_map(&devices, 1, XDP_PASS);
}

SEC("socket")
int length(struct __sk_buff *skb)
{
	count(skb->protocol);
	return skb->len;
}

SEC("raw_tp/any")
int adds(struct bpf_raw_tracepoint_args *ctx)
{
	total += ctx->args[0];
	return ctx->args[0] + ctx->args[1];
}

SEC("syscall")
int doubles(__u32 *ctx)
{
	ctx[1] = ctx[0] * 2;
	total++;
	return ctx[1];
}

/* Programs of programs, for every engine. */
static long each(void *map, const __u16 *key, __u64 *value, __u64 *sum)
{
	*sum += *key * 1000 + *value;
	return 0;
}

static long turn(__u32 index, __u64 *sum)
{
	*sum += index;
	return index == 20;
}

SEC("xdp")
int walks(struct xdp_md *ctx)
{
	__u64 sum = 0;

	long entries = bpf_for_each_map_elem(&protocols, each, &sum, 0);
	long turns = bpf_loop(100, turn, &sum, 0);
	total = sum;
	return entries * 100 + turns;
}

SEC("xdp")
int last(struct xdp_md *ctx)
{
	total += 5;
	return 9;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, 4);
	__array(values, int(void *));
} targets SEC(".maps") = {.values = {[1] = (void *)&last}};

SEC("xdp")
int goes(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	total++;
	if (data + 1 <= end)
		bpf_tail_call(ctx, &targets, data[0]);
	return 1;
}

/* Follows pointers as the kernel lets typed programs do. */
struct node {
	struct node *next;
	int number;
	char text[8];
	short small;
	signed char tiny;
} __attribute__((preserve_access_index));

SEC("tp_btf/any")
int BPF_PROG(follows, struct node *node)
{
	char text[8];

	if (bpf_probe_read_kernel_str(text, sizeof(text), node->text) < 0)
		return -1;
	return node->number + node->next->number * 10 + node->next->small + node->next->tiny + text[1];
}

SEC("tp_btf/any")
int BPF_PROG(follows_far, struct node *node)
{
	int sum = 0;

	for (int i = 0; i < 4; i++) {
		sum += node->number;
		node = node->next;
	}
	return sum;
}

/* What a record's own fields are by a call. */
SEC("tracepoint/any/any")
int reads_context(void *ctx)
{
	__u64 word = 0;
	char text[4] = "abc", copy[4] = {};

	if (bpf_probe_read_kernel(&word, 8, ctx + 8) || bpf_probe_read_kernel_str(copy, 4, text) != 4)
		return -1;
	return word + copy[2];
}
