import Foundation
import Testing

/// Programs with helpers that act on their process, with its tasks and with locks, by the built ubpfrun.
@Suite(.enabled(if: Files.shared != nil, "dist/ has not been built: make build"))
struct HelperOptionTests {
    private let directory: String

    private static let header = """
        #include "vmlinux.h"
        #include <bpf/bpf_core_read.h>
        #include <bpf/bpf_helpers.h>
        #include <bpf/bpf_tracing.h>
        char LICENSE[] SEC("license") = "GPL";

        """

    init() throws {
        directory = NSTemporaryDirectory() + "/ubpf-helpers-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let target = """
            #include <pthread.h>
            #include <stdio.h>
            #include <unistd.h>
            __attribute__((noinline)) int answer(int x) { __asm__ volatile("" ::: "memory"); return x + 1; }
            static void *many(void *p) { for (int i = 0; i < 50000; i++) answer(i); return p; }
            int main(int count, char **words) {
                if (count == 1) return printf("%d %d %d\\n", answer(41), getpid(), getppid()) < 0;
                pthread_t threads[4];
                for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, many, NULL);
                for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
            }
            """
        try target.write(toFile: directory + "/target.c", atomically: true, encoding: .utf8)
        let compiler = Process()
        compiler.executableURL = URL(filePath: "/usr/bin/env")
        compiler.arguments = ["gcc", "-O2", "-g", "-pthread", directory + "/target.c", "-o", directory + "/target"]
        try compiler.run()
        compiler.waitUntilExit()
        try #require(compiler.terminationStatus == 0)
    }

    /// Runs a program, which is `answer`'s probe, on the target.
    private func run(
        _ program: String,
        _ options: [String] = [],
        place: String = "answer",
        section: String = "uprobe",
        _ words: [String] = []
    ) throws -> (output: String, errors: String, status: Int32) {
        let text = Self.header + program.replacing("PROBE", with: "SEC(\"\(section)\") int probe(struct pt_regs *ctx)")
        try text.write(toFile: directory + "/x.bpf.c", atomically: true, encoding: .utf8)
        let command = [directory + "/x.bpf.c", "--attach", "probe=\(place)", "-q"] + options
        return try #require(Files.shared).run(command + ["--", directory + "/target"] + words)
    }

    @Test func overridingIsAnOption() throws {
        let program = "PROBE\n{\n\tbpf_override_return(ctx, 77);\n\treturn 0;\n}\n"
        let refused = try run(program)
        #expect(refused.status == 65)
        for part in ["error[U303]", "x.bpf.c:8:", "bpf_override_return is for those who allow it", "--allow-override"] {
            #expect(refused.errors.contains(part), "\(part) in \(refused.errors)")
        }
        let allowed = try run(program, ["--allow-override"])
        #expect(allowed.status == 0)
        #expect(allowed.output.hasPrefix("77 "))
        for (place, section) in [("answer+3", "uprobe"), ("answer", "uretprobe")] {
            let elsewhere = try run(program, ["--allow-override"], place: place, section: section)
            #expect(elsewhere.errors.contains("error[U202]: 'probe' cannot override a return"), "\(elsewhere.errors)")
            #expect(elsewhere.output == "")
        }
    }

    @Test func writingIsAnOption() throws {
        let program = "PROBE\n{\n\tlong x = 1;\n\tbpf_probe_write_user((void *)ctx->sp, &x, 0);\n\treturn 0;\n}\n"
        let refused = try run(program.replacing("&x, 0", with: "&x, 8"))
        #expect(refused.status == 65 && refused.errors.contains("--allow-write"), "\(refused.errors)")
        let text = "PROBE\n{\n\tint x = 1;\n\tbpf_probe_write_user((void *)8, &x, 4);\n\treturn 0;\n}\n"
        let allowed = try run(text, ["--allow-write"])
        #expect(allowed.status == 0 && allowed.output.hasPrefix("42 "), "\(allowed.errors)")
    }

    @Test func tasks() throws {
        let program = """
            PROBE
            {
            \tstruct task_struct *task = (struct task_struct *)bpf_get_current_task();
            \tbpf_printk("<%d %d>", BPF_CORE_READ(task, tgid), BPF_CORE_READ(task, real_parent, tgid));
            \treturn 0;
            }
            """
        let result = try run(program)
        let words = try #require(result.output.split(separator: "\n").first { $0.hasPrefix("42 ") }).split(
            separator: " "
        )
        #expect(result.output.contains("<\(words[1]) \(words[2])>"), "\(result.output)\(result.errors)")
    }

    /// A field that the kernel's task has, and a process's has not.
    @Test func otherFieldsOfTasks() throws {
        let program = """
            struct task_struct___more { int exit_signal; } __attribute__((preserve_access_index));
            PROBE
            {
            \tstruct task_struct___more *task = (void *)bpf_get_current_task();
            \treturn BPF_CORE_READ(task, exit_signal);
            }
            """
        let result = try run(program)
        #expect(result.status == 65)
        #expect(result.errors.contains("error[V042]") && result.errors.contains("real_parent"), "\(result.errors)")
    }

    /// The task that bpf_get_current_task_btf gives is the thread itself.
    @Test func stackOfTheTask() throws {
        let program = """
            PROBE
            {
            \tstruct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
            \tunsigned long mine[4] = {}, same[4] = {};
            \tlong size = bpf_get_task_stack(task, mine, sizeof mine, BPF_F_USER_STACK);
            \tlong other = bpf_get_stack(ctx, same, sizeof same, BPF_F_USER_STACK);
            \tbpf_printk("<%d %d %d>", size >= 16 && size == other, mine[0] == ctx->ip, mine[1] == same[1]);
            \treturn 0;
            }
            """
        let result = try run(program)
        #expect(result.output.contains("<1 1 1>"), "\(result.output)\(result.errors)")
    }

    /// What arenas cannot be, with the line that uses one.
    @Test func arenas() throws {
        let program = """
            struct {
            \t__uint(type, 33);
            \t__uint(map_flags, BPF_F_MMAPABLE);
            \t__uint(max_entries, 10);
            } arena SEC(".maps");
            PROBE
            {
            \tasm volatile("" :: "r"(&arena));
            \treturn 0;
            }
            """
        let result = try run(program, ["--backend", "user"])
        #expect(result.status == 65)
        for part in ["error[U322]: map 'arena'", "same address in every process", "x.bpf.c:13:", "BPF_F_MMAPABLE"] {
            #expect(result.errors.contains(part), "\(part) in \(result.errors)")
        }
    }

    /// Four threads, two numbers that belong together; nobody sees the lock.
    @Test func locks() throws {
        let program = """
            struct pair { long a; struct bpf_spin_lock lock; int b; };
            struct {
            \t__uint(type, BPF_MAP_TYPE_ARRAY);
            \t__uint(max_entries, 1);
            \t__type(key, int);
            \t__type(value, struct pair);
            } pairs SEC(".maps");
            PROBE
            {
            \tint key = 0;
            \tstruct pair *pair = bpf_map_lookup_elem(&pairs, &key);
            \tif (!pair) return 0;
            \tbpf_spin_lock(&pair->lock);
            \tpair->a++;
            \tpair->b++;
            \tbpf_spin_unlock(&pair->lock);
            \treturn 0;
            }
            """
        let result = try run(program, ["-f", "json"], ["many"])
        #expect(result.status == 0, "\(result.errors)")
        let map = try #require(result.output.split(separator: "\n").first { $0.contains("\"type\":\"map\"") })
        // 200,000, twice, with nothing of the lock between.
        #expect(map.contains("40 0d 03 00 00 00 00 00 00 00 00 00 40 0d 03 00"), "\(map)")
    }
}
