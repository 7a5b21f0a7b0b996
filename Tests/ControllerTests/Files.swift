import Foundation

/// Files for the cases, and the built ubpfrun.
final class Files: Sendable {
    static let shared: Files? = try? Files()
    let directory: String
    let program: String

    private struct NotBuilt: Error {}

    private init() throws {
        program = String(#filePath.dropLast("Tests/ControllerTests/Files.swift".count)) + "dist/bin/ubpfrun"
        guard FileManager.default.isExecutableFile(atPath: program) else { throw NotBuilt() }
        directory = NSTemporaryDirectory() + "/ubpf-errors-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try write("text.o", "hello\n")
        try write("executable-text", "hello\n", mode: 0o755)
        try write("script", "#!/nonexistent/interpreter\n", mode: 0o755)
        try write("main.c", "int main(void) { return 0; }\n")
        tool("gcc", ["-static", "main.c", "-o", "static"])
        tool("gcc", ["main.c", "-o", "narrow"])
        tool("gcc", ["-c", "main.c", "-o", "x86.o"])
        var header = try Data(contentsOf: URL(fileURLWithPath: directory + "/narrow"))
        header[4] = 1
        try header.write(to: URL(fileURLWithPath: directory + "/narrow"))
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: directory + "/narrow")
        try write(
            "leak.c",
            """
            #include <stdlib.h>
            void *volatile kept;
            __attribute__((noinline)) void lose(int n) { kept = malloc(n); }
            int main(void) { for (int i = 0; i < 100; i++) lose(48); return 3; }
            """
        )
        tool("gcc", ["-g", "-O0", "leak.c", "-o", "leak"])
        // Every system call that is not named kills it.
        try write(
            "filtered.c",
            """
            #include <linux/filter.h>
            #include <linux/seccomp.h>
            #include <stddef.h>
            #include <stdlib.h>
            #include <sys/prctl.h>
            #include <unistd.h>
            void *volatile kept;
            int main(int argc, char **argv) {
                struct sock_filter code[512];
                int n = 0;
                code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
                for (int i = 1; i < argc; i++) {
                    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, atoi(argv[i]), 0, 1);
                    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
                }
                code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
                struct sock_fprog program = {n, code};
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 1;
                write(1, "up", 2);
                for (int i = 0;; i++) {
                    free(malloc(100));
                    if (i % 1000 == 0) kept = malloc(40);
                    if (i % 1000 == 0) usleep(1000);
                }
            }
            """
        )
        tool("gcc", ["-g", "-O0", "filtered.c", "-o", "filtered"])
        // The first thread has no filter; the other one dies of what it does not do itself.
        try write(
            "sandbox.c",
            """
            #include <linux/filter.h>
            #include <linux/seccomp.h>
            #include <pthread.h>
            #include <stddef.h>
            #include <stdlib.h>
            #include <sys/prctl.h>
            #include <unistd.h>
            #define ALLOW(n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, n, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
            void *worker(void *p) {
                struct sock_filter code[] = {
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                    ALLOW(1), ALLOW(35), ALLOW(230), ALLOW(202), ALLOW(231),
                    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                };
                struct sock_fprog program = {sizeof code / sizeof *code, code};
                free(malloc(100));
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return p;
                write(1, "up", 2);
                for (;;) { free(malloc(100)); usleep(1000); }
            }
            int main(void) {
                pthread_t thread;
                pthread_create(&thread, NULL, worker, NULL);
                for (;;) pause();
            }
            """
        )
        tool("gcc", ["-g", "-O0", "sandbox.c", "-o", "sandbox", "-pthread"])
        // The first four instructions of f share the bytes of two jumps; read as a displacement they name a place below the program.
        try write(
            "close.c",
            """
            #include <pthread.h>
            #include <stdlib.h>
            #include <unistd.h>
            long f(long);
            __asm__(".globl f\\n.type f,@function\\nf: push %rbp\\nmov %rsp,%rbp\\nmov $1,%al\\nsub $16,%rsp\\n"
                "mov %rdi,-8(%rbp)\\nmov -8(%rbp),%rax\\nadd $1,%rax\\nleave\\nret\\n.size f,.-f\\n.p2align 4,0x90\\n");
            void *run(void *p) { for (long i = 0;; i++) { if (f(i) != i + 1) abort(); if (i % 16 == 0) usleep(100); } return p; }
            int main(void) {
                pthread_t thread;
                pthread_create(&thread, NULL, run, NULL);
                write(1, "up", 2);
                run(NULL);
            }
            """
        )
        tool("gcc", ["-g", "-O1", "close.c", "-o", "close", "-pthread"])
        try write(
            "work.c",
            """
            #include <pthread.h>
            #include <signal.h>
            #include <stdlib.h>
            #include <string.h>
            #include <sys/wait.h>
            #include <unistd.h>
            void *volatile kept;
            __attribute__((noinline)) void lose(int n) { for (int i = 0; i < n; i++) kept = malloc(40); }
            void *churn(void *p) { for (;;) { void *volatile q = malloc(100); free(q); } return p; }
            int main(int argc, char **argv) {
                if (argc == 3) {
                    for (int round = 0; round < 2; round++) {
                        lose(atoi(argv[2]));
                        if (round == 1 || fork() != 0) break;
                    }
                    wait(NULL);
                    return 0;
                }
                if (argc == 2 && strcmp(argv[1], "self") == 0) for (;;) usleep(1000);
                if (argc == 2) {
                    sigset_t all, old;
                    pthread_t thread;
                    sigfillset(&all);
                    pthread_sigmask(SIG_SETMASK, &all, &old);
                    for (int i = 0; i < 2; i++) pthread_create(&thread, NULL, churn, NULL);
                    pthread_sigmask(SIG_SETMASK, &old, NULL);
                }
                char line[32];
                long size;
                while ((size = read(0, line, sizeof line - 1)) > 0) {
                    line[size] = 0;
                    if (atoi(line) < 0 && write(1, "ok", 3) == 3) execv("/proc/self/exe", argv);
                    lose(atoi(line));
                    if (write(1, "ok", 3) != 3) return 1;
                }
                return 0;
            }
            """
        )
        tool("gcc", ["-g", "-O0", "work.c", "-o", "work", "-pthread"])
        try write(
            "late.c",
            """
            int calls;
            __attribute__((noinline)) int late_work(int v) { calls++; return v * 3 + 1; }
            __attribute__((constructor)) static void begin(void) { for (int i = 0; i < 5; i++) late_work(i); }
            __attribute__((destructor)) static void end(void) { for (int i = 0; i < 2; i++) late_work(i); }
            """
        )
        tool("gcc", ["-O1", "-shared", "-fPIC", "late.c", "-o", "liblate.so"])
        // Opens liblate.so as it is told by lines: o(pen), c(all), x(close), m(ap something where it was), n times all of them.
        try write(
            "opens.c",
            """
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <link.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            #include <sys/mman.h>
            static void *library;
            static unsigned char *place;
            static int is_mapped;
            static void open_it(const char *path) { if (!(library = dlopen(path, RTLD_NOW))) exit(11); }
            static void call_it(void) {
                int (*work)(int) = (int (*)(int))dlsym(library, "late_work");
                place = (unsigned char *)((long)work & -4096);
                for (int i = 0; i < 10; i++) if (work(i) != i * 3 + 1) exit(12);
            }
            static void close_it(void) { dlclose(library); if (dlopen(NULL, RTLD_NOW) == NULL) exit(13); }
            static void map_it(void) {
                if (mmap(place, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != place) exit(14);
                memset(place, 0x5a, 4096);
                is_mapped = 1;
            }
            int main(int argc, char **argv) {
                char line[32];
                setvbuf(stdout, NULL, _IOLBF, 0);
                if (argc > 2) {
                    for (int i = 0; i < atoi(argv[2]); i++) { open_it(argv[1]); call_it(); close_it(); }
                    return 7;
                }
                puts("up");
                while (fgets(line, sizeof line, stdin)) {
                    switch (line[0]) {
                    case 'o': open_it(argv[1]); break;
                    case 'c': call_it(); break;
                    case 'x': close_it(); break;
                    case 'm': map_it(); break;
                    default:
                        for (int i = 0; i < atoi(line); i++) { open_it(argv[1]); call_it(); close_it(); }
                    }
                    puts("ok");
                }
                for (int i = 0; is_mapped && i < 4096; i++) if (place[i] != 0x5a) return 15;
                return 0;
            }
            """
        )
        tool("gcc", ["-O1", "opens.c", "-o", "opens"])
        // Its first thread has ended: what /proc says of the process is that thread's, and empty.
        try write(
            "headless.c",
            """
            #include <pthread.h>
            #include <stdio.h>
            #include <stdlib.h>
            void *volatile kept;
            static void *work(void *first) {
                char line[32];
                pthread_join(*(pthread_t *)first, NULL);
                while (fgets(line, sizeof line, stdin)) {
                    for (int i = 0; i < atoi(line); i++) kept = malloc(40);
                    puts("ok");
                    fflush(stdout);
                }
                exit(4);
            }
            int main(void) {
                static pthread_t first, other;
                first = pthread_self();
                pthread_create(&other, NULL, work, &first);
                pthread_exit(NULL);
            }
            """
        )
        tool("gcc", ["-O1", "-pthread", "headless.c", "-o", "headless"])
        try write("plain.c", "int f(void *c) { return 0; }\n")
        tool("clang", ["-target", "bpfeb", "-O2", "-c", "plain.c", "-o", "big-endian.o"])
        let include = "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_tracing.h>\n"
        let license = "\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n"
        try write("own.bpf.c", include + "SEC(\"uprobe\") int on_call(void *c) { return 0; }" + license)
        try write("returns.bpf.c", include + "SEC(\"uretprobe\") int on_return(void *c) { return 0; }" + license)
        try write(
            "late.bpf.c",
            include + "SEC(\"uprobe/liblate:late_work\") int on_enter(void *c) { return 0; }\n"
                + "SEC(\"uretprobe/liblate:late_work\") int on_leave(void *c) { return 0; }" + license
        )
        try write(
            "sqlite.bpf.c",
            include + "SEC(\"uprobe/libsqlite3:sqlite3_prepare_v2\") int on_enter(void *c) { return 0; }" + license
        )
        try write("nothing.bpf.c", include + "SEC(\"socket\") int on_packet(void *c) { return 0; }" + license)
        try write("bad.bpf.c", "int x(\n")
        try write(
            "helper.bpf.c",
            include + "SEC(\"uprobe/libc:malloc\") int p(void *c) { return ((long (*)(void *, u64))58)(c, 0); }"
                + license
        )
        try write(
            "inner.bpf.c",
            include
                + """
                struct { __uint(type, 14); __uint(max_entries, 2); __type(key, int); __type(value, int); }
                    outer SEC(".maps");
                SEC("uprobe/libc:malloc") int p(void *c) { int k = 0; return bpf_map_lookup_elem(&outer, &k) != 0; }
                """ + license
        )
        let counts = """
            struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, int); __type(value, long); }
                counts SEC(".maps");

            """
        let refused = """
            SEC("uprobe/libc:malloc")
            int on_malloc(void *ctx)
            {
                int key = 1;
                long *v = bpf_map_lookup_elem(&counts, &key);
                *v += 1;
                return 0;
            }

            """
        try write("refused.bpf.c", include + counts + refused + license)
        try write(
            "mixed.bpf.c",
            include + counts + refused
                + """
                SEC("uprobe/libc:malloc")
                int good(void *ctx)
                {
                    int key = 1;
                    long *v = bpf_map_lookup_elem(&counts, &key);
                    if (v) *v += 1;
                    return 0;
                }
                SEC("uprobe/libc:malloc")
                int leaks(void *ctx)
                {
                    int key = 1;
                    long *v = bpf_map_lookup_elem(&counts, &key);
                    if (v) *v = (long)ctx;
                    return 0;
                }
                SEC("lsm/file_open") int elsewhere(void *ctx) { return 0; }
                """ + license
        )
        try writeKernelPrograms(include + "#include <bpf/bpf_core_read.h>\n", license)
        let tools = String(program.dropLast("bin/ubpfrun".count)) + "share/ubpf/tools/memleak.bpf.o"
        let object = try Data(contentsOf: URL(fileURLWithPath: tools))
        try object.prefix(object.count / 2).write(to: URL(fileURLWithPath: directory + "/cut.o"))
        try write(
            "maps.c",
            """
            struct { int (*type)[1]; int (*max_entries)[4]; int *key; long *value; } m __attribute__((section(".maps"), used));
            __attribute__((section("uprobe/libc:malloc"), used)) int f(void *c) {
                int k = 0; return ((void *(*)(void *, void *))1)(&m, &k) != 0; }
            """
        )
        tool("clang", ["-target", "bpf", "-O2", "-c", "maps.c", "-o", "maps-without-btf.o"])
    }

    /// Programs for the kernel: some run, some it refuses.
    private func writeKernelPrograms(_ include: String, _ license: String) throws {
        let small = [
            "kprobe": "SEC(\"kprobe/do_unlinkat\") int p(void *c) { return 0; }",
            "fentry": "SEC(\"fentry/do_unlinkat\") int p(void *c) { return 0; }",
            "missing": "SEC(\"tp/nothing/at_all\") int p(void *c) { return 0; }",
            "rawmissing": "SEC(\"raw_tp/sched_swich\") int p(void *c) { return 0; }",
            "btfmissing": "SEC(\"tp_btf/nothing\") int p(void *c) { return 0; }",
            "refused":
                "SEC(\"tp/sched/sched_process_exit\")\nint p(void *c)\n{\n\treturn *(volatile int *)*(volatile long *)(c + 8);\n}",
            "hugemap": """
            struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4000000000); __type(key, int);
                __uint(value_size, 1048576); } big SEC(".maps");
            SEC("tp/sched/sched_process_exit") int p(void *c) { int k = 0; return bpf_map_lookup_elem(&big, &k) != 0; }
            """,
            "structops": "SEC(\"struct_ops/p\") int p(void *c) { return 0; }",
        ]
        for (name, code) in small { try write("k-\(name).bpf.c", include + code + license) }
        let ring = """
            struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");

            """
        let perf = """
            struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); }
                events SEC(".maps");

            """
        try write(
            "untyped.bpf.c",
            include + ring
                + """
                struct answer { int value; } answer;
                SEC("raw_tp/sched_process_exit") int p(void *c) {
                    struct answer a = {42};
                    bpf_ringbuf_output(&events, &a, sizeof a, 0);
                    return 0;
                }
                """ + license
        )
        try write(
            "pointer.bpf.c",
            include + ring
                + """
                struct answer { int value; };
                struct answer *unused;
                SEC("raw_tp/sched_process_exit") int p(void *c) {
                    struct answer a = {42};
                    bpf_ringbuf_output(&events, &a, sizeof a, 0);
                    return 0;
                }
                """ + license
        )
        // A perf buffer of a program in a process.
        try write(
            "userperf.bpf.c",
            include + perf
                + """
                struct event { int value; __u64 pid; };
                struct event *unused;
                SEC("uprobe/\(directory)/leak:lose") int p(void *c) {
                    struct event e = {7, bpf_get_current_pid_tgid() >> 32};
                    bpf_perf_event_output(c, &events, BPF_F_CURRENT_CPU, &e, sizeof e);
                    return 0;
                }
                """ + license
        )
        // Sends faster than records can be shown.
        try write(
            "flood.bpf.c",
            include
                + """
                struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); } events SEC(".maps");
                struct event { int cpu; char text[2000]; };
                struct event *unused;
                SEC("raw_tp/sys_enter") int p(void *c) {
                    for (int i = 0; i < 8; i++) {
                        struct event *e = bpf_ringbuf_reserve(&events, sizeof *e, 0);
                        if (!e) break;
                        e->cpu = bpf_get_smp_processor_id();
                        bpf_ringbuf_submit(e, 0);
                    }
                    return 0;
                }
                """ + license
        )
        try write("answer.h", "struct reply { __u16 low, high; };\n")
        try write(
            "local.bpf.c",
            include + ring
                + """
                struct answer { int value; };
                SEC("raw_tp/sched_process_exit") int p(void *c) {
                    struct answer a = {42};
                    bpf_ringbuf_output(&events, &a, sizeof a, 0);
                    return 0;
                }
                """ + license
        )
        try write(
            "several.bpf.c",
            include + perf
                + """
                struct event { int value; } event;
                SEC("kprobe/do_unlinkat") int probe(void *c) { return 0; }
                SEC("tp/sched/sched_process_exce") int slip(void *c) { return 0; }
                SEC("tp/sched/sched_process_exit") int p(void *c) {
                    struct event e = {7};
                    bpf_perf_event_output(c, &events, BPF_F_CURRENT_CPU, &e, sizeof e);
                    return 0;
                }
                """ + license
        )
        let hash = { (name: String) in
            """
            struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, int); __type(value, long); }
                \(name) SEC(".maps");

            """
        }
        let count = { (map: String, key: Int) in
            """
            { int key = \(key); long one = 1, *v = bpf_map_lookup_elem(&\(map), &key);
              if (v) __sync_fetch_and_add(v, 1); else bpf_map_update_elem(&\(map), &key, &one, 0); return 0; }

            """
        }
        let halves = { (user: String, kernel: String) in
            "SEC(\"uprobe/libc.so.6:malloc\") int on_malloc(void *c)\n" + count(user, 1)
                + "SEC(\"tp/sched/sched_process_exit\") int on_exit(void *c)\n" + count(kernel, 2)
        }
        try write("halves.bpf.c", include + hash("mallocs") + hash("exits") + halves("mallocs", "exits") + license)
        // One program that this kernel may refuse, and one that runs instead.
        try write(
            "instead.bpf.c",
            include + ring
                + """
                struct event { int value; };
                struct event *unused;
                static __always_inline int tell(int value) {
                    struct event e = {value};
                    bpf_ringbuf_output(&events, &e, sizeof e, 0);
                    return 0;
                }
                SEC("fentry/no_such_function") int first(void *c) { return tell(1); }
                SEC("?tp/sched/sched_process_exit") __attribute__((btf_decl_tag("instead-of:first")))
                int second(void *c) { return tell(2); }
                """ + license
        )
        let static_ = """
            struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
            struct event { int pid; char text[8]; __u8 address[4] __attribute__((btf_decl_tag("ip"))); };
            struct event *unused;
            SEC("usdt/TARGET:shop:sale") int on_sale(void *c) {
                struct event e = {bpf_get_current_pid_tgid() >> 32, "sold", {10, 0, 0, 1}};
                bpf_ringbuf_output(&events, &e, sizeof e, 0);
                return 0;
            }

            """
        try write(
            "k-staticarguments.bpf.c",
            include
                + """
                /* As <bpf/usdt.bpf.h> asks whether there are cookies. */
                extern const _Bool LINUX_HAS_BPF_COOKIE __attribute__((section(".kconfig")));
                struct __attribute__((packed)) argument { __u64 value; __u32 type; __s16 offset; bool is_signed; char shift; };
                struct specification { struct argument arguments[12]; __u64 cookie; __s16 count; };
                struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 256); __type(key, int);
                    __type(value, struct specification); } __bpf_usdt_specs SEC(".maps");
                struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
                struct event { long first, second, third; int count; };
                struct event *unused;
                static __always_inline long value(struct pt_regs *ctx, struct argument *a) {
                    unsigned long v = a->value, at = 0;
                    __s16 offset = a->offset;
                    if (a->type != 0) bpf_probe_read_kernel(&at, sizeof at, (void *)ctx + offset);
                    if (a->type == 1) v = at;
                    if (a->type == 2) bpf_probe_read_user(&v, sizeof v, (void *)at + a->value);
                    v <<= a->shift & 63;
                    return a->is_signed ? (long)v >> (a->shift & 63) : (long)(v >> (a->shift & 63));
                }
                SEC("usdt/\(directory)/shop:shop:sale") int on_sale(struct pt_regs *ctx) {
                    int number = LINUX_HAS_BPF_COOKIE ? bpf_get_attach_cookie(ctx) : 255;
                    struct specification *s = bpf_map_lookup_elem(&__bpf_usdt_specs, &number);
                    if (!s) return 0;
                    struct event e = {value(ctx, &s->arguments[0]), value(ctx, &s->arguments[1]), value(ctx, &s->arguments[2]),
                        s->count};
                    bpf_ringbuf_output(&events, &e, sizeof e, 0);
                    return 0;
                }
                """ + license
        )
        for (name, provider) in [
            ("static", "sale"), ("staticmissing", "sael"), ("staticcounted", "counted"), ("staticfixed", "fixed"),
            ("staticlooked", "looked"),
        ] {
            let code = static_.replacingOccurrences(of: "TARGET:shop:sale", with: "\(directory)/shop:shop:\(provider)")
            try write("k-\(name).bpf.c", include + code + license)
        }
        // Static probes as <sys/sdt.h> makes them: one with a counter, one without.
        try write(
            "shop.c",
            """
            #define NOTE(NAME, COUNTER, ARGS, ...) __asm__ volatile("990: nop\\n.pushsection .note.stapsdt,\\"\\",\\"note\\"\\n.balign 4\\n" \
                ".4byte 992f-991f, 994f-993f, 3\\n991: .asciz \\"stapsdt\\"\\n992: .balign 4\\n993: .8byte 990b\\n.8byte 0\\n" \
                ".8byte " COUNTER "\\n.asciz \\"shop\\"\\n.asciz \\"" NAME "\\"\\n.asciz \\"" ARGS "\\"\\n994: .balign 4\\n.popsection" :: __VA_ARGS__)
            unsigned short counter;
            const unsigned short fixed = 0;
            __attribute__((section(".probes"))) unsigned short looked = 0;
            volatile int sum;
            __attribute__((noinline)) void sell(int price) { volatile int twice = 2 * price; sum += price; NOTE("sale", "0", "-4@%k0 8@$77 -4@%1", "r"(-price), "m"(twice)); sum -= 1; }
            #include <stdio.h>
            int main(int count, char **words) {
                /* One line in, one line out: whether anybody looks. */
                for (char line[8]; count > 1 && fgets(line, sizeof line, stdin);) {
                    if (*(volatile unsigned short *)&looked) NOTE("looked", "looked", "-4@$5", "r"(0));
                    printf("%d\\n", looked);
                    fflush(stdout);
                }
                for (int i = 0; i < 4; i++) sell(i);
                NOTE("counted", "counter", "", "r"(0));
                NOTE("fixed", "fixed", "", "r"(0));
                return sum == 2 ? 5 : 1;
            }
            """
        )
        tool("gcc", ["-O1", "-no-pie", "shop.c", "-o", "shop"])
        try write("shared.bpf.c", include + hash("counts") + halves("counts", "counts") + license)
    }

    private func write(_ name: String, _ text: String, mode: Int = 0o644) throws {
        try text.write(toFile: "\(directory)/\(name)", atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: "\(directory)/\(name)")
    }

    private func tool(_ name: String, _ arguments: [String]) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [name] + arguments
        process.currentDirectoryURL = URL(fileURLWithPath: directory)
        process.standardError = FileHandle.nullDevice
        try? process.run()
        process.waitUntilExit()
    }

    /// Runs ubpfrun, or another program, to its end; `during` is called while it runs.
    func run(
        _ arguments: [String],
        _ environment: [String: String] = [:],
        program other: String? = nil,
        during: (Process) throws -> Void = { _ in }
    ) throws -> (output: String, errors: String, status: Int32) {
        let process = Process()
        let (output, errors) = (Pipe(), Pipe())
        process.executableURL = URL(fileURLWithPath: other ?? program)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardOutput = output
        process.standardError = errors
        process.standardInput = FileHandle.nullDevice
        try process.run()
        try during(process)
        let text = output.fileHandleForReading.readDataToEndOfFile()
        let message = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (
            String(decoding: text, as: UTF8.self), String(decoding: message, as: UTF8.self),
            process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
        )
    }
}
