// For the host and for our engines: one function a program. For BPF each lies in a section of its own.
#ifdef __bpf__
#define BENCH(name) __attribute__((section("bench/" #name))) unsigned long long name(unsigned char *m, unsigned long long size)
#else
#define BENCH(name) unsigned long long name(unsigned char *m, unsigned long long size)
#endif
#include "programs.h"
