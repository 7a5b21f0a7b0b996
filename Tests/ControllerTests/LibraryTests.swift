import Foundation
import Testing

/// Libraries that targets open and close while a session waits for them.
///
/// `liblate.so` calls its probed function 5 times in its constructor and 2 times in its destructor; a round calls it 10 times.
@Suite(.enabled(if: Files.shared != nil, "dist/ has not been built: make build"))
struct LibraryTests {
    private let files: Files
    private var library: String { files.directory + "/liblate.so" }
    private var object: String { files.directory + "/late.bpf.c" }
    private static let calls = 17

    init() throws { files = try #require(Files.shared) }

    /// What the final record says of both probes.
    private func counts(_ output: String) -> [Int] {
        output.components(separatedBy: #""hits":"#).dropFirst().map { part in
            Int(part.prefix { $0.isNumber }) ?? -1
        }
    }

    @Test(arguments: [1, 200])
    func startedProgramsCountFromTheFirstCall(rounds: Int) throws {
        let result = try files.run(["-j", object, "--", files.directory + "/opens", library, "\(rounds)"])
        #expect(result.status == 7)
        #expect(counts(result.output) == [Self.calls * rounds, Self.calls * rounds], "\(result.errors)")
        #expect(result.errors.contains("waiting for liblate\n"))
        #expect(result.errors.contains("attached 2 probes to liblate of opens"))
        #expect(!result.errors.contains("warning"))
    }

    @Test func preloadedLibraryWaitsToo() throws {
        let output = files.directory + "/late.out"
        let preload = String(files.program.dropLast("bin/ubpfrun".count)) + "lib/libubpf.so"
        let environment = ["LD_PRELOAD": preload, "UBPF_PROG": object, "UBPF_ARGS": "-j -o \(output)"]
        let program = files.directory + "/opens"
        let result = try files.run([library, "20"], environment, program: program)
        #expect(result.status == 7)
        let text = try String(contentsOfFile: output, encoding: .utf8)
        #expect(counts(text) == [Self.calls * 20, Self.calls * 20])
    }

    @Test func whatIsNeverLoadedIsSaid() throws {
        let result = try files.run(["-j", object, "--", "true"])
        #expect(result.status == 0)
        #expect(result.errors.contains("waiting for liblate\n"))
        #expect(result.errors.contains("warning[U208]: 'liblate' was never loaded"))
        #expect(result.output.contains(#""code":"U208""#))
    }

    @Test func namesThatWaitKeepTheOthers() throws {
        let attach = ["--attach", "on_enter=libc:getenv", "--attach", "on_enter=\(library):late_work"]
        let result = try files.run(["-j", object] + attach + ["--", files.directory + "/opens", library, "3"])
        #expect(result.status == 7)
        #expect(counts(result.output).suffix(2) == [Self.calls * 3, Self.calls * 3])
        #expect(result.errors.contains("attached 1 probe to opens"))
    }

    /// What the library lacks is told when it appears, and is nothing to end a running program for.
    @Test func missingFunctionsAreTold() throws {
        let attach = ["--attach", "on_enter=liblate:late_wrok"]
        let result = try files.run(["-j", object] + attach + ["--", files.directory + "/opens", library, "3"])
        #expect(result.status == 7)
        #expect(result.errors.contains("warning[U201]: no function 'late_wrok' in liblate.so"))
        #expect(result.errors.components(separatedBy: "warning").count == 2)
    }

    @Test func runningProgramsCountFromTheFirstCall() throws {
        let target = try Opener(files)
        defer { target.end() }
        let before = Snapshot(target.pid)
        for _ in 0..<3 {
            let session = try Session(files, [object, "-j", "-p", "\(target.pid)"])
            target.say("10")
            #expect(counts(session.interrupt()) == [Self.calls * 10, Self.calls * 10])
        }
        let after = Snapshot(target.pid)
        #expect(after.threads == before.threads)
        #expect(after.files == before.files)
        #expect(target.end() == 0)
    }

    /// A library that is there already is probed at once, goes, and is probed again.
    @Test func librariesThatAreThereMayGo() throws {
        let target = try Opener(files)
        defer { target.end() }
        target.say("o")
        let session = try Session(files, [object, "-j", "-p", "\(target.pid)"])
        target.say("c")
        target.say("x")
        target.say("5")
        target.say("o")
        target.say("c")
        let calls = 10 + 2 + 5 * Self.calls + 15
        #expect(counts(session.interrupt()) == [calls, calls])
        target.say("c")
        target.say("x")
        #expect(target.end() == 0)
    }

    /// What takes the place of a library that is gone is not written to, whether ubpfrun ends or is killed.
    @Test(arguments: [true, false])
    func otherMemoryIsNotTouched(isKilled: Bool) throws {
        let target = try Opener(files)
        defer { target.end() }
        let session = try Session(files, [object, "-j", "-p", "\(target.pid)"])
        target.say("o")
        target.say("c")
        target.say("x")
        target.say("m")
        if isKilled {
            session.kill()
            _ = try files.run(["clean", "-p", "\(target.pid)"])
        } else {
            #expect(counts(session.interrupt()) == [Self.calls, Self.calls])
        }
        #expect(target.end() == 0)
    }

    @Test func severalSessionsWait() throws {
        let target = try Opener(files)
        defer { target.end() }
        let first = try Session(files, [object, "-j", "-p", "\(target.pid)"])
        target.say("2")
        let second = try Session(files, [object, "-j", "-p", "\(target.pid)"])
        target.say("3")
        #expect(counts(first.interrupt()) == [Self.calls * 5, Self.calls * 5])
        target.say("4")
        #expect(counts(second.interrupt()) == [Self.calls * 7, Self.calls * 7])
        target.say("1")
        #expect(target.end() == 0)
    }

    /// A thread that waits goes on when ubpfrun is killed, and does not wait again for one that is stopped.
    @Test func noControllerHoldsAProgramUp() throws {
        let target = try Opener(files)
        defer { target.end() }
        let session = try Session(files, [object, "-j", "-p", "\(target.pid)"])
        target.say("1")
        session.signal(SIGSTOP)
        let started = Date()
        target.say("20")
        let waited = Date().timeIntervalSince(started)
        #expect(waited > 0.19 && waited < 1.5, "\(waited) s")
        session.signal(SIGCONT)
        target.say("1")
        session.signal(SIGSTOP)
        target.tell("1")
        usleep(20_000)
        session.kill()
        target.hear()
        #expect(target.end() == 0)
    }

    /// Late, but as any running code: what follows is counted.
    @Test func lateLibrariesAreProbedAsTheyRun() throws {
        let target = try Opener(files)
        defer { target.end() }
        let session = try Session(files, [object, "-j", "-p", "\(target.pid)"])
        session.signal(SIGSTOP)
        target.say("o")
        session.signal(SIGCONT)
        // The message is on its way.
        for _ in 0..<20 {
            target.say("c")
            usleep(50_000)
        }
        let output = session.interrupt()
        let hits = counts(output)
        #expect(hits.count == 2 && hits[0] == hits[1] && hits[0] > 0 && hits[0] % 10 == 0, "\(output)")
        #expect(output.contains(#""code":"U507""#))
        target.say("x")
        #expect(target.end() == 0)
    }

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/python3"), "no /usr/bin/python3"))
    func pythonImportsLate() throws {
        let script = """
            import sqlite3
            c = sqlite3.connect(':memory:')
            for i in range(50): c.execute('select %d' % i).fetchall()
            """
        let probe = files.directory + "/sqlite.bpf.c"
        let result = try files.run(["-j", probe, "--", "/usr/bin/python3", "-c", script])
        #expect(result.status == 0, "\(result.errors)")
        #expect(counts(result.output) == [50], "\(result.errors)")
    }
}

/// A program that opens and closes liblate.so when it is told to.
private final class Opener {
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()

    init(_ files: Files) throws {
        process.executableURL = URL(fileURLWithPath: files.directory + "/opens")
        process.arguments = [files.directory + "/liblate.so"]
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        hear()
    }

    var pid: Int32 { process.processIdentifier }

    func tell(_ line: String) { input.fileHandleForWriting.write(Data("\(line)\n".utf8)) }

    func hear() { _ = output.fileHandleForReading.availableData }

    func say(_ line: String) {
        tell(line)
        hear()
    }

    /// Lets it end by itself; its exit code.
    @discardableResult func end() -> Int32 {
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
        return process.terminationStatus
    }
}
