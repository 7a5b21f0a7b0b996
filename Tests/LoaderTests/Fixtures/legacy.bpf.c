// Maps as they were before BTF.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct old_definition {
	unsigned int type, key_size, value_size, max_entries, map_flags;
};

struct old_definition old SEC("maps") = { BPF_MAP_TYPE_HASH, 4, 8, 10, 0 };

SEC("uprobe")
int use(void *ctx)
{
	int key = 0;

	return bpf_map_lookup_elem(&old, &key) != 0;
}
