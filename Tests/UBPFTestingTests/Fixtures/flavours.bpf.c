// A type of the kernel, and what it was called in others: as libbpf's tools say it.
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

struct thing {
	int first;
	int state;
	int second;
} __attribute__((preserve_access_index));

struct thing___new {
	int state;
} __attribute__((preserve_access_index));

struct thing___old {
	int old_state;
} __attribute__((preserve_access_index));

/* Known by its flavour alone. */
struct gone___x {
	int number;
} __attribute__((preserve_access_index));

SEC("raw_tp/any")
int BPF_PROG(states, struct thing *thing)
{
	struct thing___new *new = (void *)thing;
	struct thing___old *old = (void *)thing;

	if (bpf_core_field_exists(new->state))
		return BPF_CORE_READ(new, state) + BPF_CORE_READ(thing, second);
	return BPF_CORE_READ(old, old_state);
}

SEC("raw_tp/any")
int BPF_PROG(flavour_alone, struct gone___x *gone)
{
	return bpf_core_type_exists(struct gone___x) ? BPF_CORE_READ(gone, number) : -1;
}
