import Foundation
import Testing

@testable import Controller

private let asRoot = Comment("programs in the kernel are for root here")
private let unbuilt = Comment("dist/ has not been built: make build")

/// The same programs in the process and in the kernel, and memleak with both halves.
@Suite(.enabled(if: Files.shared != nil, unbuilt), .enabled(if: geteuid() == 0, asRoot), .serialized)
struct BackendTests {
    private struct Workload {
        let files: Files
        let directory: String

        init() throws {
            files = try #require(Files.shared)
            directory = NSTemporaryDirectory() + "/ubpf-backend-\(UUID().uuidString)"
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        }

        func compile(_ name: String, _ text: String, _ arguments: [String] = []) throws -> String {
            try write(name + ".c", text)
            let program = directory + "/" + name
            _ = try files.run(
                ["-g", "-O0", directory + "/\(name).c", "-o", program] + arguments,
                program: "/usr/bin/gcc"
            )
            return program
        }

        func write(_ name: String, _ text: String) throws {
            try text.write(toFile: "\(directory)/\(name)", atomically: true, encoding: .utf8)
        }

        func data(_ text: String, _ type: String) throws -> [[String: Any]] {
            try text.split(separator: "\n").compactMap { line in
                let record = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                return record?["type"] as? String == type ? record?["data"] as? [String: Any] : nil
            }
        }

        /// Loses 50 blocks of 64 bytes and opens 40 pipes.
        func leaky(_ arguments: [String] = []) throws -> String {
            try compile(
                "leaky",
                """
                #include <stdlib.h>
                #include <unistd.h>
                void *volatile kept;
                __attribute__((noinline)) void lose(int n) { kept = malloc(n); }
                int main(void) {
                    int ends[2];
                    for (int i = 0; i < 50; i++) lose(64);
                    for (int i = 0; i < 40; i++) if (pipe(ends)) return 1;
                    for (int i = 0; i < 20; i++) usleep(100000);
                    return 6;
                }
                """,
                arguments
            )
        }

        /// Counts calls of `work`, by process, by CPU and in a variable.
        func counter(_ program: String) throws -> String {
            try write(
                "count.bpf.c",
                """
                #include "vmlinux.h"
                #include <bpf/bpf_helpers.h>
                char LICENSE[] SEC("license") = "GPL";
                struct key { int tgid; int n; };
                struct value { long count; __u64 last __attribute__((btf_decl_tag("time:ns"))); };
                struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, struct key);
                    __type(value, struct value); } counts SEC(".maps");
                struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, int);
                    __type(value, long); } cpus SEC(".maps");
                long total;
                SEC("uprobe/\(program):work") int on_work(struct pt_regs *ctx) {
                    struct key key = {bpf_get_current_pid_tgid() >> 32, ctx->di};
                    struct value zero = {}, *value;
                    int slot = 1;
                    bpf_map_update_elem(&counts, &key, &zero, BPF_NOEXIST);
                    value = bpf_map_lookup_elem(&counts, &key);
                    if (value) { value->count++; value->last = bpf_ktime_get_ns(); }
                    long *cpu = bpf_map_lookup_elem(&cpus, &slot);
                    if (cpu) ++*cpu;
                    total++;
                    return 0;
                }
                """
            )
            return directory + "/count.bpf.c"
        }
    }

    @Test func theSameIsTheSame() throws {
        let work = try Workload()
        let program = try work.compile(
            "steady",
            """
            volatile int sum;
            __attribute__((noinline)) void work(int n) { sum += n; }
            int main(void) { for (int i = 0; i < 300; i++) work(i % 3); return 7; }
            """
        )
        let object = try work.counter(program)
        let result = try work.files.run([object, "--compare-backends", "--", program])
        #expect(result.status == 0, "\(result.output)\(result.errors)")
        #expect(result.output == "compared 3 maps: 5 the same, 0 different\n")
        // A running process is looked at twice, for as long each time.
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sleep")
        shell.arguments = ["60"]
        try shell.run()
        defer { kill(shell.processIdentifier, SIGKILL) }
        let pid = "\(shell.processIdentifier)"
        let quiet = try work.files.run(["malloccount", "--compare-backends", "-j", "-d", "0.3", "-p", pid])
        #expect(quiet.status == 0, "\(quiet.output)\(quiet.errors)")
        #expect(try work.data(quiet.output, "comparison").first?["different"] as? Int == 0)
        let endless = try work.files.run(["malloccount", "--compare-backends", "-p", pid])
        #expect(endless.status == 64)
        #expect(endless.errors.contains("error[U001]: --compare-backends runs a workload twice"))
    }

    @Test func whatDiffersIsSaid() throws {
        let work = try Workload()
        // Works once more at each start.
        let program = try work.compile(
            "growing",
            """
            #include <fcntl.h>
            #include <unistd.h>
            volatile int sum;
            __attribute__((noinline)) void work(int n) { sum += n; }
            int main(int argc, char **argv) {
                int file = open(argv[1], O_RDWR | O_CREAT | O_APPEND, 0600);
                if (write(file, "x", 1) != 1) return 1;
                int times = lseek(file, 0, SEEK_END);
                for (int i = 0; i < times; i++) work(9);
                if (times > 1) work(5);
                return times;
            }
            """
        )
        let object = try work.counter(program)
        let text = try work.files.run([object, "--compare-backends", "--", program, work.directory + "/one"])
        #expect(text.status == 1)
        let lines = text.output.split(separator: "\n")
        #expect(lines.contains("exit code: user 1, kernel 2"), "\(text.output)")
        #expect(lines.contains("total: user 1, kernel 3"))
        #expect(lines.contains("cpus[1]: user 1, kernel 3"))
        #expect(lines.contains { $0.hasPrefix("counts[{tgid: ") && $0.contains("n: 9}]: user {count: 1,") })
        #expect(lines.contains { $0.hasPrefix("counts[{tgid: ") && $0.contains("n: 5}]: user -, kernel {count: 1,") })
        #expect(lines.last == "compared 3 maps: 0 the same, 5 different")
        let json = try work.files.run([object, "-j", "--compare-backends", "--", program, work.directory + "/two"])
        #expect(json.status == 1)
        #expect(try work.data(json.output, "difference").count == 5)
        #expect(try work.data(json.output, "comparison").first?["different"] as? Int == 5)
    }

    // MARK: memleak

    @Test func bothHalvesOfMemleak() throws {
        let work = try Workload()
        let result = try work.files.run([
            "memleak", "--trace-kernel", "-j", "-i", "1", "-n", "1", "--", try work.leaky(),
        ])
        #expect(result.errors.contains("kernel program"))
        let own = try work.data(result.output, "leak")
        #expect(own.contains { $0["bytes"] as? Int == 3200 && $0["count"] as? Int == 50 }, "\(result.output)")
        let names = { (leak: [String: Any]) in
            (leak["stack"] as? [[String: Any]] ?? []).compactMap { $0["sym"] as? String }
        }
        #expect(own.contains { names($0).contains("lose") })
        let kernel = try work.data(result.output, "kernel_leak")
        let pipes = kernel.filter { names($0).contains("alloc_pipe_info") }
        #expect(pipes.contains { $0["count"] as? Int == 40 }, "\(kernel)")
        #expect(try work.data(result.output, "kernel_total").first?["count"] as? Int ?? 0 >= 80)
        // Without it the kernel's programs stay out, for everybody.
        let plain = try work.files.run(["memleak", "-j", "--", try work.leaky()])
        #expect(plain.status == 6)
        #expect(!plain.output.contains("kernel_"))
        #expect(!plain.errors.contains("kernel program"))
    }

    @Test func thePipesAreGivenBack() throws {
        let work = try Workload()
        let result = try work.files.run(["memleak", "--trace-kernel", "--", try work.leaky()])
        #expect(result.status == 6)
        #expect(result.output.contains("leaked 3200 bytes in 50 allocations"))
        let kernel = result.output.split(separator: "\n").drop { !$0.hasPrefix("in the kernel: outstanding") }
        #expect(!kernel.isEmpty)
        #expect(!kernel.contains { $0.contains("alloc_pipe_info") }, "\(kernel.joined(separator: "\n"))")
    }

    @Test func memleakInTheKernel() throws {
        let work = try Workload()
        let result = try work.files.run(["memleak", "--backend", "kernel", "--", try work.leaky()])
        #expect(result.status == 6)
        #expect(result.output.contains("leaked 3200 bytes in 50 allocations"), "\(result.output)\(result.errors)")
        #expect(result.output.contains("#0 lose+0x"))
        let alone = try work.files.run(["memleak", "--", try work.leaky(["-static"])])
        #expect(alone.errors.contains("is statically linked"))
        #expect(alone.output.contains("3200 B in 50 allocs"), "\(alone.output)\(alone.errors)")
        let compared = try work.files.run(["memleak", "--compare-backends", "--", try work.leaky()])
        #expect(compared.status == 0, "\(compared.output)")
        #expect(compared.output.contains("50 under another address, 0 different"), "\(compared.output)")
    }
}

/// What is shipped stands on its own.
@Suite(.enabled(if: Files.shared != nil, unbuilt))
struct LinkingTests {
    @Test(arguments: ["bin/ubpfrun", "lib/libubpf.so"])
    func noLibbpf(_ name: String) throws {
        let files = try #require(Files.shared)
        let path = String(files.program.dropLast("bin/ubpfrun".count)) + name
        let needed = try files.run(["-d", path], program: "/usr/bin/readelf").output
        #expect(needed.contains("(NEEDED)"))
        #expect(!needed.contains("libbpf"), "\(needed)")
        // Nor its code: every object of libbpf has its messages, which begin so.
        let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        #expect(bytes.range(of: Data("libbpf: ".utf8)) == nil)
    }

    /// A probe on another file of the name would count nothing, and say nothing.
    @Test(.enabled(if: geteuid() == 0, asRoot)) func librariesThatAreNotKnownBeforehand() throws {
        let files = try #require(Files.shared)
        let source = files.directory + "/unknown-library.bpf.c"
        try """
        #include "vmlinux.h"
        #include <bpf/bpf_helpers.h>
        long hits;
        SEC("uprobe/libc.so.6:malloc") int on_malloc(void *c) { hits++; return 0; }
        char LICENSE[] SEC("license") = "GPL";

        """.write(toFile: source, atomically: true, encoding: .utf8)
        let result = try files.run([source, "--", files.directory + "/static"])
        #expect(
            result.errors.contains(
                "which file 'libc.so.6' is for program 'on_malloc' is not known before the command runs"
            ),
            "\(result.errors)"
        )
        #expect(result.errors.contains("static is statically linked"))
        #expect(result.status != 0)
    }

    @Test func comparesOnlyWhatItCanRunTwice() throws {
        let files = try #require(Files.shared)
        for option in ["--follow-fork", "--follow-exec", "--backend=user"] {
            let result = try files.run(["memleak", "--compare-backends", option, "--", "true"])
            #expect(result.errors.contains("--compare-backends runs both ways itself"), "\(result.errors)")
            #expect(result.status == 64)
        }
    }
}
