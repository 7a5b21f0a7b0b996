// Rules about the shape of programs, their limits and their values.

extension RuleText {
    static let empty = RuleText(
        "program without instructions",
        "Control flow",
        "A program needs at least an exit. Objects with empty sections come from sources whose functions were all removed by the preprocessor.",
        wrong: "/* nothing */",
        right: "SEC(\"uprobe\") int p(void *ctx) { return 0; }",
        kernel: nil,
        fix: "give the program a body that returns a value"
    )

    static let controlFlow = RuleText(
        "control flow leaves the program",
        "Control flow",
        """
        Every jump must lead to an instruction of the same function, and no function may run on into the next. Compilers
        never break this; hand-written or damaged code does. A function that ends in __builtin_unreachable() or in
        undefined behaviour (an endless loop without effect, a missing return) also loses its exit.
        """,
        wrong: "int f(int x) { if (x) return 1; }   // no return at the end",
        right: "int f(int x) { if (x) return 1; return 0; }",
        kernel: "last insn is not an exit or jmp",
        fix: "end every path with a return, and compile again with -Wall"
    )

    static let unreachable = RuleText(
        "unreachable instruction",
        "Control flow",
        """
        Code that no path leads to is refused, as Linux does: it would never be checked. Compilers remove such code; it
        comes from assembly and from tools that patch objects.
        """,
        wrong: "goto out; r1 = 5; out: return 0;   // in assembly",
        right: "goto out; out: return 0;",
        kernel: "unreachable insn {I}",
        fix: "remove the instruction, or jump to it"
    )

    static let recursion = RuleText(
        "function calls itself",
        "Control flow",
        """
        Functions of a program may not call themselves, directly or through others: the stack of a program is 512 bytes
        for all frames, and nothing bounds the depth of a recursion.
        """,
        wrong: "static int depth(struct node *n) { return 1 + depth(n->next); }",
        right: "for (int i = 0; i < 32 && n; i++) n = n->next;",
        kernel: "the call stack of 9 frames is too deep",
        fix: "write a loop with a constant bound instead"
    )

    static let callsTooDeep = RuleText(
        "calls are nested too deep",
        "Resource limit",
        "A chain of calls may have 8 frames, that of the program included, as in Linux (MAX_CALL_FRAMES).",
        wrong: "a() calls b() calls c() … calls i()   // nine functions",
        right: "static __always_inline int i(…)       // no frame of its own",
        kernel: "the call stack of 9 frames is too deep",
        fix: "make the innermost functions static __always_inline"
    )

    static let stackTooDeep = RuleText(
        "stack frames are too large",
        "Resource limit",
        """
        All frames of a chain of calls share 512 bytes of stack (MAX_BPF_STACK). Large local buffers and structs use them
        up; a map with one value per CPU has room for more.
        """,
        wrong: "char path[512]; bpf_probe_read_user_str(path, sizeof path, p);",
        right:
            "struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); … } buffer SEC(\".maps\");\nchar *path = bpf_map_lookup_elem(&buffer, &zero); if (!path) return 0;",
        kernel: "combined stack size of … calls is …. Too large",
        fix: "move large local variables into a value of a BPF_MAP_TYPE_PERCPU_ARRAY"
    )

    static let endlessLoop = RuleText(
        "loop without an end",
        "Termination",
        """
        A path came back to a place with every value that matters unchanged, so the loop would go on for ever. Something
        that the condition depends on must change in each round, and the number of rounds must be bounded.
        """,
        wrong: "while (p->state != DONE) ;",
        right: "for (int i = 0; i < 100 && p->state != DONE; i++) ;",
        kernel: "infinite loop detected at insn {I}",
        fix: "count the rounds: for (int i = 0; i < LIMIT; i++)"
    )

    static let tooComplex = RuleText(
        "program is too complex to verify",
        "Termination",
        """
        The verifier walks all paths, a million instructions at most (BPF_COMPLEXITY_LIMIT_INSNS). Loops with many
        rounds, or with many branches inside, use them up; so does a loop whose bound is a number of which nothing is
        known, which has no end in view.
        """,
        wrong: "for (int i = 0; i < n; i++) …           // n comes from the program's input",
        right: "for (int i = 0; i < n && i < 256; i++) …   // or bpf_loop(n, body, &data, 0)",
        kernel: "BPF program is too large. Processed 1000001 insn",
        fix: "give the loop a smaller constant bound, or use bpf_loop(), whose body is walked once"
    )

    static let uninitialized = RuleText(
        "register has no value",
        "Uninitialised data",
        """
        On some path to this instruction nothing was written to the register. In C that is a variable set in one branch
        only, a function without a return on some path, or the use of an argument register after a call: calls keep r6 to
        r9 only.
        """,
        wrong: "int result; if (size > 10) result = 1; return result;",
        right: "int result = 0; if (size > 10) result = 1; return result;",
        kernel: "{R} !read_ok",
        fix: "give the variable a value where it is declared"
    )

    static let uninitializedStack = RuleText(
        "stack memory has no value",
        "Uninitialised data",
        """
        Bytes of the stack are read, by an instruction or a helper, that nothing wrote on this path. Under --strict-leaks
        that is refused, because they may hold what another program left there. Padding inside a struct is the usual
        cause: an initialiser sets the members, not what lies between them.
        """,
        wrong: "struct key k; k.pid = pid;      // the padding has no value",
        right: "struct key k = {}; k.pid = pid; // or __builtin_memset(&k, 0, sizeof k)",
        kernel: "invalid read from stack {R} off …",
        fix: "set all of it first: __builtin_memset(&key, 0, sizeof key)"
    )

    static let framePointer = RuleText(
        "frame pointer is read-only",
        "Encoding",
        "r10 points to the end of the frame and can only be copied. Compilers never write it.",
        wrong: "r10 += -8",
        right: "r2 = r10\nr2 += -8",
        kernel: "frame pointer is read only",
        fix: "copy r10 to another register and change that"
    )
}
