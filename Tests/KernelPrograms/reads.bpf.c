// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* reads: answers what Tests/PreloadTests/Fixtures/reads.c asks, as the program of ReadTests does. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct question {
	__u64 address;
	__s64 result;
	__u8 bytes[24];
	__s64 length;
	__u8 text[16];
};

SEC("uprobe")
int ask(struct pt_regs *ctx)
{
	struct question *there = (void *)PT_REGS_PARM1(ctx);
	struct question question = {};

	bpf_probe_read_user(&question.address, sizeof(question.address), &there->address);
	question.result = bpf_probe_read_user(question.bytes, sizeof(question.bytes), (void *)question.address);
	question.length = bpf_probe_read_user_str(question.text, sizeof(question.text), (void *)question.address);
	bpf_probe_write_user(there, &question, sizeof(question));
	return 0;
}
