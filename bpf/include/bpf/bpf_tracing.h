/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Arguments and results of probed functions (x86-64), by register and by name.
 * With vmlinux.h the fields of pt_regs have the kernel's names, with asm/ptrace.h those of user space.
 */
#ifndef __BPF_TRACING_H__
#define __BPF_TRACING_H__

#include "bpf_helpers.h"

#if defined(__KERNEL__) || defined(__VMLINUX_H__)
#define ___ptregs_arg1 di
#define ___ptregs_arg2 si
#define ___ptregs_arg3 dx
#define ___ptregs_arg4 cx
#define ___ptregs_frame bp
#define ___ptregs_result ax
#define ___ptregs_stack sp
#define ___ptregs_pc ip
#define ___ptregs_syscall orig_ax
#else
#define ___ptregs_arg1 rdi
#define ___ptregs_arg2 rsi
#define ___ptregs_arg3 rdx
#define ___ptregs_arg4 rcx
#define ___ptregs_frame rbp
#define ___ptregs_result rax
#define ___ptregs_stack rsp
#define ___ptregs_pc rip
#define ___ptregs_syscall orig_rax
#endif
#define ___ptregs_arg5 r8
#define ___ptregs_arg6 r9
/* The kernel's entry code takes the fourth argument of a system call in r10: the syscall instruction uses rcx. */
#define ___ptregs_sysarg4 r10

struct pt_regs;

/* A register of the context itself. */
#define ___ptregs(X, FIELD) ((X)->FIELD)
#define PT_REGS_PARM1(X) ___ptregs(X, ___ptregs_arg1)
#define PT_REGS_PARM2(X) ___ptregs(X, ___ptregs_arg2)
#define PT_REGS_PARM3(X) ___ptregs(X, ___ptregs_arg3)
#define PT_REGS_PARM4(X) ___ptregs(X, ___ptregs_arg4)
#define PT_REGS_PARM5(X) ___ptregs(X, ___ptregs_arg5)
#define PT_REGS_PARM6(X) ___ptregs(X, ___ptregs_arg6)
/* On entry, the return address is where the stack pointer points. */
#define PT_REGS_RET(X) ___ptregs(X, ___ptregs_stack)
#define PT_REGS_FP(X) ___ptregs(X, ___ptregs_frame)
#define PT_REGS_RC(X) ___ptregs(X, ___ptregs_result)
#define PT_REGS_SP(X) ___ptregs(X, ___ptregs_stack)
#define PT_REGS_IP(X) ___ptregs(X, ___ptregs_pc)

#define PT_REGS_SYSCALL_REGS(CTX) ((struct pt_regs *)PT_REGS_PARM1(CTX))
#define PT_REGS_PARM1_SYSCALL(X) PT_REGS_PARM1(X)
#define PT_REGS_PARM2_SYSCALL(X) PT_REGS_PARM2(X)
#define PT_REGS_PARM3_SYSCALL(X) PT_REGS_PARM3(X)
#define PT_REGS_PARM4_SYSCALL(X) ___ptregs(X, ___ptregs_sysarg4)
#define PT_REGS_PARM5_SYSCALL(X) PT_REGS_PARM5(X)
#define PT_REGS_PARM6_SYSCALL(X) PT_REGS_PARM6(X)

/* A register of a pt_regs elsewhere in memory; needs bpf_core_read.h. */
#define ___ptregs_core(X, FIELD) BPF_CORE_READ((X), FIELD)
#define PT_REGS_PARM1_CORE(X) ___ptregs_core(X, ___ptregs_arg1)
#define PT_REGS_PARM2_CORE(X) ___ptregs_core(X, ___ptregs_arg2)
#define PT_REGS_PARM3_CORE(X) ___ptregs_core(X, ___ptregs_arg3)
#define PT_REGS_PARM4_CORE(X) ___ptregs_core(X, ___ptregs_arg4)
#define PT_REGS_PARM5_CORE(X) ___ptregs_core(X, ___ptregs_arg5)
#define PT_REGS_PARM6_CORE(X) ___ptregs_core(X, ___ptregs_arg6)
#define PT_REGS_RET_CORE(X) ___ptregs_core(X, ___ptregs_stack)
#define PT_REGS_FP_CORE(X) ___ptregs_core(X, ___ptregs_frame)
#define PT_REGS_RC_CORE(X) ___ptregs_core(X, ___ptregs_result)
#define PT_REGS_SP_CORE(X) ___ptregs_core(X, ___ptregs_stack)
#define PT_REGS_IP_CORE(X) ___ptregs_core(X, ___ptregs_pc)
#define PT_REGS_PARM1_CORE_SYSCALL(X) PT_REGS_PARM1_CORE(X)
#define PT_REGS_PARM2_CORE_SYSCALL(X) PT_REGS_PARM2_CORE(X)
#define PT_REGS_PARM3_CORE_SYSCALL(X) PT_REGS_PARM3_CORE(X)
#define PT_REGS_PARM4_CORE_SYSCALL(X) ___ptregs_core(X, ___ptregs_sysarg4)
#define PT_REGS_PARM5_CORE_SYSCALL(X) PT_REGS_PARM5_CORE(X)
#define PT_REGS_PARM6_CORE_SYSCALL(X) PT_REGS_PARM6_CORE(X)

/* The address that the probed function will return to. */
#define BPF_KPROBE_READ_RET_IP(IP, CTX)                                                                                        \
	({ bpf_probe_read_kernel(&(IP), sizeof(IP), (void *)PT_REGS_RET(CTX)); })
#define BPF_KRETPROBE_READ_RET_IP(IP, CTX)                                                                                     \
	({ bpf_probe_read_kernel(&(IP), sizeof(IP), (void *)(PT_REGS_FP(CTX) + sizeof(IP))); })

/*
 * BPF_KPROBE(name, int a, char *b) { … } defines a program `name(struct pt_regs *ctx)` and, inlined into it, the body with
 * named arguments. One shape serves all kinds; they differ in where the arguments come from. Casting an argument to void * first
 * lets it initialize integers and pointers alike.
 */
#define ___bpf_program(NAME, CTX, CALL, ...)                                                                                   \
	NAME(CTX);                                                                                                                 \
	static __always_inline typeof(NAME(0)) ____##NAME(CTX, ##__VA_ARGS__);                                                     \
	typeof(NAME(0)) NAME(CTX)                                                                                                  \
	{                                                                                                                          \
		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wint-conversion\"") return ____##NAME CALL;          \
		_Pragma("GCC diagnostic pop")                                                                                          \
	}                                                                                                                          \
	static __always_inline typeof(NAME(0)) ____##NAME(CTX, ##__VA_ARGS__)

#define ___bpf_regs_0() ctx
#define ___bpf_regs_1(A) ___bpf_regs_0(), (void *)PT_REGS_PARM1(ctx)
#define ___bpf_regs_2(A, ...) ___bpf_regs_1(__VA_ARGS__), (void *)PT_REGS_PARM2(ctx)
#define ___bpf_regs_3(A, ...) ___bpf_regs_2(__VA_ARGS__), (void *)PT_REGS_PARM3(ctx)
#define ___bpf_regs_4(A, ...) ___bpf_regs_3(__VA_ARGS__), (void *)PT_REGS_PARM4(ctx)
#define ___bpf_regs_5(A, ...) ___bpf_regs_4(__VA_ARGS__), (void *)PT_REGS_PARM5(ctx)
#define ___bpf_regs_6(A, ...) ___bpf_regs_5(__VA_ARGS__), (void *)PT_REGS_PARM6(ctx)
#define BPF_KPROBE(NAME, ...)                                                                                                  \
	___bpf_program(NAME, struct pt_regs *ctx, (___bpf_select(___bpf_regs_, ##__VA_ARGS__)(__VA_ARGS__)), ##__VA_ARGS__)

#define ___bpf_result_0() ctx
#define ___bpf_result_1(A) ctx, (void *)PT_REGS_RC(ctx)
#define BPF_KRETPROBE(NAME, ...)                                                                                               \
	___bpf_program(NAME, struct pt_regs *ctx, (___bpf_select(___bpf_result_, ##__VA_ARGS__)(__VA_ARGS__)), ##__VA_ARGS__)

#define BPF_UPROBE(NAME, ...) BPF_KPROBE(NAME, ##__VA_ARGS__)
#define BPF_URETPROBE(NAME, ...) BPF_KRETPROBE(NAME, ##__VA_ARGS__)

/* Programs whose context is an array of u64: tp_btf, fentry, fexit, lsm, struct_ops. */
#define ___bpf_array_0() ctx
#define ___bpf_array_1(A) ___bpf_array_0(), (void *)ctx[0]
#define ___bpf_array_2(A, ...) ___bpf_array_1(__VA_ARGS__), (void *)ctx[1]
#define ___bpf_array_3(A, ...) ___bpf_array_2(__VA_ARGS__), (void *)ctx[2]
#define ___bpf_array_4(A, ...) ___bpf_array_3(__VA_ARGS__), (void *)ctx[3]
#define ___bpf_array_5(A, ...) ___bpf_array_4(__VA_ARGS__), (void *)ctx[4]
#define ___bpf_array_6(A, ...) ___bpf_array_5(__VA_ARGS__), (void *)ctx[5]
#define ___bpf_array_7(A, ...) ___bpf_array_6(__VA_ARGS__), (void *)ctx[6]
#define ___bpf_array_8(A, ...) ___bpf_array_7(__VA_ARGS__), (void *)ctx[7]
#define ___bpf_array_9(A, ...) ___bpf_array_8(__VA_ARGS__), (void *)ctx[8]
#define ___bpf_array_10(A, ...) ___bpf_array_9(__VA_ARGS__), (void *)ctx[9]
#define ___bpf_array_11(A, ...) ___bpf_array_10(__VA_ARGS__), (void *)ctx[10]
#define BPF_PROG(NAME, ...)                                                                                                    \
	NAME(unsigned long long *ctx);                                                                                             \
	static __always_inline typeof(NAME(0)) ____##NAME(unsigned long long *ctx, ##__VA_ARGS__);                                 \
	typeof(NAME(0)) NAME(unsigned long long *ctx)                                                                              \
	{                                                                                                                          \
		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wint-conversion\"") return ____##NAME(               \
			___bpf_select(___bpf_array_, ##__VA_ARGS__)(__VA_ARGS__));                                                         \
		_Pragma("GCC diagnostic pop")                                                                                          \
	}                                                                                                                          \
	static __always_inline typeof(NAME(0)) ____##NAME(unsigned long long *ctx, ##__VA_ARGS__)

/* A kprobe on the body of a system call: its only argument is the pt_regs that hold the real ones. */
#define ___bpf_sysregs_0() ctx
#define ___bpf_sysregs_1(A) ___bpf_sysregs_0(), (void *)PT_REGS_PARM1_CORE_SYSCALL(____regs)
#define ___bpf_sysregs_2(A, ...) ___bpf_sysregs_1(__VA_ARGS__), (void *)PT_REGS_PARM2_CORE_SYSCALL(____regs)
#define ___bpf_sysregs_3(A, ...) ___bpf_sysregs_2(__VA_ARGS__), (void *)PT_REGS_PARM3_CORE_SYSCALL(____regs)
#define ___bpf_sysregs_4(A, ...) ___bpf_sysregs_3(__VA_ARGS__), (void *)PT_REGS_PARM4_CORE_SYSCALL(____regs)
#define ___bpf_sysregs_5(A, ...) ___bpf_sysregs_4(__VA_ARGS__), (void *)PT_REGS_PARM5_CORE_SYSCALL(____regs)
#define ___bpf_sysregs_6(A, ...) ___bpf_sysregs_5(__VA_ARGS__), (void *)PT_REGS_PARM6_CORE_SYSCALL(____regs)
#define BPF_KSYSCALL(NAME, ...)                                                                                                \
	NAME(struct pt_regs *ctx);                                                                                                 \
	static __always_inline typeof(NAME(0)) ____##NAME(struct pt_regs *ctx, ##__VA_ARGS__);                                     \
	typeof(NAME(0)) NAME(struct pt_regs *ctx)                                                                                  \
	{                                                                                                                          \
		struct pt_regs *____regs __attribute__((unused)) = PT_REGS_SYSCALL_REGS(ctx);                                          \
		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wint-conversion\"") return ____##NAME(               \
			___bpf_select(___bpf_sysregs_, ##__VA_ARGS__)(__VA_ARGS__));                                                       \
		_Pragma("GCC diagnostic pop")                                                                                          \
	}                                                                                                                          \
	static __always_inline typeof(NAME(0)) ____##NAME(struct pt_regs *ctx, ##__VA_ARGS__)
#define BPF_KPROBE_SYSCALL BPF_KSYSCALL

/* What libbpf's usdt.bpf.h counts its arguments with. */
#ifndef ___bpf_apply
#define ___bpf_concat(a, b) a##b
#define ___bpf_apply(macro, count) ___bpf_concat(macro, count)
#endif
#ifndef ___bpf_narg
#define ___bpf_nth(_0, _1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, count, ...) count
#define ___bpf_narg(args...) ___bpf_nth(_, ##args, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#endif

#endif
