import Foundation
import Testing

/// Maps that are too big for the machine, for ubpfrun or for the target: one clear error, and nothing runs.
@Suite(.enabled(if: Files.shared != nil, "dist/ has not been built: make build"))
struct LimitTests {
    /// An object with `count` hash maps of so many entries, 4 KB each.
    private func object(_ files: Files, _ name: String, maps count: Int, entries: Int) throws -> String {
        var source = """
            #include <vmlinux.h>
            #include <bpf/bpf_helpers.h>
            char LICENSE[] SEC("license") = "GPL";
            struct value { char bytes[4096]; };

            """
        for index in 0..<count {
            source += """
                struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, \(entries)); __type(key, __u32);
                    __type(value, struct value); } m\(index) SEC(".maps");

                """
        }
        source += "SEC(\"uprobe/libc:malloc\") int p(void *ctx) { __u32 k = 1; int n = 0;\n"
        for index in 0..<count { source += "n += bpf_map_lookup_elem(&m\(index), &k) != NULL;\n" }
        source += "return n; }\n"
        let path = files.directory + "/\(name).bpf.c"
        try source.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    private func check(_ result: (output: String, errors: String, status: Int32), _ says: String) {
        let errors = result.errors.split(separator: "\n").filter { $0.hasPrefix("error[") }
        #expect(errors.count == 1 && errors.first?.hasPrefix("error[U324]: ") == true, "\(result.errors)")
        #expect(errors.first?.contains(says) == true, "\(result.errors)")
        #expect(result.status == 69)
        #expect(result.output == "", "the command must not have run")
    }

    @Test func theMachine() throws {
        let files = try #require(Files.shared)
        // 15 GB each.
        let maps = Int(ProcessInfo.processInfo.physicalMemory >> 30) / 15 + 3
        let path = try object(files, "huge", maps: maps, entries: 3_900_000)
        check(try files.run([path, "--", "/bin/echo", "ran"]), "MB, and this machine has")
    }

    @Test func ubpfrun() throws {
        let files = try #require(Files.shared)
        let path = try object(files, "large", maps: 1, entries: 500_000)
        let script = #"ulimit -v 1500000; exec "$@""#
        check(
            try files.run(["-c", script, "sh", files.program, path, "--", "/bin/echo", "ran"], program: "/bin/sh"),
            "MB of address space"
        )
    }

    @Test func theTarget() throws {
        let files = try #require(Files.shared)
        let path = try object(files, "wide", maps: 1, entries: 500_000)
        let worker = try Worker(files)
        defer { #expect(worker.end() == 0, "the target goes on") }
        let limited = try files.run(["--as=\(1 << 30)", "-p", "\(worker.pid)"], program: "/usr/bin/prlimit")
        #expect(limited.status == 0, "\(limited.errors)")
        check(try files.run([path, "-p", "\(worker.pid)"]), "the session's memory cannot be mapped")
        worker.lose(10)
    }
}
