/// The messages of `MessageCase.all` in full, by the names of the cases.
let messageGoldens: [String: String] = [
    "a loop that changes nothing": #"""
    error[V007]: loop without an end: Termination
      --> bad.bpf.c:31:2   in prog, insn 1
    31 |  while (ctx) ;
       |  ^ the loop comes back with everything as it was, and would never end
    Causal path: line 31: if r1 == 0x0 goto pc+1 was not taken, again and again
    Suggestion: count the rounds: for (int i = 0; i < LIMIT; i++)
    note: the Linux verifier says "infinite loop detected at insn 1"
    """#,
    "above the frame": #"""
    error[V015]: access outside the stack frame: Memory safety
      --> in prog, insn 0
     0 | r0 = *(u64 *)(r10 +0)
       | ^^^^^^^^^^^^^^^^^^^^^ access of 8 bytes at r10+0; the frame is r10-512 to r10-1
    Suggestion: pass the array's own size, or compare the index with it
    note: the Linux verifier says "invalid read from stack R10 off=…"
    """#,
    "across slots": #"""
    error[V018]: misaligned access: Memory safety
      --> in prog, insn 0
     0 | *(u64 *)(r10 -12) = 1
       | ^^^^^^^^^^^^^^^^^^^^^ access of 8 bytes at offset -12 of the stack is not aligned
    Suggestion: align the variable to the size of the access, or copy it with __builtin_memcpy
    note: the Linux verifier says "misaligned stack access off …"
    """#,
    "address of the process": #"""
    error[V013]: not a pointer to memory of the program: Memory safety
      --> bad.bpf.c:52:9   in prog, insn 1
    51 |  long *p = (void *)PT_REGS_PARM1(ctx);
       |                    ------------------ r1 was made here: a number of which nothing is known
    52 |  return *p;
       |         ^ r1 is a number, which does not point to memory of the program
    Causal path: line 51: r1 = *(u64 *)(r1 +112) makes r1
    Suggestion: r1 is an address of the traced process, or a number: read it with
                bpf_probe_read_user(&copy, sizeof copy, pointer)
    note: the Linux verifier says "R1 invalid mem access 'scalar'"
    """#,
    "argument left out": #"""
    error[V009]: register has no value: Uninitialised data
      --> in prog, insn 2
     2 | call bpf_map_lookup_elem#1
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^ r2 has no value on this path
    Suggestion: bpf_map_lookup_elem takes more arguments than were given; declare it with <bpf/bpf_helpers.h>
    note: the Linux verifier says "R2 !read_ok"
    """#,
    "behind a value": #"""
    error[V014]: access outside an object: Memory safety
      --> in prog, insn 7
     5 | call bpf_map_lookup_elem#1
       | -------------------------- r0 was made here: a pointer to a value of 'counts'
     7 | r1 = *(u64 *)(r0 +8)
       | ^^^^^^^^^^^^^^^^^^^^ r0 points into a value of 'counts', 8 bytes; the access of 8 at offset 8 goes beyond its end
    Causal path: insn 5: call bpf_map_lookup_elem#1 makes r0
              -> insn 6: if r0 == 0x0 goto pc+1 was not taken
    Suggestion: the last place for 8 bytes is offset 0
    note: the Linux verifier says "invalid access to map value, value_size=8 off=8 size=8"
    """#,
    "call with a lock": #"""
    error[V037]: spin lock is used wrongly: Locking
      --> in prog, insn 11
    10 | call bpf_spin_lock#93
       | --------------------- taken here
    11 | call bpf_ktime_get_ns#5
       | ^^^^^^^^^^^^^^^^^^^^^^^ bpf_ktime_get_ns cannot be called while a lock is held
    Causal path: insn 10: call bpf_spin_lock#93 took it
    Suggestion: call helpers before the lock is taken or after it is given back
    note: the Linux verifier says "function calls are not allowed while holding a lock"
    """#,
    "callback": #"""
    error[V039]: callback returns something else: Types
      --> in sub1 (program prog), insn 9
     8 | r0 = 2
       | ------ r0 was made here: 2
     9 | exit
       | ^^^^ a callback returns 0 to 1, but r0 is 2
    Causal path: insn 8: r0 = 2 makes r0
    Suggestion: return a number from 0 to 1
    note: the Linux verifier says "At callback return the register R0 has … should have been in [0, 1]"
    """#,
    "compared pointer": #"""
    error[V024]: comparison of a pointer: Pointer arithmetic
      --> in prog, insn 1
     1 | if r1 > 0x1000 goto pc+0
       | ^^^^^^^^^^^^^^^^^^^^^^^^ r1 is the context; comparing it tells where things are in memory
    Suggestion: compare the pointer with NULL, or run without --strict-leaks
    note: the Linux verifier says "R1 pointer comparison prohibited"
    """#,
    "constant": #"""
    error[V019]: memory is read-only: Memory safety
      --> bad.bpf.c:70:8   in prog, insn 2
    70 |  limit = 5;
       |        ^ programs may not write '.rodata', which is read-only
    Causal path: line 70: r1 = map[.rodata][0]+4 makes r1
    Suggestion: take `const` from the variable, so that it lies in .data
    note: the Linux verifier says "write into map forbidden, value_size=… off=… size=…"
    """#,
    "disabled code": #"""
    error[V042]: code that relocation disabled: Not supported
      --> in prog, insn 0
     0 | call unknown#195896080
       | ^^^^^^^^^^^^^^^^^^^^^^ this code was disabled when the program was relocated
    Suggestion: guard it with bpf_core_field_exists() or bpf_core_type_exists()
    note: the Linux verifier says "invalid func unknown#195896080"
    """#,
    "division by zero": #"""
    error[V025]: division by zero: Encoding
      --> in prog, insn 1
     1 | r0 /= 0
       | ^^^^^^^ division by zero
    Suggestion: divide by another constant; 0 may come from a macro or a sizeof
    note: the Linux verifier says "div by zero"
    """#,
    "dynptr submitted twice": #"""
    error[V029]: wrong argument for a helper: Types
      --> in prog, insn 14
    11 | r1 = r10
       | -------- r1 was copied here from r10
    12 | r1 += -16
       | --------- r1 was computed here
    14 | call bpf_ringbuf_submit_dynptr#199
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ argument 1 of bpf_ringbuf_submit_dynptr must be a pointer to an initialised dynptr on the stack, but r1 is a pointer to the stack
    Causal path: insn 11: r1 = r10 copies it to r1
              -> insn 12: r1 += -16 changes r1
    Suggestion: make it with bpf_ringbuf_reserve_dynptr() first; one that was given back is void
    """#,
    "empty buffer": #"""
    error[V030]: size for a helper is not bounded: Memory safety
      --> in prog, insn 4
     0 | r2 = *(u64 *)(r1 +104)
       | ---------------------- r2 was made here
     1 | r2 &= 15
       | -------- r2 was computed here
     4 | call bpf_get_current_comm#16
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ the size of argument 1 of bpf_get_current_comm, r2, may be 0
    Causal path: insn 0: r2 = *(u64 *)(r1 +104) makes r2
              -> insn 1: r2 &= 15 changes r2
    Suggestion: if (n == 0) return 0;   this helper takes no empty buffers
    note: the Linux verifier says "R2 invalid zero-sized read"
    """#,
    "empty": #"""
    error[V001]: program without instructions: Control flow
      --> prog
       = the program has no instructions
    Suggestion: give the program a body that returns a value
    """#,
    "falls off the end": #"""
    error[V002]: control flow leaves the program: Control flow
      --> in prog, insn 0
     0 | r0 = 0
       | ^^^^^^ control may run past the end of the function; it must end in exit or a jump
    Suggestion: end every path with a return, and compile again with -Wall
    note: the Linux verifier says "last insn is not an exit or jmp"
    """#,
    "field that is read-only": #"""
    error[V016]: context access is not allowed: Memory safety
      --> in prog, insn 0
     0 | *(u64 *)(r1 +112) = 0
       | ^^^^^^^^^^^^^^^^^^^^^ write of 8 bytes at offset 112 of the context of a kprobe program, which is not allowed there
    Suggestion: pt_regs.di cannot be written by kprobe programs
    note: the Linux verifier says "invalid bpf_context access off=112 size=8"
    """#,
    "global function": #"""
    error[V040]: argument of a global function: Types
      --> in prog, insn 1
     0 | r1 = r10
       | -------- r1 was copied here from r10
     1 | call pc+2
       | ^^^^^^^^^ argument 1 of 'sub1' is a number, but r1 is a pointer to the stack
    Causal path: insn 0: r1 = r10 copies it to r1
    Suggestion: make the function static, or pass what its type says
    note: the Linux verifier says "Caller passes invalid args into func#… ('…')"
    """#,
    "helper beyond the array": #"""
    error[V015]: access outside the stack frame: Memory safety
      --> in prog, insn 4
     0 | r1 = r10
       | -------- r1 was copied here from r10
     1 | r1 += -16
       | --------- r1 was computed here
     4 | call bpf_probe_read_user#112
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ r1 points to r10-16, from where 64 bytes go beyond the frame, which is r10-512 to r10-1
    Causal path: insn 0: r1 = r10 copies it to r1
              -> insn 1: r1 += -16 changes r1
    Suggestion: pass the array's own size, or compare the index with it
    note: the Linux verifier says "invalid write to stack R1 off=…"
    """#,
    "helper of another type": #"""
    error[V028]: helper is not available here: Helpers
      --> in prog, insn 2
     2 | call bpf_skb_pull_data#39
       | ^^^^^^^^^^^^^^^^^^^^^^^^^ programs of type kprobe cannot call bpf_skb_pull_data
    Suggestion: use another helper, or guard the call with an option that is off in user space
    note: the Linux verifier says "program of this type cannot use helper bpf_skb_pull_data#39"
    """#,
    "helper of the future": #"""
    error[V027]: unknown helper: Helpers
      --> in prog, insn 0
     0 | call unknown#999
       | ^^^^^^^^^^^^^^^^ there is no helper 999 in Linux 6.18
    Suggestion: take helpers from <bpf/bpf_helpers.h>
    note: the Linux verifier says "invalid func unknown#999"
    """#,
    "index into a value": #"""
    error[V014]: access outside an object: Memory safety
      --> bad.bpf.c:29:13   in prog, insn 10
    25 |  unsigned i = PT_REGS_PARM1(ctx);
       |               ------------------ the number added, r6, comes from here
    26 |  struct big *b = bpf_map_lookup_elem(&buffer, &key);
       |                  ---------------------------------- r0 was made here
    28 |  if (i > 64) return 0;
       |      - r6 was compared here: if r6 > 0x40 goto pc+2
    29 |  b->data[i] = 1;
       |  - r0 was computed here
       |             ^ r0 points into a value of 'buffer', 64 bytes; the access of 1 at offset 0 to 64 goes beyond its end
    Causal path: line 26: call bpf_map_lookup_elem#1 makes r0
              -> line 29: r0 += r6 changes r0
    Suggestion: compare the index with the size: if (i >= 64) return 0;   or mask it: i &= 0x3f
    note: the Linux verifier says "R0 max value is outside of the allowed memory range"
    """#,
    "iterator not destroyed": #"""
    error[V035]: something is not given back: Resource leak
      --> bad.bpf.c:13:2   in prog, insn 6
    12 |  bpf_iter_num_new(&it, 0, 9);
       |  --------------------------- taken here
    13 |  return 0;
       |  ^ the program ends here, but the iterator made at insn 4 was not destroyed
    Causal path: line 12: call bpf_iter_num_new#212 took it
    Suggestion: bpf_iter_num_destroy(&it); on every path; bpf_for() does so by itself
    note: the Linux verifier says "BPF_EXIT instruction in main prog would lead to reference leak"
    """#,
    "no iterator": #"""
    error[V029]: wrong argument for a helper: Types
      --> in prog, insn 3
     1 | r1 = r10
       | -------- r1 was copied here from r10
     2 | r1 += -8
       | -------- r1 was computed here
     3 | call bpf_iter_num_next#213
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^ argument 1 of bpf_iter_num_next must be a pointer to an iterator that bpf_iter_num_new() made, but r1 is r10-8, where none is
    Causal path: insn 1: r1 = r10 copies it to r1
              -> insn 2: r1 += -8 changes r1
    Suggestion: make it with bpf_iter_num_new() first, on every path; or use bpf_for()
    note: the Linux verifier says "expected an initialized iter_num as arg #0"
    """#,
    "iterator on an iterator": #"""
    error[V029]: wrong argument for a helper: Types
      --> in prog, insn 9
     5 | r1 = r10
       | -------- r1 was copied here from r10
     6 | r1 += -8
       | -------- r1 was computed here
     9 | call bpf_iter_num_new#212
       | ^^^^^^^^^^^^^^^^^^^^^^^^^ argument 1 of bpf_iter_num_new must be a pointer to eight free bytes of the stack, at a multiple of 8, but r1 is r10-8, where an iterator lies already
    Causal path: insn 5: r1 = r10 copies it to r1
              -> insn 6: r1 += -8 changes r1
    Suggestion: give each loop an iterator of its own: a local `struct bpf_iter_num it`
    note: the Linux verifier says "expected uninitialized iter_num as arg #0"
    """#,
    "pointer for a number": #"""
    error[V029]: wrong argument for a helper: Types
      --> in prog, insn 4
     0 | r2 = r1
       | ------- r2 was copied here from r1
     4 | call bpf_iter_num_new#212
       | ^^^^^^^^^^^^^^^^^^^^^^^^^ argument 2 of bpf_iter_num_new must be a number, but r2 is the context
    Causal path: insn 0: r2 = r1 copies it to r2
    Suggestion: pass a number; pointers are no limits of a loop
    note: the Linux verifier says "R2 is not a scalar"
    """#,
    "kernel function": #"""
    error[V041]: works only in the kernel: Not supported
      --> in prog, insn 0
     0 | call kernel-function#5
       | ^^^^^^^^^^^^^^^^^^^^^^ a kernel function (kfunc) cannot run in userspace, but those of bpf_for() and bpf_repeat()
    Suggestion: leave that part to a kernel program, or guard it with bpf_ksym_exists()
    """#,
    "licence": #"""
    error[V032]: helper needs a GPL licence: Licence
      --> in prog, insn 4
     4 | call bpf_probe_read_user#112
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ bpf_probe_read_user is for programs with a licence compatible with the GPL only
    Suggestion: char LICENSE[] SEC("license") = "GPL"; if that is the program's licence
    note: the Linux verifier says "cannot call GPL-restricted function from non-GPL compatible program"
    """#,
    "lookup in a ring": #"""
    error[V031]: map does not fit: Types
      --> in prog, insn 5
     5 | call bpf_map_lookup_elem#1
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^ bpf_map_lookup_elem does not work on 'events', a ringbuf map
    Suggestion: ring buffers are written with bpf_ringbuf_output() or bpf_ringbuf_reserve(), perf buffers with bpf_perf_event_output(), stack traces with bpf_get_stackid()
    """#,
    "lookup kept on the stack": #"""
    error[V012]: pointer may be NULL: Memory safety
      --> in prog, insn 10
     5 | call bpf_map_lookup_elem#1
       | -------------------------- r0 was made here: a pointer to a value of 'counts' or NULL
    10 | *(u64 *)(r7 +0) = 1
       | ^^^^^^^^^^^^^^^^^^^ r7 is a pointer to a value of 'counts' or NULL and may be NULL here
    Causal path: insn 5: call bpf_map_lookup_elem#1 makes r0
              -> insn 6: r6 = r0 copies it to r6
              -> insn 7: *(u64 *)(r10 -16) = r6 stores it
              -> insn 9: r7 = *(u64 *)(r10 -16) loads it to r7
    Suggestion: if (!pointer) return 0;   // the key may be absent
    note: the Linux verifier says "R7 invalid mem access 'map_value_or_null'"
    """#,
    "lookup without a check": #"""
    error[V012]: pointer may be NULL: Memory safety
      --> bad.bpf.c:10:5   in prog, insn 6
     9 |  long *v = bpf_map_lookup_elem(&counts, &key);
       |            ---------------------------------- r0 was made here: a pointer to a value of 'counts' or NULL
    10 |  *v += 1;
       |     ^ r0 is a pointer to a value of 'counts' or NULL and may be NULL here
    Causal path: line 9: call bpf_map_lookup_elem#1 makes r0
    Suggestion: if (!v) return 0;   // the key may be absent
    note: the Linux verifier says "R0 invalid mem access 'map_value_or_null'"
    """#,
    "lost in a call": #"""
    error[V009]: register has no value: Uninitialised data
      --> in prog, insn 1
     0 | call bpf_ktime_get_ns#5
       | ----------------------- this call leaves no value in r1; calls keep r6 to r9 only
     1 | r0 = *(u64 *)(r1 +112)
       | ^^^^^^^^^^^^^^^^^^^^^^ r1 has no value on this path
    Causal path: insn 0: call bpf_ktime_get_ns#5 leaves nothing in r1
    Suggestion: keep what is needed after a call in a variable of its own (r6 to r9); calls use up r1 to r5
    note: the Linux verifier says "R1 !read_ok"
    """#,
    "moved frame pointer": #"""
    error[V011]: frame pointer is read-only: Encoding
      --> in prog, insn 0
     0 | r10 += -8
       | ^^^^^^^^^ r10, the frame pointer, is read-only
    Suggestion: copy r10 to another register and change that
    note: the Linux verifier says "frame pointer is read only"
    """#,
    "moved map": #"""
    error[V023]: arithmetic on a pointer: Pointer arithmetic
      --> in prog, insn 2
     0 | r1 = map[counts]
       | ---------------- r1 was made here: the map 'counts'
     2 | r1 += 8
       | ^^^^^^^ r1 is the map 'counts', which cannot be moved
    Causal path: insn 0: r1 = map[counts] makes r1
    Suggestion: a map has no bytes of its own: look a value up with bpf_map_lookup_elem()
    note: the Linux verifier says "R1 pointer arithmetic on map_ptr prohibited"
    """#,
    "multiplied pointer": #"""
    error[V023]: arithmetic on a pointer: Pointer arithmetic
      --> in prog, insn 0
     0 | r1 *= 8
       | ^^^^^^^ r1 is the context; only numbers can be added to or subtracted from it
    Suggestion: use only + and - with bounded numbers on pointers; copy the value to a number for anything else
    note: the Linux verifier says "R1 pointer arithmetic with *= operator prohibited"
    """#,
    "nine frames": #"""
    error[V005]: calls are nested too deep: Resource limit
      --> in sub7 (program prog), insn 21
    21 | call pc+2
       | ^^^^^^^^^ the call makes 9 nested frames; at most 8 are allowed
    Suggestion: make the innermost functions static __always_inline
    note: the Linux verifier says "the call stack of 9 frames is too deep"
    """#,
    "no map": #"""
    error[V029]: wrong argument for a helper: Types
      --> in prog, insn 4
     3 | r1 = 0
       | ------ r1 was made here: 0
     4 | call bpf_map_lookup_elem#1
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^ argument 1 of bpf_map_lookup_elem must be a map, but r1 is 0
    Causal path: insn 3: r1 = 0 makes r1
    Suggestion: pass the address of a map: bpf_map_lookup_elem(&map, …)
    note: the Linux verifier says "R1 type=scalar expected=…"
    """#,
    "no such field": #"""
    error[V016]: context access is not allowed: Memory safety
      --> in prog, insn 0
     0 | r0 = *(u64 *)(r1 +168)
       | ^^^^^^^^^^^^^^^^^^^^^^ read of 8 bytes at offset 168 of the context of a kprobe program, which is not allowed there
    Suggestion: offset 168 is no field of pt_regs; the nearest is pt_regs.ss
    note: the Linux verifier says "invalid bpf_context access off=168 size=8"
    """#,
    "number as a key": #"""
    error[V029]: wrong argument for a helper: Types
      --> in prog, insn 3
     0 | r2 = *(u64 *)(r1 +112)
       | ---------------------- r2 was made here: a number of which nothing is known
     3 | call bpf_map_lookup_elem#1
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^ r2 is a number, where the helper needs a pointer to memory of the program
    Causal path: insn 0: r2 = *(u64 *)(r1 +112) makes r2
    Suggestion: copy the key to a variable and pass its address: bpf_map_lookup_elem(&map, &key, …)
    note: the Linux verifier says "R2 type=scalar expected=…"
    """#,
    "packet load without the context": #"""
    error[V033]: context is expected: Types
      --> in prog, insn 1
     0 | r6 = 0
       | ------ r6 was made here: 0
     1 | r0 = *(u8 *)skb[0]
       | ^^^^^^^^^^^^^^^^^^ r6 must be the context, but is 0
    Causal path: insn 0: r6 = 0 makes r6
    Suggestion: copy r1 to r6 at the start of the program
    note: the Linux verifier says "at the time of BPF_LD_ABS|IND R6 != pointer to skb"
    """#,
    "packet without a check": #"""
    error[V017]: packet access without a bounds check: Memory safety
      --> bad.bpf.c:61:14   in prog, insn 1
    60 |  void *data = (void *)(long)ctx->data;
       |                              -- r2 was made here: a pointer into the packet
    61 |  return eth->h_proto;
       |              ^ r2 is a pointer into the packet; the access of 2 at offset 12 is not covered: 0 bytes were compared with the end of the packet
    Causal path: line 60: r2 = *(u32 *)(r1 +0) makes r2
    Suggestion: if (data + 14 > data_end) return …; before the access
    note: the Linux verifier says "R2 offset is outside of the packet"
    """#,
    "padding of a key": #"""
    error[V010]: stack memory has no value: Uninitialised data
      --> in prog, insn 9
     7 | r2 = r10
       | -------- r2 was copied here from r10
     8 | r2 += -4
       | -------- r2 was computed here
     9 | call bpf_map_lookup_elem#1
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^ the stack at r10-4 was never written on this path
    Causal path: insn 7: r2 = r10 copies it to r2
              -> insn 8: r2 += -4 changes r2
    Suggestion: set all of it first: __builtin_memset(&key, 0, sizeof key)
    note: the Linux verifier says "invalid read from stack R2 off …"
    """#,
    "part of a pointer": #"""
    error[V021]: stored pointer would be damaged: Memory safety
      --> in prog, insn 1
     1 | r0 = *(u8 *)(r10 -5)
       | ^^^^^^^^^^^^^^^^^^^^ part of the context, stored at r10-8, would be read
    Suggestion: read and write pointers whole, 8 bytes at a multiple of 8
    note: the Linux verifier says "invalid size of register fill"
    """#,
    "record on one path": #"""
    error[V035]: something is not given back: Resource leak
      --> bad.bpf.c:42:1   in prog, insn 13
    38 |  struct event *e = bpf_ringbuf_reserve(&events, sizeof *e, 0);
       |                    ------------------------------------------ taken here
    42 | }
       | ^ the program ends here, but the ring record reserved at insn 4 was neither submitted nor discarded
    Causal path: line 38: call bpf_ringbuf_reserve#131 took it
              -> line 39: if r0 == 0x0 goto pc+6 was not taken
              -> line 40: if r0 == 0x0 goto pc+3 was taken
    Suggestion: bpf_ringbuf_discard(record, 0); before this end of the path: the record of line 38 blocks the ring until then
    note: the Linux verifier says "BPF_EXIT instruction in main prog would lead to reference leak"
    """#,
    "record without a check": #"""
    error[V012]: pointer may be NULL: Memory safety
      --> bad.bpf.c:19:9   in prog, insn 5
    18 |  struct event *e = bpf_ringbuf_reserve(&events, sizeof *e, 0);
       |                    ------------------------------------------ r0 was made here: a pointer to 16 bytes or NULL
    19 |  e->when = 1;
       |         ^ r0 is a pointer to 16 bytes or NULL and may be NULL here
    Causal path: line 18: call bpf_ringbuf_reserve#131 makes r0
    Suggestion: if (!e) return 0;   // the ring may be full
    note: the Linux verifier says "R0 invalid mem access 'ringbuf_mem_or_null'"
    """#,
    "recursion": #"""
    error[V004]: function calls itself: Control flow
      --> in sub1 (program prog), insn 2
     2 | call pc-1
       | ^^^^^^^^^ a function calls itself
    Suggestion: write a loop with a constant bound instead
    note: the Linux verifier says "the call stack of 9 frames is too deep"
    """#,
    "result of a cgroup program": #"""
    error[V038]: return value out of range: Types
      --> in prog, insn 1
     0 | r0 = 4
       | ------ r0 was made here: 4
     1 | exit
       | ^^^^ programs of type cgroup_skb return 0 to 1, but r0 is 4
    Causal path: insn 0: r0 = 4 makes r0
    Suggestion: return a number from 0 to 1
    note: the Linux verifier says "At program exit the register R0 has … should have been in [0, 1]"
    """#,
    "returned pointer": #"""
    error[V034]: address would be given away: Information leak
      --> in prog, insn 1
     0 | r0 = r1
       | ------- r0 was copied here from r1
     1 | exit
       | ^^^^ r0 is the context; returning it gives its address away
    Causal path: insn 0: r0 = r1 copies it to r0
    Suggestion: store the value you need, not its address; or run without --strict-leaks
    note: the Linux verifier says "R0 leaks addr as return value"
    """#,
    "set on one path": #"""
    error[V009]: register has no value: Uninitialised data
      --> bad.bpf.c:12:2   in prog, insn 3
    10 |  if (size)
       |      ---- where this jump is taken, r0 is never written
    12 |  return result;
       |  ^ r0 has no value here, but it is what the program returns
    Causal path: line 10: if r2 == 0x0 goto pc+1 was taken
    Suggestion: return a value on every path, or give the variable one where it is declared
    note: the Linux verifier says "R0 !read_ok"
    """#,
    "shift by 64": #"""
    error[V026]: operation that does not work here: Encoding
      --> in prog, insn 1
     1 | r0 <<= 64
       | ^^^^^^^^^ a shift by 64 of a number of 64 bits
    Suggestion: shift by less than the width; use a map value or the stack for atomics
    note: the Linux verifier says "invalid shift …"
    """#,
    "signed index": #"""
    error[V014]: access outside an object: Memory safety
      --> in prog, insn 11
     0 | r6 = *(u64 *)(r1 +112)
       | ---------------------- the number added, r6, comes from here
     6 | call bpf_map_lookup_elem#1
       | -------------------------- r0 was made here
     9 | if r6 s< 0xfffffff7 goto pc+2
       | ----------------------------- r6 was compared here: if r6 s< 0xfffffff7 goto pc+2
    10 | r0 += r6
       | -------- r0 was computed here
    11 | *(u8 *)(r0 +0) = 1
       | ^^^^^^^^^^^^^^^^^^ r0 points into a value of 'buffer', 64 bytes; the access of 1 may start at offset -9, before it
    Causal path: insn 6: call bpf_map_lookup_elem#1 makes r0
              -> insn 10: r0 += r6 changes r0
    Suggestion: make the index unsigned, or refuse negative ones: if (i < 0) return 0;
    note: the Linux verifier says "R0 min value is negative, either use unsigned index or do a if (index >=0) check."
    """#,
    "signed size": #"""
    error[V030]: size for a helper is not bounded: Memory safety
      --> in prog, insn 5
     0 | r2 = *(u32 *)(r1 +104)
       | ---------------------- r2 was made here
     1 | r2 = (s32)r2
       | ------------ r2 was computed here
     5 | call bpf_probe_read_user#112
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ the size of argument 1 of bpf_probe_read_user, r2, may be negative; mask it (&= const) or compare it
    Causal path: insn 0: r2 = *(u32 *)(r1 +104) makes r2
              -> insn 1: r2 = (s32)r2 changes r2
    Suggestion: make r2 unsigned, or: if (n < 0) return 0;   a mask works too: n &= 0xff
    note: the Linux verifier says "R2 min value is negative, either use unsigned or 'var &= const'"
    """#,
    "size without a bound": #"""
    error[V030]: size for a helper is not bounded: Memory safety
      --> in prog, insn 5
     0 | r2 = *(u64 *)(r1 +104)
       | ---------------------- r2 was made here
     1 | r2 >>= 1
       | -------- r2 was computed here
     5 | call bpf_probe_read_user#112
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ the size of argument 1 of bpf_probe_read_user, r2, has no upper bound; compare it or mask it
    Causal path: insn 0: r2 = *(u64 *)(r1 +104) makes r2
              -> insn 1: r2 >>= 1 changes r2
    Suggestion: if (n > sizeof buffer) n = sizeof buffer;   with an unsigned n
    note: the Linux verifier says "R2 unbounded memory access, use 'var &= const' or 'if (var < const)'"
    """#,
    "socket that was not taken": #"""
    error[V036]: nothing to give back: Resource leak
      --> in prog, insn 2
     2 | call bpf_sk_release#86
       | ^^^^^^^^^^^^^^^^^^^^^^ bpf_sk_release gives back something that this program does not hold
    Causal path: insn 1: if r1 == 0x0 goto pc+1 was not taken
    Suggestion: give each thing back once, and only what a helper gave
    note: the Linux verifier says "R1 must be referenced when passed to release function"
    """#,
    "spin lock": #"""
    error[V022]: field is for helpers only: Memory safety
      --> in prog, insn 7
     7 | *(u32 *)(r0 +4) = 0
       | ^^^^^^^^^^^^^^^^^^^ the access touches the bpf_spin_lock of 'locked', which only its helpers may
    Causal path: insn 6: if r0 == 0x0 goto pc+1 was not taken
    Suggestion: set the other members one by one
    note: the Linux verifier says "bpf_spin_lock cannot be accessed directly by load/store"
    """#,
    "struct_ops": #"""
    error[V043]: program type is not verified here: Not supported
      --> in prog, insn 0
     0 | r0 = 0
       | ^^^^^^ programs of type struct_ops cannot be verified here
    Suggestion: load it into the kernel with bpftool or a libbpf program
    """#,
    "submitted twice": #"""
    error[V029]: wrong argument for a helper: Types
      --> in prog, insn 12
     4 | call bpf_ringbuf_reserve#131
       | ---------------------------- r0 was made here
     9 | call bpf_ringbuf_submit#132
       | --------------------------- given back here
    12 | call bpf_ringbuf_submit#132
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^ argument 1 of bpf_ringbuf_submit must be the start of a record that bpf_ringbuf_reserve() gave, but r1 is a number of which nothing is known
    Causal path: insn 4: call bpf_ringbuf_reserve#131 makes r0
              -> insn 6: r6 = r0 copies it to r6
              -> insn 10: r1 = r6 copies it to r1
    Suggestion: insn 9 gave it back; nothing may be done with it after bpf_ringbuf_submit()
    note: the Linux verifier says "R1 type=scalar expected=…"
    """#,
    "the kernel's task": #"""
    error[V028]: helper is not available here: Helpers
      --> bad.bpf.c:77:9   in prog, insn 0
    77 |  return bpf_task_pt_regs(task);
       |         ^ bpf_task_pt_regs cannot run in userspace: it gives the registers of a task, which are the program's context here
    Suggestion: the context of the program is the struct pt_regs of this thread
    """#,
    "too many rounds": #"""
    error[V008]: program is too complex to verify: Termination
      --> bad.bpf.c:41:2   in prog, insn 2
    41 |  for (int i = 0; i < 600000; i++)
       |  ^ the walk over all paths takes more than 1000000 instructions
    Causal path: line 41: if r0 < 0x927c0 goto pc-2 was taken, again and again
    Suggestion: give the loop a smaller constant bound, or use bpf_loop(), whose body is walked once
    note: the Linux verifier says "BPF program is too large. Processed 1000001 insn"
    """#,
    "two large frames": #"""
    error[V006]: stack frames are too large: Resource limit
      --> bad.bpf.c:21:9   in prog, insn 1
    21 |  return f();
       |         ^ the frames of nested calls take 608 bytes of stack; the limit is 512
    Suggestion: move large local variables into a value of a BPF_MAP_TYPE_PERCPU_ARRAY
    """#,
    "unbounded number": #"""
    error[V023]: arithmetic on a pointer: Pointer arithmetic
      --> in prog, insn 8
     0 | r6 = *(u64 *)(r1 +112)
       | ---------------------- the number added, r6, comes from here
     6 | call bpf_map_lookup_elem#1
       | -------------------------- r0 was made here: a pointer to a value of 'buffer'
     8 | r0 += r6
       | ^^^^^^^^ r0 is a pointer to a value of 'buffer', but nothing is known of the least number added to it
    Causal path: insn 6: call bpf_map_lookup_elem#1 makes r0
              -> insn 7: if r0 == 0x0 goto pc+2 was not taken
    Suggestion: the number added has no lower bound: make it unsigned, compare it (if (i < 0 || i >= N) return 0;), or mask it (i &= N - 1)
    note: the Linux verifier says "math between map_value pointer and register with unbounded min value is not allowed"
    """#,
    "unreachable": #"""
    error[V003]: unreachable instruction: Control flow
      --> in prog, insn 2
     2 | r0 = 1
       | ^^^^^^ no path leads here
    Suggestion: remove the instruction, or jump to it
    note: the Linux verifier says "unreachable insn 2"
    """#,
    "use after submit": #"""
    error[V013]: not a pointer to memory of the program: Memory safety
      --> in prog, insn 10
     4 | call bpf_ringbuf_reserve#131
       | ---------------------------- r0 was made here
     9 | call bpf_ringbuf_submit#132
       | --------------------------- given back here
    10 | *(u64 *)(r6 +0) = 1
       | ^^^^^^^^^^^^^^^^^^^ r6 is a number, which does not point to memory of the program
    Causal path: insn 4: call bpf_ringbuf_reserve#131 makes r0
              -> insn 6: r6 = r0 copies it to r6
    Suggestion: insn 9 gave it back; nothing may be done with it after bpf_ringbuf_submit()
    note: the Linux verifier says "R6 invalid mem access 'scalar'"
    """#,
    "variable record size": #"""
    error[V029]: wrong argument for a helper: Types
      --> in prog, insn 4
     0 | r2 = *(u64 *)(r1 +112)
       | ---------------------- r2 was made here: a number of which nothing is known
     4 | call bpf_ringbuf_reserve#131
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ argument 2 of bpf_ringbuf_reserve must be a constant size, but r2 is a number of which nothing is known
    Causal path: insn 0: r2 = *(u64 *)(r1 +112) makes r2
    Suggestion: the number must be a constant, such as sizeof(*event)
    note: the Linux verifier says "R2 is not a known constant"
    """#,
    "width of a field": #"""
    error[V016]: context access is not allowed: Memory safety
      --> in prog, insn 0
     0 | r0 = *(u64 *)(r1 +8)
       | ^^^^^^^^^^^^^^^^^^^^ read of 8 bytes at offset 8 of the context of a xdp program, which is not allowed there
    Suggestion: xdp_md.data_meta is read 4 bytes at a time, not 8
    note: the Linux verifier says "invalid bpf_context access off=8 size=8"
    """#,
    "write-only map": #"""
    error[V020]: memory is write-only: Memory safety
      --> in prog, insn 2
     2 | r0 = *(u64 *)(r1 +0)
       | ^^^^^^^^^^^^^^^^^^^^ programs may not read 'sink' (BPF_F_WRONLY_PROG)
    Suggestion: take BPF_F_WRONLY_PROG from the map's flags
    note: the Linux verifier says "read from map forbidden, value_size=… off=… size=…"
    """#,
]
