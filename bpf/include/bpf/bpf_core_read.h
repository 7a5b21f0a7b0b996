/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * CO-RE: questions about kernel types that the loader answers for the kernel at hand, and reads through chains of pointers.
 * The builtins and their kinds are documented in clang's language extensions and in linux/bpf.h (enum bpf_core_relo_kind).
 */
#ifndef __BPF_CORE_READ_H__
#define __BPF_CORE_READ_H__

#include "bpf_helpers.h"

enum bpf_field_info_kind {
	BPF_FIELD_BYTE_OFFSET = 0,
	BPF_FIELD_BYTE_SIZE = 1,
	BPF_FIELD_EXISTS = 2,
	BPF_FIELD_SIGNED = 3,
	BPF_FIELD_LSHIFT_U64 = 4,
	BPF_FIELD_RSHIFT_U64 = 5,
};

enum bpf_type_id_kind {
	BPF_TYPE_ID_LOCAL = 0,
	BPF_TYPE_ID_TARGET = 1,
};

enum bpf_type_info_kind {
	BPF_TYPE_EXISTS = 0,
	BPF_TYPE_SIZE = 1,
	BPF_TYPE_MATCHES = 2,
};

enum bpf_enum_value_kind {
	BPF_ENUMVAL_EXISTS = 0,
	BPF_ENUMVAL_VALUE = 1,
};

/* A field is named either by an expression, `task->pid`, or by type and name, `struct task_struct, pid`. */
#define ___bpf_null_of(TYPE) ((typeof(TYPE) *)0)
#define ___bpf_field_1(FIELD) FIELD
#define ___bpf_field_2(TYPE, FIELD) ___bpf_null_of(TYPE)->FIELD
#define ___bpf_field(...) ___bpf_select(___bpf_field_, __VA_ARGS__)(__VA_ARGS__)

#define bpf_core_field_exists(...) __builtin_preserve_field_info(___bpf_field(__VA_ARGS__), BPF_FIELD_EXISTS)
#define bpf_core_field_size(...) __builtin_preserve_field_info(___bpf_field(__VA_ARGS__), BPF_FIELD_BYTE_SIZE)
#define bpf_core_field_offset(...) __builtin_preserve_field_info(___bpf_field(__VA_ARGS__), BPF_FIELD_BYTE_OFFSET)

#define bpf_core_type_id_local(TYPE) __builtin_btf_type_id(*___bpf_null_of(TYPE), BPF_TYPE_ID_LOCAL)
#define bpf_core_type_id_kernel(TYPE) __builtin_btf_type_id(*___bpf_null_of(TYPE), BPF_TYPE_ID_TARGET)
#define bpf_core_type_exists(TYPE) __builtin_preserve_type_info(*___bpf_null_of(TYPE), BPF_TYPE_EXISTS)
#define bpf_core_type_matches(TYPE) __builtin_preserve_type_info(*___bpf_null_of(TYPE), BPF_TYPE_MATCHES)
#define bpf_core_type_size(TYPE) __builtin_preserve_type_info(*___bpf_null_of(TYPE), BPF_TYPE_SIZE)

#define bpf_core_enum_value_exists(TYPE, VALUE)                                                                                \
	__builtin_preserve_enum_value(*(typeof(TYPE) *)VALUE, BPF_ENUMVAL_EXISTS)
#define bpf_core_enum_value(TYPE, VALUE) __builtin_preserve_enum_value(*(typeof(TYPE) *)VALUE, BPF_ENUMVAL_VALUE)

/* One read of SIZE bytes from a field whose offset the loader fills in. */
#define bpf_core_read(TO, SIZE, FROM) bpf_probe_read_kernel(TO, SIZE, (const void *)__builtin_preserve_access_index(FROM))
#define bpf_core_read_user(TO, SIZE, FROM) bpf_probe_read_user(TO, SIZE, (const void *)__builtin_preserve_access_index(FROM))
#define bpf_core_read_str(TO, SIZE, FROM)                                                                                      \
	bpf_probe_read_kernel_str(TO, SIZE, (const void *)__builtin_preserve_access_index(FROM))
#define bpf_core_read_user_str(TO, SIZE, FROM)                                                                                 \
	bpf_probe_read_user_str(TO, SIZE, (const void *)__builtin_preserve_access_index(FROM))

/* A bitfield: its bytes as the kernel at hand lays them out, then shifted into place. */
#define ___bpf_core_bitfield_finish(FROM, FIELD, VALUE)                                                                        \
	({                                                                                                                         \
		VALUE <<= __builtin_preserve_field_info((FROM)->FIELD, BPF_FIELD_LSHIFT_U64);                                          \
		if (__builtin_preserve_field_info((FROM)->FIELD, BPF_FIELD_SIGNED))                                                    \
			VALUE = ((long long)VALUE) >> __builtin_preserve_field_info((FROM)->FIELD, BPF_FIELD_RSHIFT_U64);                  \
		else                                                                                                                   \
			VALUE = VALUE >> __builtin_preserve_field_info((FROM)->FIELD, BPF_FIELD_RSHIFT_U64);                               \
		VALUE;                                                                                                                 \
	})
#define BPF_CORE_READ_BITFIELD_PROBED(FROM, FIELD)                                                                             \
	({                                                                                                                         \
		unsigned long long ____bits = 0;                                                                                       \
		bpf_probe_read_kernel(                                                                                                 \
			(void *)&____bits, __builtin_preserve_field_info((FROM)->FIELD, BPF_FIELD_BYTE_SIZE),                              \
			(const void *)(FROM) + __builtin_preserve_field_info((FROM)->FIELD, BPF_FIELD_BYTE_OFFSET));                       \
		___bpf_core_bitfield_finish(FROM, FIELD, ____bits);                                                                    \
	})
#define BPF_CORE_READ_BITFIELD(FROM, FIELD)                                                                                    \
	({                                                                                                                         \
		const void *____at = (const void *)(FROM) + __builtin_preserve_field_info((FROM)->FIELD, BPF_FIELD_BYTE_OFFSET);       \
		unsigned long long ____bits;                                                                                           \
		asm volatile("" : "+r"(____at));                                                                                       \
		switch (__builtin_preserve_field_info((FROM)->FIELD, BPF_FIELD_BYTE_SIZE)) {                                           \
		case 1:                                                                                                                \
			____bits = *(const unsigned char *)____at;                                                                         \
			break;                                                                                                             \
		case 2:                                                                                                                \
			____bits = *(const unsigned short *)____at;                                                                        \
			break;                                                                                                             \
		case 4:                                                                                                                \
			____bits = *(const unsigned int *)____at;                                                                          \
			break;                                                                                                             \
		case 8:                                                                                                                \
			____bits = *(const unsigned long long *)____at;                                                                    \
			break;                                                                                                             \
		}                                                                                                                      \
		___bpf_core_bitfield_finish(FROM, FIELD, ____bits);                                                                    \
	})

/*
 * BPF_CORE_READ(task, real_parent, pid) is task->real_parent->pid, every arrow a guarded read. ___bpf_path names the place
 * that a list of fields leads to, ___bpf_hops reads all pointers but the last field into ____hop.
 */
#define ___bpf_path_1(S) S
#define ___bpf_path_2(S, A) (S)->A
#define ___bpf_path_3(S, A, B) (S)->A->B
#define ___bpf_path_4(S, A, B, C) (S)->A->B->C
#define ___bpf_path_5(S, A, B, C, D) (S)->A->B->C->D
#define ___bpf_path_6(S, A, B, C, D, E) (S)->A->B->C->D->E
#define ___bpf_path_7(S, A, B, C, D, E, F) (S)->A->B->C->D->E->F
#define ___bpf_path_8(S, A, B, C, D, E, F, G) (S)->A->B->C->D->E->F->G
#define ___bpf_path_9(S, A, B, C, D, E, F, G, H) (S)->A->B->C->D->E->F->G->H
#define ___bpf_path_10(S, A, B, C, D, E, F, G, H, I) (S)->A->B->C->D->E->F->G->H->I
#define ___bpf_path(...) ___bpf_select(___bpf_path_, __VA_ARGS__)(__VA_ARGS__)

#define ___bpf_hop(READ, FIELD, ...)                                                                                           \
	READ((void *)&____hop, sizeof(____hop), &((typeof(___bpf_path(__VA_ARGS__)))(____hop))->FIELD);
#define ___bpf_hops_2(R, S, A)
#define ___bpf_hops_3(R, S, A, B) R((void *)&____hop, sizeof(____hop), &((typeof(S))(S))->A);
#define ___bpf_hops_4(R, S, A, B, C) ___bpf_hops_3(R, S, A, B) ___bpf_hop(R, B, S, A)
#define ___bpf_hops_5(R, S, A, B, C, D) ___bpf_hops_4(R, S, A, B, C) ___bpf_hop(R, C, S, A, B)
#define ___bpf_hops_6(R, S, A, B, C, D, E) ___bpf_hops_5(R, S, A, B, C, D) ___bpf_hop(R, D, S, A, B, C)
#define ___bpf_hops_7(R, S, A, B, C, D, E, F) ___bpf_hops_6(R, S, A, B, C, D, E) ___bpf_hop(R, E, S, A, B, C, D)
#define ___bpf_hops_8(R, S, A, B, C, D, E, F, G) ___bpf_hops_7(R, S, A, B, C, D, E, F) ___bpf_hop(R, F, S, A, B, C, D, E)
#define ___bpf_hops_9(R, S, A, B, C, D, E, F, G, H)                                                                            \
	___bpf_hops_8(R, S, A, B, C, D, E, F, G) ___bpf_hop(R, G, S, A, B, C, D, E, F)
#define ___bpf_hops_10(R, S, A, B, C, D, E, F, G, H, I)                                                                        \
	___bpf_hops_9(R, S, A, B, C, D, E, F, G, H) ___bpf_hop(R, H, S, A, B, C, D, E, F, G)

/* The last read: directly from the source if there was no hop. */
#define ___bpf_last_2(R, TO, S, A) R(TO, sizeof(*(TO)), &(S)->A)
#define ___bpf_last(R, TO, FIELD, ...) R(TO, sizeof(*(TO)), &((typeof(___bpf_path(__VA_ARGS__)))(____hop))->FIELD)
#define ___bpf_last_3(R, TO, S, A, B) ___bpf_last(R, TO, B, S, A)
#define ___bpf_last_4(R, TO, S, A, B, C) ___bpf_last(R, TO, C, S, A, B)
#define ___bpf_last_5(R, TO, S, A, B, C, D) ___bpf_last(R, TO, D, S, A, B, C)
#define ___bpf_last_6(R, TO, S, A, B, C, D, E) ___bpf_last(R, TO, E, S, A, B, C, D)
#define ___bpf_last_7(R, TO, S, A, B, C, D, E, F) ___bpf_last(R, TO, F, S, A, B, C, D, E)
#define ___bpf_last_8(R, TO, S, A, B, C, D, E, F, G) ___bpf_last(R, TO, G, S, A, B, C, D, E, F)
#define ___bpf_last_9(R, TO, S, A, B, C, D, E, F, G, H) ___bpf_last(R, TO, H, S, A, B, C, D, E, F, G)
#define ___bpf_last_10(R, TO, S, A, B, C, D, E, F, G, H, I) ___bpf_last(R, TO, I, S, A, B, C, D, E, F, G, H)

#define ___bpf_read_path(HOP, LAST, TO, ...)                                                                                   \
	({                                                                                                                         \
		const void *____hop __attribute__((unused));                                                                           \
		___bpf_select(___bpf_hops_, __VA_ARGS__)(HOP, __VA_ARGS__);                                                            \
		___bpf_select(___bpf_last_, __VA_ARGS__)(LAST, TO, __VA_ARGS__);                                                       \
	})
#define ___bpf_value_at_path(READ, ...)                                                                                        \
	({                                                                                                                         \
		typeof(___bpf_path(__VA_ARGS__)) ____value;                                                                            \
		___bpf_read_path(READ, READ, &____value, __VA_ARGS__);                                                                 \
		____value;                                                                                                             \
	})

/* Kernel memory, with CO-RE. */
#define BPF_CORE_READ_INTO(TO, FROM, ...) ___bpf_read_path(bpf_core_read, bpf_core_read, TO, FROM, __VA_ARGS__)
#define BPF_CORE_READ_STR_INTO(TO, FROM, ...) ___bpf_read_path(bpf_core_read, bpf_core_read_str, TO, FROM, __VA_ARGS__)
#define BPF_CORE_READ(FROM, ...) ___bpf_value_at_path(bpf_core_read, FROM, __VA_ARGS__)
/* User memory that holds a kernel type, with CO-RE. */
#define BPF_CORE_READ_USER_INTO(TO, FROM, ...)                                                                                 \
	___bpf_read_path(bpf_core_read_user, bpf_core_read_user, TO, FROM, __VA_ARGS__)
#define BPF_CORE_READ_USER_STR_INTO(TO, FROM, ...)                                                                             \
	___bpf_read_path(bpf_core_read_user, bpf_core_read_user_str, TO, FROM, __VA_ARGS__)
#define BPF_CORE_READ_USER(FROM, ...) ___bpf_value_at_path(bpf_core_read_user, FROM, __VA_ARGS__)
/* The same for types whose layout the program knows. */
#define BPF_PROBE_READ_INTO(TO, FROM, ...) ___bpf_read_path(bpf_probe_read, bpf_probe_read, TO, FROM, __VA_ARGS__)
#define BPF_PROBE_READ_STR_INTO(TO, FROM, ...)                                                                                 \
	___bpf_read_path(bpf_probe_read, bpf_probe_read_str, TO, FROM, __VA_ARGS__)
#define BPF_PROBE_READ(FROM, ...) ___bpf_value_at_path(bpf_probe_read, FROM, __VA_ARGS__)
#define BPF_PROBE_READ_USER_INTO(TO, FROM, ...)                                                                                \
	___bpf_read_path(bpf_probe_read_user, bpf_probe_read_user, TO, FROM, __VA_ARGS__)
#define BPF_PROBE_READ_USER_STR_INTO(TO, FROM, ...)                                                                            \
	___bpf_read_path(bpf_probe_read_user, bpf_probe_read_user_str, TO, FROM, __VA_ARGS__)
#define BPF_PROBE_READ_USER(FROM, ...) ___bpf_value_at_path(bpf_probe_read_user, FROM, __VA_ARGS__)

#endif
