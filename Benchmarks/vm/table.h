// The names of the programs in programs.h.
#ifndef TABLE_H
#define TABLE_H

#define PROGRAMS(X) \
    X(ret0) X(probe) X(array_sum) X(histogram) X(jenkins) X(siphash) X(matmul) X(prime) X(memwalk) X(string_compare) X(switches) \
    X(stack_sort) X(log2_sum) X(xorshift) X(divide_constant) X(crc32) X(atomics) X(calls) X(copy64) X(copy8) X(simple_loop) \
    X(big_line) X(big_branch) X(binary_search)

#endif
