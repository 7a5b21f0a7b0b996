import Foundation
import Testing

@testable import Controller

private let asRoot = Comment("programs in the kernel are for root here")
private let unbuilt = Comment("dist/ has not been built: make build")

/// Programs in the kernel, by the real command line under a fixed workload.
@Suite(.enabled(if: Files.shared != nil, unbuilt), .enabled(if: geteuid() == 0, asRoot))
struct KernelRunTests {
    private func run(_ arguments: [String]) throws -> (output: String, errors: String, status: Int32) {
        try #require(Files.shared).run(arguments)
    }

    /// The records of a type, as JSON objects.
    private func records(_ text: String, _ type: String) throws -> [[String: Any]] {
        try text.split(separator: "\n").compactMap { line in
            let record = try #require(
                try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
                "\(line)"
            )
            return record["type"] as? String == type ? record["data"] as? [String: Any] : nil
        }
    }

    private func events(_ text: String) throws -> [[String: Any]] {
        try records(text, "record").map { try #require($0["fields"] as? [String: Any], "\($0)") }
    }

    // MARK: The tools

    @Test func helloPrintsALineForEachProgram() throws {
        let result = try run(["hello", "-q", "--", "sh", "-c", "echo $$"])
        let pid = try #require(result.output.split(separator: "\n").first { Int($0) != nil })
        #expect(result.status == 0)
        #expect(result.errors == "")
        // The comm is the kernel's when the line is read: before or after the program is another.
        #expect(result.output.contains("-\(pid): hello from PID \(pid)\n"))
    }

    @Test func execsnoopShowsPrograms() throws {
        let result = try run(["execsnoop", "-q", "-j", "--", "sh", "-c", "/bin/true; /bin/cat /dev/null; exit 3"])
        #expect(result.status == 3)
        let names = try events(result.output).compactMap { $0["filename"] as? String }
        // The page with a name may not be in memory, which makes it empty.
        #expect(names.contains("/bin/true") || names.contains(""))
        let from = try events(result.output).filter { $0["comm"] as? String == "sh" }
        #expect(from.count >= 2)
        #expect(from.allSatisfy { $0["uid"] as? Int == 0 })
    }

    @Test func opensnoopShowsFilesAndResults() throws {
        let name = "/nonexistent-\(UUID().uuidString)"
        let result = try run(["opensnoop", "-q", "-j", "--", "sh", "-c", "cat /etc/hostname \(name) >/dev/null 2>&1"])
        let own = try events(result.output).filter { $0["comm"] as? String == "cat" }
        #expect(own.contains { $0["filename"] as? String == "/etc/hostname" && ($0["ret"] as? Int ?? -1) >= 0 })
        #expect(own.filter { $0["filename"] as? String == name }.map { $0["ret"] as? Int } == [-2])
    }

    @Test func opensnoopsOptionsChoose() throws {
        let name = "/nonexistent-\(UUID().uuidString)"
        let script = "cat /etc/hostname \(name) >/dev/null 2>&1"
        let result = try run(["opensnoop", "--failed", "-q", "-j", "--", "sh", "-c", script])
        let results = try events(result.output).compactMap { $0["ret"] as? Int }
        #expect(!results.isEmpty)
        #expect(results.allSatisfy { $0 < 0 })
    }

    @Test func sigsnoopShowsSignals() throws {
        let result = try run(["sigsnoop", "-q", "-j", "--", "sh", "-c", "kill -0 $$; kill -CONT $$; kill -9 $$"])
        #expect(result.status == 137)
        let own = try events(result.output).filter { $0["pid"] as? Int == $0["target"] as? Int }
        #expect(own.compactMap { $0["signal"] as? Int }.prefix(2) == [0, 18])
        #expect(own.prefix(2).allSatisfy { $0["ret"] as? Int == 0 && $0["comm"] as? String == "sh" })
    }

    @Test func exitsnoopShowsCodesAndSignals() throws {
        let result = try run([
            "exitsnoop", "-q", "-j", "--", "sh", "-c", "sh -c 'exit 7'; sh -c 'kill -15 $$'; sleep 0.1; exit 0",
        ])
        let own = try events(result.output)
        #expect(own.contains { $0["exit_code"] as? Int == 7 && $0["comm"] as? String == "sh" })
        #expect(own.contains { $0["signal"] as? Int == 15 })
        let slept = try #require(own.first { $0["comm"] as? String == "sleep" })
        let duration = try #require(slept["duration_ns"] as? Int)
        #expect((100_000_000..<60_000_000_000).contains(duration))
    }

    @Test func runqlatDrawsAHistogram() throws {
        let result = try run(["runqlat", "-q", "--", "sh", "-c", "for i in 1 2 3 4 5; do sleep 0.02; done"])
        #expect(result.output.hasPrefix("hists[0]: comm=\n["))
        #expect(result.output.contains("|@"))
        let typed = try run(["runqlat", "-q", "-j", "--per-process", "--", "sleep", "0.1"])
        let histograms = try records(typed.output, "hist")
        #expect(!histograms.isEmpty)
        #expect(
            histograms.allSatisfy { ($0["buckets"] as? [Any])?.isEmpty == false && $0["name"] as? String == "hists" }
        )
    }

    @Test func tablesHaveColumns() throws {
        let result = try run(["exitsnoop", "-q", "--", "sh", "-c", "exit 9"])
        let lines = result.output.split(separator: "\n")
        #expect(lines.first == "TIME         PID    PPID EXIT_CODE  SIGNAL DURATION_NS COMM")
        #expect(lines.dropFirst().contains { $0.hasSuffix(" sh") && $0.contains("         9       0 ") })
    }

    // MARK: Runs

    @Test func withoutCommandUntilTheTimeIsOver() throws {
        let started = Date()
        let result = try run(["exitsnoop", "-q", "-d", "0.5", "-o", "/dev/null"])
        #expect(result.status == 0)
        #expect(result.output == "")
        #expect(Date().timeIntervalSince(started) >= 0.5)
    }

    /// Records that come faster than they can be shown do not keep a run from its end.
    @Test func aFloodDoesNotDelayTheEnd() throws {
        let object = try #require(Files.shared).directory + "/flood.bpf.c"
        let started = Date()
        // Until ubpfrun has ended.
        let script = "exec >/dev/null 2>&1; i=0; while [ $i -lt 1000000 ] && [ -d /proc/$PPID ]; do i=$((i+1)); done"
        let result = try run([object, "-q", "-j", "-d", "1", "-o", "/dev/null", "--", "sh", "-c", script])
        #expect(result.status >= 0)
        #expect(Date().timeIntervalSince(started) < 12)
    }

    @Test func untilAProcessEnds() throws {
        let target = Process()
        target.executableURL = URL(fileURLWithPath: "/bin/sleep")
        target.arguments = ["1"]
        try target.run()
        let result = try run(["exitsnoop", "-q", "-j", "-p", "\(target.processIdentifier)"])
        #expect(result.status == 0)
        #expect(try events(result.output).contains { $0["pid"] as? Int == Int(target.processIdentifier) })
    }

    @Test func aStaticProgramIsFine() throws {
        let files = try #require(Files.shared)
        let result = try run(["exitsnoop", "-q", "-j", "--", files.directory + "/static"])
        #expect(result.status == 0)
        #expect(try events(result.output).contains { $0["comm"] as? String == "static" })
    }

    @Test func nothingStays() throws {
        _ = try run(["hello", "-q", "--", "true"])
        let left = (try? FileManager.default.contentsOfDirectory(atPath: "/sys/kernel/tracing/instances")) ?? []
        #expect(!left.contains { $0.hasPrefix("ubpfrun-") })
    }

    /// A record of whose type nothing is said, and the option that says it.
    @Test func untypedRecordsAreBytesWithAWarning() throws {
        let object = try #require(Files.shared).directory + "/untyped.bpf.c"
        let result = try run([object, "-j", "--", "true"])
        #expect(result.errors.contains("warning[U412]: records of 'events' are shown as bytes"))
        #expect(
            try records(result.output, "record").contains { ($0["bytes"] as? String)?.hasPrefix("2a 00 00 00") == true }
        )
        let typed = try run([object, "-q", "-j", "--event", "answer", "--", "true"])
        #expect(try events(typed.output).contains { $0["value"] as? Int == 42 })
        let pointer = try #require(Files.shared).directory + "/pointer.bpf.c"
        #expect(try events(try run([pointer, "-q", "-j", "--", "true"]).output).contains { $0["value"] as? Int == 42 })
        // Not even in BTF, but in a source that is compiled here.
        let local = try #require(Files.shared).directory + "/local.bpf.c"
        #expect(
            try events(try run([local, "-q", "-j", "--event", "answer", "--", "true"]).output).contains {
                $0["value"] as? Int == 42
            }
        )
        let header = try #require(Files.shared).directory + "/answer.h"
        #expect(
            try events(try run([local, "-q", "-j", "--event", "events=\(header):reply", "--", "true"]).output).contains
            {
                $0["low"] as? Int == 42 && $0["high"] as? Int == 0
            }
        )
        let map = try run([object, "-q", "-j", "--event", "events=struct answer", "--", "true"])
        #expect(try events(map.output).contains { $0["value"] as? Int == 42 })
    }

    /// One refused program does not cost the others; their maps and types come through a perf buffer.
    @Test func oneRefusalDoesNotLoseTheObject() throws {
        let object = try #require(Files.shared).directory + "/several.bpf.c"
        let result = try run([object, "-j", "--", "true"])
        #expect(result.status == 0)
        #expect(result.errors.contains("warning[U401]") || result.errors.contains("warning[U406]"))
        #expect(result.errors.contains("warning[U404]: no tracepoint 'sched/sched_process_exce' for program 'slip'"))
        #expect(result.errors.contains("help: did you mean 'sched/sched_process_exec'?"))
        #expect(result.errors.contains("attached 1 kernel program"))
        #expect(try events(result.output).contains { $0["value"] as? Int == 7 })
        let strict = try run([object, "--strict", "--", "true"])
        #expect(strict.status != 0)
        #expect(strict.errors.contains("error[U4"))
    }

    @Test func oneProgramRunsInsteadOfAnother() throws {
        let object = try #require(Files.shared).directory + "/instead.bpf.c"
        let result = try run([object, "-j", "--strict", "--", "true"])
        #expect(result.status == 0)
        #expect(!result.errors.contains("U4"))
        let values = try events(result.output).compactMap { $0["value"] as? Int }
        #expect(!values.isEmpty && values.allSatisfy { $0 == 2 })
        let loud = try run([object, "-v", "-o", "/dev/null", "--", "true"])
        #expect(loud.errors.contains("program 'second' runs instead of 'first'"))
    }

    /// Stacks of the kernel and of processes that have ended.
    @Test func stacksOfProcessesThatHaveEnded() throws {
        let result = try run([
            "profile", "-q", "--target-comm", "sh", "--", "sh", "-c",
            "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done",
        ])
        let shell = result.output.split(separator: "\n").drop { !$0.contains("comm: sh}") }
        #expect(shell.contains { $0.hasPrefix("    user:") }, "\(result.output)")
        #expect(shell.contains { $0.hasSuffix(" [dash]") || $0.hasSuffix(" [libc.so.6]") }, "\(result.output)")
    }

    @Test func uprobesRunInTheKernelToo() throws {
        let result = try run(["bashreadline", "--backend", "kernel", "--", "bash", "--norc", "-c", "true"])
        #expect(result.status == 0)
        #expect(result.errors.contains("attached 1 kernel program"))
    }

    /// Both halves of one object, each with maps of its own; then with one that both use.
    @Test func mixedObjects() throws {
        let files = try #require(Files.shared)
        let both = try run([files.directory + "/halves.bpf.c", "-q", "-j", "--", files.directory + "/leak"])
        #expect(both.status == 3)
        let names = try records(both.output, "map").compactMap { $0["name"] as? String }
        #expect(Set(names) == ["mallocs", "exits"])
        let shared = try run([files.directory + "/shared.bpf.c", "--backend", "user", "--", files.directory + "/leak"])
        #expect(shared.status == 3)
        #expect(shared.errors.contains("warning[U408]: kernel program 'on_exit' is left out: it shares map 'counts'"))
        let moved = try run([
            files.directory + "/shared.bpf.c", "-q", "-j", "--backend", "kernel", "--", files.directory + "/leak",
        ])
        let counts = try #require(try records(moved.output, "map").first?["entries"] as? [[String: Any]])
        #expect(Set(counts.compactMap { $0["key"] as? Int }) == [1, 2])
    }
}

/// One clear error for each reason why a kernel program does not run.
@Suite(.enabled(if: Files.shared != nil, unbuilt))
struct KernelErrorTests {
    @Test(
        .enabled(if: geteuid() == 0, asRoot),
        arguments: [
            ("kprobe", 69, "error[U401]: program 'p' needs kprobes; this kernel has none"),
            ("fentry", 69, "error[U405]: this kernel refuses program 'p': no fentry, fexit or fmod_ret"),
            ("missing", 66, "error[U404]: no tracepoint 'nothing/at_all' for program 'p'"),
            ("rawmissing", 66, "error[U404]: no tracepoint 'sched_swich' for program 'p'"),
            ("btfmissing", 69, "error[U410]: this kernel has no 'tp_btf/nothing' for program 'p'"),
            ("refused", 65, "error[U403]: the kernel refuses program 'p': "),
            ("hugemap", 69, "error[U407]: the kernel does not make map 'big'"),
            ("structops", 69, "error[U409]: program 'p' cannot be attached"),
        ]
    )
    func refusals(_ name: String, _ status: Int32, _ says: String) throws {
        let files = try #require(Files.shared)
        let result = try files.run(["\(files.directory)/k-\(name).bpf.c", "--", "true"])
        // Another kernel may have what this one lacks.
        if result.status == 0, name == "kprobe" || name == "fentry" { return }
        #expect(result.status == status, "\(result.errors)")
        #expect(result.errors.contains(says), "\(result.errors)")
        #expect(result.output == "")
        if name == "kprobe" || name == "fentry" {
            #expect(result.errors.contains("SEC(\"tracepoint/syscalls/sys_enter_unlinkat\") exists here"))
        }
        if name == "refused" {
            #expect(result.errors.contains("k-refused.bpf.c:"))
            #expect(result.errors.contains("why: in: "))
        }
        if name == "rawmissing" { #expect(result.errors.contains("did you mean 'sched_switch'?")) }
    }

    @Test(.enabled(if: geteuid() == 0, asRoot))
    func anUnknownEventType() throws {
        let result = try #require(Files.shared).run(["exitsnoop", "--event", "nothing", "--", "true"])
        #expect(result.status == 64)
        #expect(result.errors.contains("error[U002]: 'nothing' is no value for --event"))
    }

    @Test(.enabled(if: geteuid() != 0, "only says something without privileges"))
    func withoutPrivileges() throws {
        let files = try #require(Files.shared)
        let alone = try files.run(["exitsnoop", "--", "true"])
        #expect(alone.status == 77)
        #expect(
            alone.errors.hasPrefix("error[U402]: 1 kernel program skipped: on_exit\n  why: the kernel lets only root")
        )
        let half = try files.run(["\(files.directory)/halves.bpf.c", "-j", "--", files.directory + "/leak"])
        #expect(half.status == 3)
        #expect(half.errors.contains("warning[U402]: 1 kernel program skipped: on_exit"))
        #expect(half.output.contains("\"mallocs\""))
        let strict = try files.run(["\(files.directory)/halves.bpf.c", "--strict", "--", files.directory + "/leak"])
        #expect(strict.status == 77)
    }
}

/// Static probes and records of programs in processes, without the kernel.
@Suite(.enabled(if: Files.shared != nil, unbuilt))
struct StaticProbeTests {
    @Test func recordsOfPerfBuffers() throws {
        let files = try #require(Files.shared)
        let result = try files.run(["\(files.directory)/userperf.bpf.c", "-q", "--", "\(files.directory)/leak"])
        #expect(result.status == 3, "\(result.errors)")
        let lines = result.output.split(separator: "\n")
        #expect(lines.first == "TIME       VALUE     PID")
        #expect(lines.count { $0.split(separator: " ").dropFirst().first == "7" } == 100)
    }

    @Test func programsRunInTheProcess() throws {
        let files = try #require(Files.shared)
        let result = try files.run(["\(files.directory)/k-static.bpf.c", "-q", "--", "\(files.directory)/shop"])
        #expect(result.status == 5)
        let lines = result.output.split(separator: "\n")
        #expect(lines.first == "TIME         PID TEXT             ADDRESS")
        #expect(lines.dropFirst().count { $0.hasSuffix(" sold             10.0.0.1") } == 4, "\(result.output)")
    }

    @Test func argumentsAreWhatTheProgramPasses() throws {
        let files = try #require(Files.shared)
        let result = try files.run([
            "\(files.directory)/k-staticarguments.bpf.c", "-q", "-j", "--", "\(files.directory)/shop",
        ])
        #expect(result.status == 5, "\(result.errors)")
        let records = try result.output.split(separator: "\n").compactMap { line in
            let record = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            return (record["data"] as? [String: Any])?["fields"] as? [String: Int]
        }
        #expect(records == (0..<4).map { ["first": -$0, "second": 77, "third": 2 * $0, "count": 3] })
    }

    @Test(.enabled(if: geteuid() == 0, asRoot)) func countersMustBeInTheFile() throws {
        let files = try #require(Files.shared)
        let result = try files.run([
            "\(files.directory)/k-staticcounted.bpf.c", "--backend", "kernel", "--", "\(files.directory)/shop",
        ])
        #expect(result.errors.contains("error[U409]: static probe 'shop:counted' in "), "\(result.errors)")
        #expect(result.errors.contains("its semaphore is not among the file's bytes"))
        #expect(result.status == 69)
    }

    @Test(arguments: [
        ("staticmissing", "error[U201]: no static probe 'shop:sael' in ", "help: did you mean 'shop:sale'?"),
        (
            "staticfixed", "error[U409]: program 'on_sale' cannot be on 'shop:fixed' in the process",
            "which is not in memory that can be written"
        ),
    ])
    func refusals(_ name: String, _ says: String, _ help: String) throws {
        let files = try #require(Files.shared)
        let result = try files.run(["\(files.directory)/k-\(name).bpf.c", "--", "\(files.directory)/shop"])
        #expect(result.errors.contains(says), "\(result.errors)")
        #expect(result.errors.contains(help), "\(result.errors)")
        #expect(result.status != 0 && result.status != 5)
    }
}
