// Rules about memory.

extension RuleText {
    static let nullPointer = RuleText(
        "pointer may be NULL",
        "Memory safety",
        """
        bpf_map_lookup_elem() returns NULL where the key is absent, bpf_ringbuf_reserve() where the ring is full; the
        result must be compared with NULL before anything is read or written through it, added to it, or it is passed to a
        helper. Only array maps at a constant index that exists never give NULL.
        """,
        wrong: "long *v = bpf_map_lookup_elem(&counts, &key);\n*v += 1;",
        right: "long *v = bpf_map_lookup_elem(&counts, &key);\nif (!v) return 0;\n*v += 1;",
        kernel: "{R} invalid mem access '{T}'",
        fix: "compare it with NULL first: if (!pointer) return 0;"
    )

    static let notAPointer = RuleText(
        "not a pointer to memory of the program",
        "Memory safety",
        """
        Programs reach their own memory only: the stack, values of maps, records of rings, the context. An address that
        was read from the context, from a traced process or from a map is a number, whatever its C type; what lies behind
        it is read with bpf_probe_read_user(), which fails where nothing is there instead of faulting.
        """,
        wrong: "struct request *r = (void *)PT_REGS_PARM1(ctx);\nreturn r->size;",
        right: "u64 size;\nbpf_probe_read_user(&size, sizeof size, &r->size);   // or BPF_PROBE_READ_USER(r, size)",
        kernel: "{R} invalid mem access '{T}'",
        fix: "read memory of the process with bpf_probe_read_user(&copy, sizeof copy, pointer)"
    )

    static let outOfBounds = RuleText(
        "access outside an object",
        "Memory safety",
        """
        The bytes may lie outside the map value, record or buffer, for some value that the offset may have. The verifier
        knows a number's bounds from comparisons and masks on the path, and forgets them where the compared copy is
        another one than that which is used.
        """,
        wrong: "char *v = bpf_map_lookup_elem(&buffer, &zero); if (!v) return 0;\nv[i] = 0;",
        right: "if (i >= sizeof(struct value)) return 0;   // unsigned i\nv[i] = 0;",
        kernel: "invalid access to map value, value_size=… off=… size=…",
        fix: "compare the index with the size of the object before it is used"
    )

    static let stackBounds = RuleText(
        "access outside the stack frame",
        "Memory safety",
        """
        A frame is the 512 bytes below r10. An index into a local array needs bounds that the verifier can see, and a
        helper must not be given more bytes than the array has.
        """,
        wrong: "char name[16]; bpf_probe_read_user(name, 64, p);",
        right: "char name[16]; bpf_probe_read_user(name, sizeof name, p);",
        kernel: "invalid write to stack {R} off=… size=…",
        fix: "pass the array's own size, or compare the index with it"
    )

    static let contextAccess = RuleText(
        "context access is not allowed",
        "Memory safety",
        """
        Which fields of the context a program may read or write, and how wide, depends on the program's type. uprobes get
        the registers (struct pt_regs) and only read them; __sk_buff and xdp_md have fields that only some types see.
        """,
        wrong: "int p(struct pt_regs *ctx) { ctx->ax = 0; … }",
        right: "int p(struct pt_regs *ctx) { long first = PT_REGS_PARM1(ctx); … }",
        kernel: "invalid bpf_context access off=… size=…",
        fix: "use a field that programs of this type have, in its own width"
    )

    static let packetBounds = RuleText(
        "packet access without a bounds check",
        "Memory safety",
        """
        Packets have any length. Before a byte is read or written, a pointer behind it must be compared with data_end on
        the same path, and the pointer used must come from the one compared by constants only.
        """,
        wrong: "struct ethhdr *eth = data;\nreturn eth->h_proto;",
        right: "struct ethhdr *eth = data;\nif ((void *)(eth + 1) > data_end) return XDP_PASS;\nreturn eth->h_proto;",
        kernel: "invalid access to packet, off=… size=…, {R}(id=0,off=…,r=0)",
        fix: "if (data + n > data_end) return …; before the access"
    )

    static let misaligned = RuleText(
        "misaligned access",
        "Memory safety",
        """
        Accesses to the stack and atomic operations must lie at a multiple of their size. Packed structs and casts of
        char arrays break that.
        """,
        wrong: "char b[12]; *(u64 *)(b + 2) = 1;",
        right: "char b[12] __attribute__((aligned(8))); *(u64 *)(b + 0) = 1;",
        kernel: "misaligned stack access off …",
        fix: "align the variable to the size of the access, or copy it with __builtin_memcpy"
    )

    static let readOnly = RuleText(
        "memory is read-only",
        "Memory safety",
        """
        const globals (.rodata), maps with BPF_F_RDONLY_PROG, keys that callbacks are given, and the packets of types that
        only look cannot be written. Options of a tool are const volatile and set before the program is loaded.
        """,
        wrong: "const volatile int limit = 3;\nlimit = 5;",
        right: "int limit = 3;     // .data\nlimit = 5;",
        kernel: "write into map forbidden, value_size=… off=… size=…",
        fix: "write a variable or map that is not read-only"
    )

    static let writeOnly = RuleText(
        "memory is write-only",
        "Memory safety",
        "Programs may write, not read, the values of maps with BPF_F_WRONLY_PROG.",
        wrong: "__uint(map_flags, BPF_F_WRONLY_PROG); … return *v;",
        right: "__uint(map_flags, 0); … return *v;",
        kernel: "read from map forbidden, value_size=… off=… size=…",
        fix: "take BPF_F_WRONLY_PROG from the map's flags"
    )

    static let corruptedPointer = RuleText(
        "stored pointer would be damaged",
        "Memory safety",
        """
        Pointers, dynptrs and iterators live on the stack whole or not at all: a part of one cannot be read or written, and a
        pointer into a frame cannot be kept beyond it.
        """,
        wrong: "char *p = …; *((char *)&p + 3) = 0;",
        right: "p = other;",
        kernel: "corrupted spill memory",
        fix: "read and write pointers whole, 8 bytes at a multiple of 8"
    )

    static let specialField = RuleText(
        "field is for helpers only",
        "Memory safety",
        """
        struct bpf_spin_lock and struct bpf_timer in a map value belong to their helpers. Programs must not read or write
        them, not even as part of the whole value.
        """,
        wrong: "struct value { struct bpf_spin_lock lock; int n; }; *v = (struct value){};",
        right: "bpf_spin_lock(&v->lock); v->n = 0; bpf_spin_unlock(&v->lock);",
        kernel: "bpf_spin_lock cannot be accessed directly by load/store",
        fix: "set the other members one by one"
    )
}
