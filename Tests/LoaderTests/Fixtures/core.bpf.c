// Every kind of CO-RE relocation, against types of the kernel that are spelt differently here.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

#define relocatable __attribute__((preserve_access_index))

struct list_head {
	struct list_head *next;
} relocatable;

struct sched_avg;

struct task_struct {
	int pid;
	int tgid;
	char comm[16];
	struct task_struct *real_parent;
	struct list_head tasks;
	unsigned int in_execve : 1;
	int prio;
} relocatable;

struct task_struct___old {
	long state_that_never_was;
} relocatable;

struct nobody_has_this {
	int field;
} relocatable;

struct pt_regs {
	unsigned long di;
	unsigned long ax;
	unsigned long sp;
} relocatable;

struct sock_common {
	union {
		unsigned int skc_hash;
		unsigned short skc_u16hashes[2];
	};
	unsigned short skc_family;
} relocatable;

struct sock {
	struct sock_common __sk_common;
} relocatable;

enum pid_type {
	PIDTYPE_MAX = 99,
};

enum nobody_enum {
	NOBODY = 1,
};

typedef struct {
	int counter;
} atomic_t;

typedef int never_a_type_t;

long out[40];

SEC("uprobe")
int fields(struct pt_regs *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	int pid;

	out[0] = ctx->di;
	out[1] = ctx->sp;
	bpf_core_read(&pid, sizeof(pid), &task->tgid);
	out[2] = pid;
	out[3] = bpf_core_field_exists(task->comm);
	out[4] = bpf_core_field_size(task->comm);
	out[5] = bpf_core_field_offset(task->comm[3]);
	out[6] = bpf_core_field_exists(((struct task_struct___old *)task)->state_that_never_was);
	if (bpf_core_field_exists(((struct task_struct___old *)task)->state_that_never_was))
		out[7] = ((struct task_struct___old *)task)->state_that_never_was;
	out[8] = BPF_CORE_READ_BITFIELD_PROBED(task, in_execve);
	out[9] = BPF_CORE_READ(task, real_parent, tgid);
	out[10] = bpf_core_field_exists(((struct nobody_has_this *)task)->field);
	return 0;
}

SEC("uprobe")
int nested(struct pt_regs *ctx)
{
	struct sock *sk = (void *)ctx->di;

	out[11] = bpf_core_field_offset(sk->__sk_common.skc_u16hashes[1]);
	out[12] = bpf_core_field_offset(sk->__sk_common.skc_family);
	out[13] = bpf_core_field_size(sk->__sk_common.skc_family);
	return 0;
}

SEC("uprobe")
int types(struct pt_regs *ctx)
{
	out[14] = bpf_core_type_exists(struct task_struct);
	out[15] = bpf_core_type_exists(struct nobody_has_this);
	out[16] = bpf_core_type_size(struct task_struct);
	out[17] = bpf_core_type_size(struct nobody_has_this);
	out[18] = bpf_core_type_id_kernel(struct task_struct);
	out[19] = bpf_core_type_id_local(struct task_struct);
	out[20] = bpf_core_type_exists(atomic_t);
	out[21] = bpf_core_type_exists(never_a_type_t);
	return 0;
}

SEC("uprobe")
int enums(struct pt_regs *ctx)
{
	out[22] = bpf_core_enum_value(enum pid_type, PIDTYPE_MAX);
	out[23] = bpf_core_enum_value_exists(enum pid_type, PIDTYPE_MAX);
	out[24] = bpf_core_enum_value_exists(enum nobody_enum, NOBODY);
	if (bpf_core_enum_value_exists(enum nobody_enum, NOBODY))
		out[25] = bpf_core_enum_value(enum nobody_enum, NOBODY);
	return 0;
}
