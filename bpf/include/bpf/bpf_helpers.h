/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Sections, map definitions and helpers, under the names that BPF C programs use everywhere.
 * Include vmlinux.h or linux/bpf.h first: the fixed-width types come from there.
 */
#ifndef __BPF_HELPERS__
#define __BPF_HELPERS__

#include "bpf_helper_defs.h"

/* A program, map or variable goes to the ELF section that says what it is, even if nothing refers to it. */
#if defined(__clang__)
#define SEC(NAME)                                                                                                              \
	_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wignored-attributes\"")                                  \
	__attribute__((section(NAME), used)) _Pragma("GCC diagnostic pop")
#else
/* GCC takes no pragma inside a declaration. */
#define SEC(NAME) __attribute__((section(NAME), used))
#endif

/* BTF-defined maps: numbers travel as array bounds, types as pointers. */
#define __uint(NAME, VALUE) int(*NAME)[VALUE]
#define __type(NAME, TYPE) typeof(TYPE) *NAME
#define __array(NAME, TYPE) typeof(TYPE) *NAME[]
#define __ulong(NAME, VALUE) enum { ___bpf_paste(__unique_value, __COUNTER__) = VALUE } NAME

#define ___bpf_paste2(A, B) A##B
#define ___bpf_paste(A, B) ___bpf_paste2(A, B)

/* linux/stddef.h may have defined __always_inline without `inline`. */
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif
#ifndef __weak
#define __weak __attribute__((weak))
#endif
#ifndef __hidden
#define __hidden __attribute__((visibility("hidden")))
#endif
#ifndef __kconfig
#define __kconfig __attribute__((section(".kconfig")))
#endif
#ifndef __ksym
#define __ksym __attribute__((section(".ksyms")))
#endif
/* Whether the kernel, or this runtime, has a __weak __ksym. */
#define bpf_ksym_exists(SYMBOL)                                                                                                \
	({                                                                                                                         \
		_Static_assert(!__builtin_constant_p(!!SYMBOL), #SYMBOL " should be __weak");                                          \
		!!SYMBOL;                                                                                                              \
	})
#define __kptr __attribute__((btf_type_tag("kptr")))
#define __kptr_untrusted __attribute__((btf_type_tag("kptr_untrusted")))

#ifndef KERNEL_VERSION
#define KERNEL_VERSION(MAJOR, MINOR, PATCH) (((MAJOR) << 16) + ((MINOR) << 8) + ((PATCH) > 255 ? 255 : (PATCH)))
#endif

#ifndef offsetof
#define offsetof(TYPE, MEMBER) ((unsigned long)&((TYPE *)0)->MEMBER)
#endif
#ifndef container_of
#define container_of(POINTER, TYPE, MEMBER)                                                                                    \
	({                                                                                                                         \
		void *__member = (void *)(POINTER);                                                                                    \
		(TYPE *)(__member - offsetof(TYPE, MEMBER));                                                                           \
	})
#endif

/* Keeps the compiler from moving or merging accesses across this point. */
#ifndef barrier
#define barrier() asm volatile("" ::: "memory")
#endif
/* Makes the compiler forget what it knows of VARIABLE, so that a bounds check on it survives. */
#ifndef barrier_var
#define barrier_var(VARIABLE) asm volatile("" : "+r"(VARIABLE))
#endif

enum libbpf_pin_type {
	LIBBPF_PIN_NONE,
	LIBBPF_PIN_BY_NAME,
};

enum libbpf_tristate {
	TRI_NO = 0,
	TRI_YES = 1,
	TRI_MODULE = 2,
};

/* How many arguments follow; up to 12. */
#define ___bpf_pick_13th(A, B, C, D, E, F, G, H, I, J, K, L, N, ...) N
#define ___bpf_count(...) ___bpf_pick_13th(_, ##__VA_ARGS__, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define ___bpf_select(PREFIX, ...) ___bpf_paste(PREFIX, ___bpf_count(__VA_ARGS__))

/* Each argument as an element of an array of u64. */
#define ___bpf_u64_0()
#define ___bpf_u64_1(A) (unsigned long long)(A)
#define ___bpf_u64_2(A, ...) (unsigned long long)(A), ___bpf_u64_1(__VA_ARGS__)
#define ___bpf_u64_3(A, ...) (unsigned long long)(A), ___bpf_u64_2(__VA_ARGS__)
#define ___bpf_u64_4(A, ...) (unsigned long long)(A), ___bpf_u64_3(__VA_ARGS__)
#define ___bpf_u64_5(A, ...) (unsigned long long)(A), ___bpf_u64_4(__VA_ARGS__)
#define ___bpf_u64_6(A, ...) (unsigned long long)(A), ___bpf_u64_5(__VA_ARGS__)
#define ___bpf_u64_7(A, ...) (unsigned long long)(A), ___bpf_u64_6(__VA_ARGS__)
#define ___bpf_u64_8(A, ...) (unsigned long long)(A), ___bpf_u64_7(__VA_ARGS__)
#define ___bpf_u64_9(A, ...) (unsigned long long)(A), ___bpf_u64_8(__VA_ARGS__)
#define ___bpf_u64_10(A, ...) (unsigned long long)(A), ___bpf_u64_9(__VA_ARGS__)
#define ___bpf_u64_11(A, ...) (unsigned long long)(A), ___bpf_u64_10(__VA_ARGS__)
/* The same without a cast to u64, for calls whose arguments fill an array of u64 by conversion. */
#define ___bpf_u64_all(...) ___bpf_select(___bpf_u64_, ##__VA_ARGS__)(__VA_ARGS__)

/* A format string lives in .rodata, where the verifier wants it, unless the program asks for the stack. */
#ifdef BPF_NO_GLOBAL_DATA
#define ___bpf_format_storage
#else
#define ___bpf_format_storage static const
#endif

/* bpf_trace_printk() takes three values at most; more go through bpf_trace_vprintk(). */
#define ___bpf_printk_direct(FORMAT, ...)                                                                                      \
	({                                                                                                                         \
		___bpf_format_storage char ____fmt[] = FORMAT;                                                                         \
		bpf_trace_printk(____fmt, sizeof(____fmt), ##__VA_ARGS__);                                                             \
	})
#define ___bpf_printk_array(FORMAT, ...)                                                                                       \
	({                                                                                                                         \
		static const char ____fmt[] = FORMAT;                                                                                  \
		unsigned long long ____values[] = {___bpf_u64_all(__VA_ARGS__)};                                                       \
		bpf_trace_vprintk(____fmt, sizeof(____fmt), ____values, sizeof(____values));                                           \
	})
#define ___bpf_printk_0 ___bpf_printk_direct
#define ___bpf_printk_1 ___bpf_printk_direct
#define ___bpf_printk_2 ___bpf_printk_direct
#define ___bpf_printk_3 ___bpf_printk_direct
#define ___bpf_printk_4 ___bpf_printk_array
#define ___bpf_printk_5 ___bpf_printk_array
#define ___bpf_printk_6 ___bpf_printk_array
#define ___bpf_printk_7 ___bpf_printk_array
#define ___bpf_printk_8 ___bpf_printk_array
#define ___bpf_printk_9 ___bpf_printk_array
#define ___bpf_printk_10 ___bpf_printk_array
#define ___bpf_printk_11 ___bpf_printk_array
#define bpf_printk(FORMAT, ...) ___bpf_select(___bpf_printk_, ##__VA_ARGS__)(FORMAT, ##__VA_ARGS__)

#define BPF_SNPRINTF(OUT, SIZE, FORMAT, ...)                                                                                   \
	({                                                                                                                         \
		static const char ____fmt[] = FORMAT;                                                                                  \
		unsigned long long ____values[] = {___bpf_u64_all(__VA_ARGS__)};                                                       \
		bpf_snprintf(OUT, SIZE, ____fmt, ____values, sizeof(____values));                                                      \
	})

#define BPF_SEQ_PRINTF(SEQ, FORMAT, ...)                                                                                       \
	({                                                                                                                         \
		static const char ____fmt[] = FORMAT;                                                                                  \
		unsigned long long ____values[] = {___bpf_u64_all(__VA_ARGS__)};                                                       \
		bpf_seq_printf(SEQ, ____fmt, sizeof(____fmt), ____values, sizeof(____values));                                         \
	})

/*
 * Loops that the verifier need not count: an iterator on the stack gives the numbers. It needs `struct bpf_iter_num`, of vmlinux.h or of
 * linux/bpf.h since Linux 6.4. The first round of `for` makes the iterator, its end, however it is left, destroys it.
 */
struct bpf_iter_num;
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __weak __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __weak __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __weak __ksym;

/* The mention of the destructor is for clang, which else writes no type of a function that only `cleanup` names. */
#define ___bpf_numbers(IT, START, END)                                                                                         \
	struct bpf_iter_num IT __attribute__((aligned(8), cleanup(bpf_iter_num_destroy))),                                         \
		*___made __attribute__((unused)) =                                                                                     \
			(bpf_iter_num_new(&IT, (START), (END)), (void)bpf_iter_num_destroy, (void *)0)

#ifndef bpf_for
#define bpf_for(I, START, END)                                                                                                 \
	for (___bpf_numbers(___it, START, END); ({                                                                                 \
			 int *___next = bpf_iter_num_next(&___it);                                                                         \
			 (___next && ((I) = *___next, (I) >= (START) && (I) < (END)));                                                     \
		 });)
#endif

#ifndef bpf_repeat
#define bpf_repeat(COUNT) for (___bpf_numbers(___it, 0, COUNT); bpf_iter_num_next(&___it);)
#endif

/* A tail call whose slot is a constant: pins the registers, so that the kernel's JIT can patch a direct jump. */
static __always_inline void bpf_tail_call_static(void *ctx, const void *map, const __u32 slot)
{
	if (!__builtin_constant_p(slot))
		__builtin_trap();
	asm volatile("r1 = %[ctx]\n\t"
		     "r2 = %[map]\n\t"
		     "r3 = %[slot]\n\t"
		     "call 12"
		     :
		     : [ctx] "r"(ctx), [map] "r"(map), [slot] "i"(slot)
		     : "r0", "r1", "r2", "r3", "r4", "r5");
}

#endif
