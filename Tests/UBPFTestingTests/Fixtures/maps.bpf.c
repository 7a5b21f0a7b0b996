/* Maps of maps, with what the object puts into them. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct inner {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} first SEC(".maps"), second SEC(".maps"), third SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} by_index SEC(".maps") = { .values = { &first, 0, (void *)&second } };

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} by_key SEC(".maps") = { .values = { (void *)&second, (void *)&first } };

static int add(void *inner, __u32 key, __u64 value)
{
	__u64 *found = bpf_map_lookup_elem(inner, &key);

	if (found)
		return __sync_fetch_and_add(found, value) + value;
	return bpf_map_update_elem(inner, &key, &value, BPF_NOEXIST) ? -1 : value;
}

__u32 number = 0;

SEC("uprobe")
int use_array(void *ctx)
{
	__u32 key = number;
	void *inner = bpf_map_lookup_elem(&by_index, &key);

	return inner ? add(inner, 7, 1) : -1;
}

SEC("uprobe")
int use_hash(void *ctx)
{
	__u32 key = number;
	void *inner = bpf_map_lookup_elem(&by_key, &key);

	return inner ? add(inner, 7, 100) : -1;
}
