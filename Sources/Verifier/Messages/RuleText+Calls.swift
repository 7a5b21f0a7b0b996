// Rules about arithmetic, helpers, references and contracts, and what is not supported.

extension RuleText {
    static let pointerArithmetic = RuleText(
        "arithmetic on a pointer",
        "Pointer arithmetic",
        """
        Only numbers whose bounds are known can be added to or subtracted from a pointer, in 64 bits; two pointers can be
        subtracted. Everything else makes an address of which nothing is known. An offset that may be negative or is not
        bounded is the usual case: a signed variable, or the result of a helper that may fail.
        """,
        wrong: "int n = bpf_probe_read_user_str(buffer, sizeof buffer, p);\nbuffer[n] = 0;      // n may be negative",
        right: "if (n < 0 || n >= sizeof buffer) return 0;\nbuffer[n] = 0;",
        kernel: "math between {T} pointer and register with unbounded min value is not allowed",
        fix: "bound the number first: compare it with 0 and with the size, or mask it (n &= 0xff)"
    )

    static let pointerComparison = RuleText(
        "comparison of a pointer",
        "Pointer arithmetic",
        """
        Under --strict-leaks a pointer can only be compared with NULL, and packet pointers with the packet's end: other
        comparisons tell where things are in memory.
        """,
        wrong: "if ((long)value > 0x1000) …",
        right: "if (value) …",
        kernel: "{R} pointer comparison prohibited",
        fix: "compare the pointer with NULL, or run without --strict-leaks"
    )

    static let division = RuleText(
        "division by zero",
        "Encoding",
        """
        A division or remainder by the constant 0 is refused. (Division by a register that happens to be 0 gives 0, and the
        remainder leaves the dividend: RFC 9669, 4.1.)
        """,
        wrong: "#define BUCKETS 0\nindex = hash % BUCKETS;",
        right: "#define BUCKETS 64\nindex = hash % BUCKETS;",
        kernel: "div by zero",
        fix: "divide by another constant; 0 may come from a macro or a sizeof"
    )

    static let badOperation = RuleText(
        "operation that does not work here",
        "Encoding",
        """
        A shift by as many bits as the number has or more, an atomic operation on the context or a packet, or a legacy packet
        load in a program that has no packet.
        """,
        wrong: "u64 x = 1; x <<= 64;",
        right: "u64 x = 1; x <<= 63;",
        kernel: "invalid shift …",
        fix: "shift by less than the width; use a map value or the stack for atomics"
    )

    static let unknownHelper = RuleText(
        "unknown helper",
        "Helpers",
        """
        The number of the called helper is none that Linux 6.18 has. The object was made for a newer kernel, or a function
        was declared with a wrong number.
        """,
        wrong: "static long (*helper)(void) = (void *)999;",
        right: "#include <bpf/bpf_helpers.h>",
        kernel: "invalid func unknown#…",
        fix: "take helpers from <bpf/bpf_helpers.h>"
    )

    static let unavailableHelper = RuleText(
        "helper is not available here",
        "Helpers",
        """
        The helper exists, but not for programs of this type, or it has no meaning in user space: it reads the kernel's own
        objects (sockets, control groups, perf counters), changes what the process does where nobody allowed it, or needs a map
        type that this runtime does not have. Code behind a condition that is known to be false is not looked at, so a guard with
        bpf_core_type_exists() or a const volatile option keeps one object good for both.
        """,
        wrong: "bpf_get_task_stack(task, frames, sizeof(frames), 0);",
        right: "bpf_get_stack(ctx, frames, sizeof(frames), BPF_F_USER_STACK);",
        kernel: "program of this type cannot use helper bpf_…#…",
        fix: "use another helper, or guard the call with an option that is off in user space"
    )

    static let argument = RuleText(
        "wrong argument for a helper",
        "Types",
        """
        Helpers say what each argument must be: a map, the context, memory of the program with enough bytes, a constant. A
        number where a pointer is needed is the usual case: an address of the traced process is a number, and only the
        bpf_probe_read helpers take it, as their third argument.
        """,
        wrong: "bpf_map_lookup_elem(&map, (void *)PT_REGS_PARM1(ctx));",
        right: "u64 key = PT_REGS_PARM1(ctx);\nbpf_map_lookup_elem(&map, &key);",
        kernel: "{R} type={T} expected=fp, pkt, map_value, …",
        fix: "pass the address of a variable on the stack, or of a map value"
    )

    static let argumentSize = RuleText(
        "size for a helper is not bounded",
        "Memory safety",
        """
        The size that goes with a buffer must be known to lie between 0 (1 for some helpers) and the buffer's size. A signed
        variable may be negative for all that is known, and compilers check another copy than they pass.
        """,
        wrong: "int n = PT_REGS_PARM2(ctx);\nbpf_probe_read_user(buffer, n, p);",
        right:
            "u32 n = PT_REGS_PARM2(ctx);\nif (n > sizeof buffer) n = sizeof buffer;\nbpf_probe_read_user(buffer, n, p);",
        kernel: "{R} min value is negative, either use unsigned or 'var &= const'",
        fix: "make it unsigned and compare it with sizeof buffer, or mask it"
    )

    static let mapType = RuleText(
        "map does not fit",
        "Types",
        """
        Each helper works on some types of maps only: bpf_ringbuf_* on ring buffers, bpf_tail_call on program arrays,
        bpf_get_stackid on stack traces. Maps with locks or timers are not for tracing programs.
        """,
        wrong: "struct { __uint(type, BPF_MAP_TYPE_RINGBUF); … } events;\nbpf_map_lookup_elem(&events, &key);",
        right: "bpf_ringbuf_output(&events, &event, sizeof event, 0);",
        kernel: "cannot pass map_type … into func …",
        fix: "use the helper that belongs to the map's type, or another type of map"
    )

    static let gplOnly = RuleText(
        "helper needs a GPL licence",
        "Licence",
        """
        The kernel offers some helpers to programs whose licence is compatible with the GPL only; objects that run in both
        places follow the same rule. The licence is what stands in the section "license".
        """,
        wrong: "char LICENSE[] SEC(\"license\") = \"Proprietary\";",
        right: "char LICENSE[] SEC(\"license\") = \"Dual BSD/GPL\";",
        kernel: "cannot call GPL-restricted function from non-GPL compatible program",
        fix: "char LICENSE[] SEC(\"license\") = \"GPL\"; if that is the program's licence"
    )

    static let context = RuleText(
        "context is expected",
        "Types",
        "Legacy packet loads (BPF_LD_ABS) read through r6, which must be the unchanged context.",
        wrong: "r6 = 0; r0 = *(u8 *)skb[0]",
        right: "r6 = r1; r0 = *(u8 *)skb[0]",
        kernel: "at the time of BPF_LD_ABS|IND R6 != pointer to skb",
        fix: "copy r1 to r6 at the start of the program"
    )

    static let leak = RuleText(
        "address would be given away",
        "Information leak",
        """
        Under --strict-leaks programs must not turn pointers into numbers, store them where others read, or return them: the
        rules of Linux for users without privileges. Without that option they may.
        """,
        wrong: "u64 *v = bpf_map_lookup_elem(&m, &key); if (!v) return 0;\n*v = (u64)ctx;",
        right: "*v = PT_REGS_PARM1(ctx);",
        kernel: "{R} leaks addr into map",
        fix: "store the value you need, not its address; or run without --strict-leaks"
    )

    static let unreleased = RuleText(
        "something is not given back",
        "Resource leak",
        """
        A record from bpf_ringbuf_reserve() must be submitted or discarded on every path, also the early returns; else the
        ring stays blocked for everybody. The same goes for dynptrs, sockets and locks, and for
        iterators, which bpf_for() destroys by itself.
        """,
        wrong:
            "e = bpf_ringbuf_reserve(&rb, sizeof *e, 0); if (!e) return 0;\nif (pid == 0) return 0;\nbpf_ringbuf_submit(e, 0);",
        right: "if (pid == 0) { bpf_ringbuf_discard(e, 0); return 0; }\nbpf_ringbuf_submit(e, 0);",
        kernel: "BPF_EXIT instruction in main prog would lead to reference leak",
        fix: "call bpf_ringbuf_submit() or bpf_ringbuf_discard() before this return"
    )

    static let notOwned = RuleText(
        "nothing to give back",
        "Resource leak",
        "A helper that releases something was called with something that the program does not hold, or gave back before.",
        wrong: "bpf_ringbuf_submit(e, 0);\nbpf_ringbuf_discard(e, 0);",
        right: "bpf_ringbuf_submit(e, 0);",
        kernel: "R1 must be referenced when passed to release function",
        fix: "give each thing back once, and only what a helper gave"
    )

    static let lock = RuleText(
        "spin lock is used wrongly",
        "Locking",
        """
        One lock at a time, no calls of helpers while it is held, and the same lock is given back on every path.
        """,
        wrong: "bpf_spin_lock(&v->lock); bpf_ktime_get_ns(); bpf_spin_unlock(&v->lock);",
        right: "u64 now = bpf_ktime_get_ns(); bpf_spin_lock(&v->lock); v->time = now; bpf_spin_unlock(&v->lock);",
        kernel: "function calls are not allowed while holding a lock",
        fix: "call helpers before the lock is taken or after it is given back"
    )

    static let returnValue = RuleText(
        "return value out of range",
        "Types",
        """
        The meaning of a program's result depends on its type; where only some numbers mean anything, r0 must be one of them.
        Global functions return numbers.
        """,
        wrong: "SEC(\"cgroup_skb/ingress\") int p(struct __sk_buff *s) { return 4; }",
        right: "SEC(\"cgroup_skb/ingress\") int p(struct __sk_buff *s) { return 1; }",
        kernel: "At program exit the register R0 has … should have been in [0, 1]",
        fix: "return one of the allowed numbers"
    )

    static let callback = RuleText(
        "callback returns something else",
        "Types",
        "Callbacks of bpf_loop() and bpf_for_each_map_elem() return 0 (go on) or 1 (stop), and nothing else.",
        wrong: "static long body(u32 i, void *data) { return i; }",
        right: "static long body(u32 i, void *data) { return i >= 9; }",
        kernel: "At callback return the register R0 has … should have been in [0, 1]",
        fix: "return 0 to go on or 1 to stop"
    )

    static let functionContract = RuleText(
        "argument of a global function",
        "Types",
        """
        Global functions are verified once, for all arguments of their types; calls must keep to that. A pointer parameter
        stands for memory of the size of its type, which may be NULL; functions that return nothing, and parameters of
        other types, are not supported.
        """,
        wrong: "__noinline int f(struct big *b) {…}   f((struct big *)&small);",
        right: "static __noinline int f(struct big *b) {…}   // static: verified for each call",
        kernel: "Caller passes invalid args into func#… ('…')",
        fix: "make the function static, or pass what its type says"
    )

    static let unsupported = RuleText(
        "works only in the kernel",
        "Not supported",
        """
        Something that exists only in the kernel: kernel functions (kfuncs; but bpf_for() and bpf_repeat() work), variables and objects of the kernel, indirect
        calls, references to maps by descriptor index.
        """,
        wrong: "bpf_task_from_pid(pid)                // a kfunc",
        right: "bpf_get_current_pid_tgid() >> 32",
        kernel: nil,
        fix: "leave that part to a kernel program, or guard it with bpf_ksym_exists()"
    )

    static let unresolvedRelocation = RuleText(
        "code that relocation disabled",
        "Not supported",
        """
        The instruction depends on a type or field that the kernel here does not have (CO-RE), and was made invalid when the
        object was loaded. That is harmless behind a guard, since dead code is not looked at; without one the program
        cannot run.
        """,
        wrong: "x = BPF_CORE_READ(task, no_such_field);",
        right: "if (bpf_core_field_exists(task->no_such_field)) x = BPF_CORE_READ(task, no_such_field);",
        kernel: "invalid func unknown#195896080",
        fix: "guard it with bpf_core_field_exists() or bpf_core_type_exists()"
    )

    static let programType = RuleText(
        "program type is not verified here",
        "Not supported",
        "This verifier knows the types that run in user space and those of unit tests (kprobe/uprobe, tracepoint, perf_event, xdp, tc, socket filters and their relatives).",
        wrong: "SEC(\"struct_ops/…\")",
        right: "SEC(\"uprobe/libc:malloc\")",
        kernel: nil,
        fix: "load it into the kernel with bpftool or a libbpf program"
    )
}
