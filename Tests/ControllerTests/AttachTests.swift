import Foundation
import Testing

@testable import Inject

/// Whole runs of the built ubpfrun on processes that were running before.
@Suite(.enabled(if: Files.shared != nil, "dist/ has not been built: make build"))
struct AttachTests {
    private func files() throws -> Files { try #require(Files.shared) }

    @Test func exactCountsAndNothingLeft() throws {
        let files = try files()
        let worker = try Worker(files)
        defer { worker.end() }
        let before = worker.snapshot()
        for _ in 0..<3 {
            let session = try Session(files, ["memleak", "-f", "json", "-p", "\(worker.pid)"])
            worker.lose(100)
            let records = session.interrupt()
            #expect(records.contains(#""bytes":4000,"count":100"#), "\(records)")
        }
        let after = worker.snapshot()
        #expect(after.threads == before.threads)
        #expect(after.files == before.files)
        #expect(after.code == before.code)
        #expect(worker.end() == 0)
    }

    @Test func aFirstThreadThatHasEnded() throws {
        let files = try files()
        let worker = try Worker(files, program: "headless")
        defer { worker.end() }
        for _ in 0..<2 {
            let session = try Session(files, ["memleak", "-f", "json", "-p", "\(worker.pid)"])
            worker.lose(100)
            let records = session.interrupt()
            #expect(records.contains(#""bytes":4000,"count":100"#), "\(records)")
            // Named by the files of a thread that lives.
            #expect(records.contains(#""sym":"work""#), "\(records)")
        }
        let killed = try Session(files, ["memleak", "-q", "-p", "\(worker.pid)"])
        worker.lose(10)
        killed.kill()
        worker.lose(10)
        #expect(try files.run(["clean", "-p", "\(worker.pid)"]).status == 0)
        worker.lose(10)
        #expect(worker.end() == 4)
    }

    @Test func severalSessionsOnOneFunction() throws {
        let files = try files()
        let worker = try Worker(files)
        defer { worker.end() }
        let before = worker.snapshot()
        let first = try Session(files, ["memleak", "-f", "json", "-p", "\(worker.pid)"])
        worker.lose(10)
        let second = try Session(files, ["memleak", "-f", "json", "-p", "\(worker.pid)"])
        worker.lose(20)
        // The first one goes first: the second one's probes are on the same jumps.
        #expect(first.interrupt().contains(#""bytes":1200,"count":30"#))
        worker.lose(30)
        #expect(second.interrupt().contains(#""bytes":2000,"count":50"#))
        #expect(worker.snapshot().code == before.code)
    }

    @Test func killedControllersLeaveNothing() throws {
        let files = try files()
        let worker = try Worker(files)
        defer { worker.end() }
        let before = worker.snapshot()
        for _ in 0..<5 {
            let session = try Session(files, ["memleak", "-q", "-p", "\(worker.pid)"])
            worker.lose(10)
            session.kill()
            var after = worker.snapshot()
            for _ in 0..<100 where after.threads != before.threads || after.files != before.files {
                usleep(10_000)
                after = worker.snapshot()
            }
            #expect(after.threads == before.threads)
            #expect(after.files == before.files)
            // What one byte restores is restored at once, and munmap's five need somebody who stops the threads.
            #expect(zip(after.code, before.code).count { $0 != $1 } < 20)
            let result = try files.run(["clean", "-p", "\(worker.pid)"])
            #expect(result.status == 0)
            #expect(worker.snapshot().code == before.code)
        }
        let result = try files.run(["clean", "-p", "\(worker.pid)"])
        #expect(result.errors.contains("pid \(worker.pid): 0 places restored"))
    }

    @Test func threadsThatBlockSignals() throws {
        let files = try files()
        let worker = try Worker(files, ["threads"])
        defer { worker.end() }
        for _ in 0..<3 {
            let session = try Session(files, ["memleak", "-f", "json", "-p", "\(worker.pid)"])
            worker.lose(100)
            #expect(session.interrupt().contains(#""bytes":4000,"count":100"#))
        }
        #expect(worker.end() == 0)
    }

    /// A child that outlives ubpfrun gets its code back, too.
    @Test func childrenAreRestored() throws {
        let files = try files()
        let session = try Session(files, ["memleak", "-f", "json", "--", files.directory + "/work", "self"])
        let pid = try #require(session.child)
        defer { Foundation.kill(pid, SIGKILL) }
        usleep(200_000)
        let name = { (try? String(contentsOfFile: "/proc/\(pid)/comm", encoding: .utf8)) ?? "none" }
        #expect(name() == "work\n")
        let patched = Snapshot(pid).code
        #expect(patched != Snapshot.original && !patched.isEmpty)
        session.terminate()
        #expect(name() == "work\n")
        #expect(Snapshot(pid).code == Snapshot.original)
    }

    /// A process that was attached to executes another program: its leaks of before and after are in one report.
    @Test(arguments: [true, false]) func followsExecOfARunningProcess(_ follows: Bool) throws {
        let files = try files()
        let worker = try Worker(files)
        let session = try Session(
            files,
            ["memleak", "-f", "json", "-p", "\(worker.pid)"] + (follows ? ["--follow-exec"] : [])
        )
        worker.lose(10)
        worker.execute()
        // Once it is attached to again, a thread of the library is there.
        for _ in 0..<500 where follows && worker.threadCount == 1 { usleep(10_000) }
        if follows { usleep(300_000) }
        worker.lose(7)
        worker.end()
        let result = session.wait()
        #expect(!result.isEmpty)
        #expect(result.contains(#""count":10"#))
        #expect(result.contains(#""count":7"#) == follows)
    }

    /// A process that dies of any system call but those that attaching is said to need, and of its own.
    @Test(
        .enabled(if: geteuid() == 0, "SKIPPED: only root may read seccomp filters"),
        arguments: [nil, "mprotect", "futex"]
    )
    func filteredProcesses(_ missing: String?) throws {
        let files = try files()
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: files.directory + "/filtered")
        let own = [230]  // clock_nanosleep
        let needed = SeccompFilter.Call.needed.filter { $0.name != missing }.map { Int($0.number) }
        process.arguments =
            (own
            + needed.filter { number in
                !SeccompFilter.Call.needed.contains { $0.name == missing && $0.number == number }
            }).map { String($0) }
        process.standardOutput = output
        try process.run()
        defer { kill(process.processIdentifier, SIGKILL) }
        #expect(output.fileHandleForReading.availableData == Data("up".utf8))
        let pid = process.processIdentifier
        let result = try files.run(["memleak", "-j", "-d", "0.5", "-p", "\(pid)"])
        if let missing {
            #expect(result.status == 69)
            #expect(result.errors.contains("U130") && result.errors.contains("its seccomp filter forbids \(missing)"))
        } else {
            #expect(result.status == 0)
            #expect(result.output.contains(#""bytes":40,"#) || result.output.contains("main"))
        }
        #expect(process.isRunning)
        let again = try files.run(["clean", "-p", "\(pid)"])
        #expect(again.status == (missing == nil ? 0 : 69))
        #expect(process.isRunning)
    }

    /// A program of the cases, once it has written "up".
    private func start(_ files: Files, _ name: String) throws -> Process {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: files.directory + "/" + name)
        process.standardOutput = output
        try process.run()
        #expect(output.fileHandleForReading.availableData == Data("up".utf8))
        return process
    }

    /// A filter of one thread alone: a hit there would make calls that it dies of.
    @Test(.enabled(if: geteuid() == 0, "SKIPPED: only root may read seccomp filters"))
    func aFilterOfAnotherThread() throws {
        let files = try files()
        let process = try start(files, "sandbox")
        defer { kill(process.processIdentifier, SIGKILL) }
        let result = try files.run(["memleak", "-j", "-d", "0.5", "-p", "\(process.processIdentifier)"])
        #expect(result.status == 69)
        #expect(
            result.errors.contains("U130") && result.errors.contains("its seccomp filter forbids"),
            "\(result.errors)"
        )
        #expect(process.isRunning)
    }

    /// Sites of several sessions whose jumps would share bytes: a jump made by one byte hides that it covers five.
    @Test func sitesThatOverlap() throws {
        let files = try files()
        let process = try start(files, "close")
        defer { kill(process.processIdentifier, SIGKILL) }
        let records = files.directory + "/first.json"
        let arguments = { (place: String, seconds: String) in
            [
                "run", "-d", seconds, "-p", "\(process.processIdentifier)", "--attach", "on_call=" + place,
                files.directory + "/own.bpf.c",
            ]
        }
        for (first, second) in [("f", "f+4"), ("f+4", "f"), ("f", "f+1")] {
            try? FileManager.default.removeItem(atPath: records)
            let result = try files.run(arguments(first, "60") + ["-j", "-o", records]) { running in
                // Its first record says that it is attached.
                for _ in 0..<3000 where (try? String(contentsOfFile: records, encoding: .utf8))?.contains("\n") != true
                {
                    usleep(10_000)
                }
                let other = try files.run(arguments(second, "0.2"))
                #expect(other.status == 69 && other.errors.contains("U124"), "\(second): \(other.errors)")
                running.interrupt()
            }
            #expect(result.status == 0, "\(first): \(result.errors)")
            #expect(process.isRunning)
        }
        for place in ["f", "f+4", "f+1"] {
            let result = try files.run(arguments(place, "0.2"))
            #expect(result.status == 0, "\(place): \(result.errors)")
        }
        #expect(process.isRunning)
    }

    @Test func followsForkAndExec() throws {
        let files = try files()
        let work = files.directory + "/work"
        let plain = try files.run(["memleak", "-f", "json", "--", work, "fork", "7"])
        #expect(plain.output.contains(#""bytes":280,"count":7"#))
        let forked = try files.run(["memleak", "-f", "json", "--follow-fork", "--", work, "fork", "7"])
        #expect(forked.output.contains(#""bytes":560,"count":14"#))
        let script = "\(work) fork 7; \(work) fork 7; exit 5"
        let executed = try files.run(["memleak", "-f", "json", "--follow-exec", "--", "sh", "-c", script])
        #expect(executed.status == 5)
        // Each program has addresses of its own, so each has places of its own.
        #expect(executed.output.components(separatedBy: #""bytes":560,"count":14"#).count == 3)
    }

    /// The shell waits for a module that is the program of its child.
    @Test func aProgramThatIsExecutedLaterIsFound() throws {
        let files = try files()
        let work = files.directory + "/work"
        let place = "on_malloc=work:main"
        let found = try files.run(
            ["malloccount", "--attach", place, "--follow-exec", "--", "sh", "-c", "\(work) fork 1; exit 0"]
        )
        #expect(found.status == 0, "\(found.errors)")
        #expect(!found.errors.contains("U208"), "\(found.errors)")
        let missing = try files.run(["malloccount", "--attach", place, "--follow-exec", "--", "sh", "-c", ":; exit 0"])
        #expect(missing.errors.contains("U208"), "\(missing.errors)")
    }

    @Test func explainsSites() throws {
        let result = try files().run(["--explain", "libc:malloc"])
        #expect(result.output.contains("malloc at 0x"))
        #expect(result.output.contains("risk: "))
        let other = try files().run(["explain", "libc:setjmp"])
        #expect(other.output.contains("no return probe: it returns twice"))
        let unknown = try files().run(["explain", "libc:mallok"])
        #expect(unknown.status == 66)
        #expect(unknown.errors.contains("error[U201]"))
    }
}

/// What can be seen of a process from outside.
struct Snapshot: Equatable {
    var threads: Set<String>
    var files: Set<String>
    /// Bytes of the allocation functions in memory.
    var code: [UInt8]

    init(_ pid: Int32) {
        let list = { (name: String) in
            Set((try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/\(name)")) ?? [])
        }
        threads = list("task")
        files = list("fd")
        let start = Self.base(of: pid)
        code = Self.places.flatMap { Self.bytes(pid, start + $0) }
    }

    /// Offsets of functions that memleak patches, in the C library.
    private static let places: [UInt64] = ["malloc", "free", "calloc", "realloc", "mmap", "munmap"].map {
        (name: String) in
        UInt64(UInt(bitPattern: dlsym(nil, name))) - base(of: getpid())
    }

    /// The same bytes in the C library's file, as this process has them.
    static let original: [UInt8] = places.flatMap { bytes(getpid(), base(of: getpid()) + $0) }

    private static func base(of pid: Int32) -> UInt64 {
        // Read as it is: not every path in it need be UTF-8.
        // The code: whoever reads the file's symbols at this moment has mapped the rest as well.
        let line = contents("/proc/\(pid)/maps").split(separator: UInt8(ascii: "\n"))
            .map { String(decoding: $0, as: UTF8.self) }.first { $0.hasSuffix("/libc.so.6") && $0.contains(" r-xp ") }
        let fields = line?.split(separator: " ") ?? []
        guard fields.count > 2, let start = UInt64(fields[0].prefix { $0 != "-" }, radix: 16),
            let offset = UInt64(fields[2], radix: 16)
        else {
            Issue.record("no C library in /proc/\(pid)/maps")
            return 0
        }
        return start - offset
    }

    private static func contents(_ path: String) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            Issue.record("\(path): errno \(errno)")
            return []
        }
        defer { close(file) }
        var all: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 65536)
        while case let got = read(file, &part, part.count), got > 0 { all += part.prefix(got) }
        return all
    }

    private static func bytes(_ pid: Int32, _ address: UInt64) -> [UInt8] {
        let memory = open("/proc/\(pid)/mem", O_RDONLY | O_CLOEXEC)
        guard memory >= 0 else {
            Issue.record("/proc/\(pid)/mem: errno \(errno)")
            return []
        }
        defer { close(memory) }
        var bytes = [UInt8](repeating: 0, count: 16)
        guard pread(memory, &bytes, 16, off_t(address)) == 16 else {
            Issue.record("/proc/\(pid)/mem at \(String(address, radix: 16)): errno \(errno)")
            return []
        }
        return bytes
    }
}

/// A program that does something for each line that it is sent: loses memory, if nothing else is said.
final class Worker {
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()

    init(_ files: Files, _ arguments: [String] = [], program: String = "work") throws {
        process.executableURL = URL(fileURLWithPath: files.directory + "/" + program)
        process.arguments = arguments
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        lose(1)
    }

    var pid: Int32 { process.processIdentifier }

    /// Has it lose 40 bytes so many times, and waits until it has.
    func lose(_ count: Int) { say("\(count)") }

    /// Sends a line; what comes back.
    @discardableResult func say(_ line: String) -> String {
        input.fileHandleForWriting.write(Data("\(line)\n".utf8))
        return String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    }

    /// Has it execute itself.
    func execute() {
        input.fileHandleForWriting.write(Data("-1\n".utf8))
        _ = output.fileHandleForReading.availableData
    }

    func snapshot() -> Snapshot { Snapshot(pid) }

    var threadCount: Int {
        (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task"))?.count ?? 0
    }

    /// Lets it end by itself; its exit code.
    @discardableResult func end() -> Int32 {
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
        return process.terminationStatus
    }
}

/// A running ubpfrun whose probes are in place.
final class Session {
    private let process = Process()
    private let output = Pipe()

    init(_ files: Files, _ arguments: [String]) throws {
        let ready = Pipe()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        // Descriptor 9 is the ready line's; the shell becomes ubpfrun.
        process.arguments =
            ["-c", #"exec 9>&2 2>/dev/null; p=$1; shift; exec "$p" --ready-fd 9 "$@""#, "sh", files.program]
            + [arguments[0]] + arguments.dropFirst()
        process.standardOutput = output
        process.standardError = ready
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let line = ready.fileHandleForReading.availableData
        if !line.starts(with: Data("ready".utf8)) { throw NotReady() }
    }

    private struct NotReady: Error {}

    /// The program that it started.
    var child: Int32? {
        let path = "/proc/\(process.processIdentifier)/task/\(process.processIdentifier)/children"
        return (try? String(contentsOfFile: path, encoding: .utf8)).flatMap {
            Int32($0.split(separator: " ").first ?? "")
        }
    }

    /// Ends it as Ctrl-C does; what it printed.
    func interrupt() -> String {
        end(SIGINT)
        return String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    }

    /// Waits until it ends by itself; what it printed.
    func wait() -> String {
        end(0)
        return String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    }

    func terminate() { end(SIGTERM) }

    func kill() { end(SIGKILL) }

    /// Sends a signal and goes on.
    func signal(_ number: Int32) { Foundation.kill(process.processIdentifier, number) }

    /// `Process.waitUntilExit` also waits for descendants that inherited its descriptors.
    private func end(_ signal: Int32) {
        Foundation.kill(process.processIdentifier, signal)
        let path = "/proc/\(process.processIdentifier)/stat"
        for _ in 0..<2000 {
            guard let text = try? String(contentsOfFile: path, encoding: .utf8), !text.contains(") Z ") else { return }
            usleep(5000)
        }
    }
}
