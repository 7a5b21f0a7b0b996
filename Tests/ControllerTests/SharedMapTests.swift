import Foundation
import Testing

@testable import Controller

private let asRoot = Comment("programs in the kernel are for root here")
private let unbuilt = Comment("dist/ has not been built: make build")

/// A program whose functions and system calls are counted by both halves of one object.
private struct Workload {
    let files: Files
    let directory: String
    var program: String { directory + "/both" }

    init() throws {
        files = try #require(Files.shared)
        directory = NSTemporaryDirectory() + "/ubpf-shared-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        // Each round calls touch() and getsid(2) once; "-w" waits for a line first, "-f" does it all in a child too.
        try write(
            "both.c",
            """
            #include <pthread.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <sys/syscall.h>
            #include <sys/wait.h>
            #include <unistd.h>
            volatile int sum;
            static int rounds;
            __attribute__((noinline)) void touch(int n) { sum = n; }
            static void *work(void *unused) {
                for (int i = 0; i < rounds; i++) { touch(i); syscall(SYS_getsid, 0); }
                return unused;
            }
            int main(int argc, char **argv) {
                int threads = atoi(argv[1]);
                char wait_for = argc > 3 ? argv[3][1] : 0, line;
                rounds = atoi(argv[2]);
                if (wait_for == 'w' && (write(1, "up", 2) != 2 || read(0, &line, 1) != 1)) return 1;
                if (wait_for == 'f' && fork() != 0) wait(NULL);
                pthread_t thread[64];
                for (int i = 0; i < threads; i++) pthread_create(&thread[i], NULL, work, NULL);
                for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
                if (wait_for == 'w' && read(0, &line, 1) != 1) return 1;
                return 4;
            }
            """
        )
        _ = try files.run(
            ["-O1", "-pthread", directory + "/both.c", "-o", program],
            program: "/usr/bin/gcc"
        )
        let head = """
            #include "vmlinux.h"
            #include <bpf/bpf_helpers.h>
            char LICENSE[] SEC("license") = "GPL";
            struct event { int who; int tid; };
            struct event *unused;
            static __always_inline int is_ours(void) {
                char comm[16];
                bpf_get_current_comm(comm, sizeof comm);
                return comm[0] == 'b' && comm[1] == 'o' && comm[2] == 't' && comm[3] == 'h' && !comm[4];
            }

            """
        // An array of more than a page, global variables, a ring; every slot is written by both.
        try write(
            "array.bpf.c",
            head
                + """
                struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1200); __type(key, int); __type(value, long); }
                    counts SEC(".maps");
                struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 22); } events SEC(".maps");
                long by_both, agrees;
                int kernel_tgid;
                int from_data = 7;
                static __always_inline int note(int who, int own) {
                    int last = 1199;
                    long *both = bpf_map_lookup_elem(&counts, &last), *mine = bpf_map_lookup_elem(&counts, &own);
                    if (both) __sync_fetch_and_add(both, 1);
                    if (mine) __sync_fetch_and_add(mine, 1);
                    __sync_fetch_and_add(&by_both, 1);
                    struct event e = {who, (int)bpf_get_current_pid_tgid()};
                    bpf_ringbuf_output(&events, &e, sizeof e, 0);
                    return 0;
                }
                SEC("uprobe/PROGRAM:touch") int on_touch(void *c) {
                    if (kernel_tgid == (int)(bpf_get_current_pid_tgid() >> 32)) __sync_fetch_and_add(&agrees, 1);
                    from_data++;
                    return note(1, 1);
                }
                SEC("tp/syscalls/sys_enter_getsid") int on_getsid(void *c) {
                    if (!is_ours()) return 0;
                    kernel_tgid = bpf_get_current_pid_tgid() >> 32;
                    return note(2, 600);
                }
                """.replacingOccurrences(of: "PROGRAM", with: program)
        )
        // A hash that both write to, and one that only programs on functions use.
        try write(
            "hash.bpf.c",
            head
                + """
                struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, int); __type(value, long); }
                    counts SEC(".maps"), own SEC(".maps"), other SEC(".maps");
                static __always_inline int count(void *map, int key) {
                    long zero = 0, *value;
                    bpf_map_update_elem(map, &key, &zero, BPF_NOEXIST);
                    if ((value = bpf_map_lookup_elem(map, &key))) __sync_fetch_and_add(value, 1);
                    return 0;
                }
                SEC("uprobe/PROGRAM:touch") int on_touch(void *c) { count(&own, 5); return count(&counts, 1); }
                SEC("uretprobe/PROGRAM:touch") int on_return(void *c) { return count(&own, 6); }
                SEC("uprobe/PROGRAM:main") int on_main(void *c) { return count(&other, 7); }
                SEC("tp/syscalls/sys_enter_getsid") int on_getsid(void *c) { return is_ours() ? count(&counts, 2) : 0; }
                """.replacingOccurrences(of: "PROGRAM", with: program)
        )
    }

    func write(_ name: String, _ text: String) throws {
        try text.write(toFile: "\(directory)/\(name)", atomically: true, encoding: .utf8)
    }

    func records(_ text: String, _ type: String) throws -> [[String: Any]] {
        try text.split(separator: "\n").compactMap { line in
            let record = try #require(
                try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
                "\(line)"
            )
            return record["type"] as? String == type ? record["data"] as? [String: Any] : nil
        }
    }

    /// Elements of a map of numbers; nil unless it is shown once.
    func map(_ name: String, in text: String) throws -> [Int: Int]? {
        let found = try records(text, "map").filter { $0["name"] as? String == name }
        guard found.count == 1, let entries = found[0]["entries"] as? [[String: Any]] else { return nil }
        // The process's own maps are not typed: numbers in decimal, as text.
        let number = { (value: Any?) in value as? Int ?? (value as? String).flatMap { Int($0) } ?? -1 }
        return Dictionary(uniqueKeysWithValues: entries.map { (number($0["key"]), number($0["value"])) })
    }

    func variable(_ name: String, in text: String) throws -> Int? {
        let found = try records(text, "variable").filter { $0["name"] as? String == name }
        return found.count == 1 ? found[0]["value"] as? Int : nil
    }
}

/// Maps that programs in the process and in the kernel use.
@Suite(.enabled(if: Files.shared != nil, unbuilt), .enabled(if: geteuid() == 0, asRoot), .serialized)
struct SharedMapTests {
    private func check(_ result: String, _ work: Workload, rounds: Int) throws {
        let counts = try #require(try work.map("counts", in: result), "\(result.suffix(2000))")
        #expect(counts == [1: rounds, 600: rounds, 1199: 2 * rounds])
        #expect(try work.variable("by_both", in: result) == 2 * rounds)
        // The first call of each thread may come before the kernel has seen one.
        let agrees = try #require(try work.variable("agrees", in: result))
        #expect((rounds - 64)...rounds ~= agrees)
        let events = try work.records(result, "record").compactMap { $0["fields"] as? [String: Any] }
        for who in [1, 2] { #expect(events.count { $0["who"] as? Int == who } == rounds, "records of \(who)") }
    }

    @Test(arguments: [(1, 1000), (8, 5000)])
    func anArrayIsOneForBoth(_ threads: Int, _ rounds: Int) throws {
        let work = try Workload()
        let result = try work.files.run([
            work.directory + "/array.bpf.c", "-q", "-j", "--", work.program, "\(threads)", "\(rounds)",
        ])
        #expect(result.status == 4, "\(result.errors)")
        #expect(result.errors == "")
        try check(result.output, work, rounds: threads * rounds)
    }

    /// Several times, as the first hits of a child's threads come at once.
    @Test(arguments: 1...10)
    func forkedChildrenHaveItToo(_ time: Int) throws {
        let work = try Workload()
        let result = try work.files.run([
            work.directory + "/array.bpf.c", "-q", "-j", "--follow-fork", "--", work.program, "8", "250", "-f",
        ])
        #expect(result.status == 4, "\(result.errors)")
        try check(result.output, work, rounds: 4000)
    }

    /// A process of another user, who may not call bpf(2), and a look at the maps while it runs.
    @Test func aRunningProcessWithoutPrivileges() throws {
        let work = try Workload()
        for name in ["", "/both"] {
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: work.directory + name)
        }
        let process = Process()
        let (input, output) = (Pipe(), Pipe())
        process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
        process.arguments = ["--reuid=65534", "--regid=65534", "--clear-groups", work.program, "2", "3000", "-w"]
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        defer { kill(process.processIdentifier, SIGKILL) }
        #expect(output.fileHandleForReading.availableData == Data("up".utf8))
        let pid = "\(process.processIdentifier)"
        let report = work.directory + "/report"
        let ready = Pipe()
        let run = Process()
        run.executableURL = URL(fileURLWithPath: work.files.program)
        run.arguments = [work.directory + "/array.bpf.c", "-q", "-j", "-o", report, "-p", pid]
        run.standardError = ready
        run.standardOutput = FileHandle.nullDevice
        try run.run()
        // Until both halves are there.
        let deadline = Date() + 30
        var listed = ""
        while Date() < deadline, !listed.contains("counts") {
            listed = try work.files.run(["map", "list", "-p", "\(run.processIdentifier)"]).output
            usleep(100_000)
        }
        usleep(500_000)
        input.fileHandleForWriting.write(Data("x".utf8))
        let last = { try work.files.run(["map", "lookup", "counts", "1199", "-j", "-p", pid]).output }
        while Date() < deadline, try !last().contains("12000") { usleep(100_000) }
        let reached = try last()
        #expect(reached.contains("12000"), "\(reached)")
        // What is written from outside, both halves see.
        let update = try work.files.run(["map", "update", "counts", "3", "77", "-p", pid])
        #expect(update.status == 0, "\(update.errors)")
        input.fileHandleForWriting.write(Data("x".utf8))
        run.waitUntilExit()
        #expect(
            run.terminationStatus == 0,
            "\(String(decoding: ready.fileHandleForReading.availableData, as: UTF8.self))"
        )
        var text = try String(contentsOfFile: report, encoding: .utf8)
        #expect(try work.map("counts", in: text)?[3] == 77)
        text = text.replacingOccurrences(of: #"{"key":3,"value":77},"#, with: "")
        try check(text, work, rounds: 6000)
    }

    /// Programs that share a hash with the kernel's run there, and those that share one with these; the others stay.
    @Test func programsThatShareAHashMove() throws {
        let work = try Workload()
        let object = work.directory + "/hash.bpf.c"
        let loud = try work.files.run([object, "-j", "--", work.program, "4", "500"])
        #expect(loud.status == 4)
        #expect(
            loud.errors.contains("in the kernel, with others that use map 'counts' (hash): on_touch")
                && loud.errors.contains("in the kernel, with others that use map 'own' (hash): on_return"),
            "\(loud.errors)"
        )
        // on_main alone is in the process.
        #expect(loud.errors.contains("attached 1 probe to both"), "\(loud.errors)")
        #expect(try work.map("counts", in: loud.output) == [1: 2000, 2: 2000])
        #expect(try work.map("own", in: loud.output) == [5: 2000, 6: 2000])
        #expect(try work.map("other", in: loud.output) == [7: 1])
        // Where it has to stay in the process, the kernel's program is left out.
        let user = try work.files.run([object, "-j", "--backend", "user", "--", work.program, "4", "500"])
        #expect(user.errors.contains("warning[U408]: kernel program 'on_getsid' is left out: it shares map 'counts'"))
        #expect(try work.map("counts", in: user.output) == [1: 2000])
        // Only the process that is named: another one runs the same function meanwhile.
        let other = Process()
        other.executableURL = URL(fileURLWithPath: work.program)
        other.arguments = ["2", "100000000"]
        try other.run()
        defer { kill(other.processIdentifier, SIGKILL) }
        let kernel = try work.files.run([object, "-q", "-j", "--backend", "kernel", "--", work.program, "4", "500"])
        #expect(kernel.status == 4)
        #expect(try work.map("counts", in: kernel.output)?[1] == 2000)
        #expect(try work.map("own", in: kernel.output) == [5: 2000, 6: 2000])
        #expect(try work.map("other", in: kernel.output) == [7: 1])
    }

    @Test func followingIsForProcesses() throws {
        let work = try Workload()
        // Nothing moves to the kernel then: its part is left out, and says so.
        let shared = try work.files.run([work.directory + "/hash.bpf.c", "--follow-fork", "--", work.program, "1", "1"])
        #expect(shared.errors.contains("warning[U408]: kernel program 'on_getsid' is left out"), "\(shared.errors)")
        let result = try work.files.run([
            work.directory + "/hash.bpf.c", "--backend", "kernel", "--follow-fork", "--", work.program, "1", "1",
        ])
        #expect(result.status == 64)
        #expect(
            result.errors.contains("error[U001]: --follow-fork and --follow-exec are not for programs on functions"),
            "\(result.errors)"
        )
    }

    /// What cannot run in the process.
    @Test func aStaticProgramRunsUnderTheKernel() throws {
        let work = try Workload()
        let program = work.directory + "/static"
        _ = try work.files.run(
            ["-O1", "-static", "-pthread", work.directory + "/both.c", "-o", program],
            program: "/usr/bin/gcc"
        )
        let arguments = [
            work.directory + "/hash.bpf.c", "-j", "--attach", "on_touch=\(program):touch", "--attach",
            "on_return=\(program):touch", "--attach", "on_main=\(program):main", "--", program, "2", "50",
        ]
        let result = try work.files.run(arguments)
        #expect(result.status == 4)
        #expect(result.errors.contains("is statically linked"), "\(result.errors)")
        #expect(result.errors.contains("programs run in the kernel"))
        #expect(try work.map("own", in: result.output) == [5: 100, 6: 100])
        let strict = try work.files.run([arguments[0], "--backend", "user"] + arguments.dropFirst())
        #expect(strict.status == 69)
        #expect(strict.errors.contains("error[U102]"))
    }
}

/// Which maps are where, as `inspect` says it; needs no privileges.
@Suite(.enabled(if: Files.shared != nil, unbuilt))
struct PlacementTests {
    private func homes(_ work: Workload, _ name: String) throws -> (maps: [String: String], programs: [String: String])
    {
        let result = try work.files.run(["inspect", "-j", work.directory + "/" + name])
        let root = try #require(try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
        let maps = try #require(root["maps"] as? [[String: Any]])
        let programs = try #require(root["programs"] as? [[String: Any]])
        let pairs = { (list: [[String: Any]], key: String) in
            Dictionary(uniqueKeysWithValues: list.map { ($0["name"] as? String ?? "", $0[key] as? String ?? "") })
        }
        return (pairs(maps, "home"), pairs(programs, "in_kernel_for"))
    }

    @Test func arraysAreMapped() throws {
        let work = try Workload()
        let found = try homes(work, "array.bpf.c")
        #expect(found.maps["counts"] == "mapped")
        #expect(found.maps[".bss"] == "mapped")
        #expect(found.maps[".data"] == "process")
        #expect(found.maps["events"] == "streams")
        #expect(found.programs == ["on_touch": "", "on_getsid": ""])
        let text = try work.files.run(["inspect", work.directory + "/array.bpf.c"]).output
        #expect(text.contains("max_entries 1200, in the kernel, mapped into the process\n"))
    }

    @Test func hashesAreInTheKernel() throws {
        let work = try Workload()
        let found = try homes(work, "hash.bpf.c")
        #expect(found.maps == ["counts": "kernel", "own": "kernel", "other": "process", ".bss": ""])
        #expect(found.programs == ["on_touch": "counts", "on_return": "own", "on_main": "", "on_getsid": ""])
    }

    /// Arrays that the kernel does not map.
    @Test(arguments: [
        ("__uint(map_flags, 4);", "kernel"), ("__uint(map_flags, BPF_F_MMAPABLE);", "mapped"),
        ("struct bpf_spin_lock lock;", "kernel"),
    ])
    func whatIsNotMapped(_ what: String, _ home: String) throws {
        let work = try Workload()
        let isField = what.hasPrefix("struct")
        try work.write(
            "k.bpf.c",
            """
            #include "vmlinux.h"
            #include <bpf/bpf_helpers.h>
            char LICENSE[] SEC("license") = "GPL";
            struct value { long n; \(isField ? what : "") };
            struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, int); __type(value, struct value);
                \(isField ? "" : what) } counts SEC(".maps");
            static __always_inline int count(void) {
                int key = 0;
                struct value *value = bpf_map_lookup_elem(&counts, &key);
                if (value) __sync_fetch_and_add(&value->n, 1);
                return 0;
            }
            SEC("uprobe/libc.so.6:malloc") int on_malloc(void *c) { return count(); }
            SEC("tp/sched/sched_process_exit") int on_exit(void *c) { return count(); }
            """
        )
        #expect(try homes(work, "k.bpf.c").maps["counts"] == home)
    }
}
