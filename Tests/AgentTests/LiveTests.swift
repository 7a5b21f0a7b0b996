import Foundation
import Testing

/// Functions are patched and unpatched while threads run them, in a process of their own.
@Suite(.serialized) struct LiveTests {
    /// 100,000 where the environment has UBPF_TORTURE.
    private static let toggles = ProcessInfo.processInfo.environment["UBPF_TORTURE"] == nil ? 1000 : 100_000

    private static let path: String = {
        let package = #filePath.dropLast("/Tests/AgentTests/LiveTests.swift".count)
        let beside = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path + "/live-torture"
        return FileManager.default.isExecutableFile(atPath: beside) ? beside : package + "/.build/debug/live-torture"
    }()

    private struct Outcome {
        /// Exit status, or minus the signal that ended it.
        var status: Int
        var output: String
        var values: [Substring: Double] = [:]

        subscript(_ name: Substring) -> Double { values[name] ?? -1 }
    }

    private func run(_ arguments: String) throws -> Outcome {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Self.path)
        process.arguments = arguments.split(separator: " ").map(String.init)
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let died = process.terminationReason == .uncaughtSignal
        var outcome = Outcome(status: Int(process.terminationStatus) * (died ? -1 : 1), output: output)
        for word in output.split(whereSeparator: \.isWhitespace) {
            let parts = word.split(separator: "=")
            if parts.count == 2, let value = Double(parts[1]) { outcome.values[parts[0]] = value }
        }
        return outcome
    }

    /// Every result is right, the program's handlers get their signals and only those, bytes and handlers are as before.
    @Test(arguments: [
        "threads=4", "threads=16 hz=10000", "threads=4 handlers=before", "threads=4 handlers=after hz=1000",
        "threads=16 blocked=12 hz=10000 sites=0x1f",
    ])
    func threadsSurvive(_ arguments: String) throws {
        let outcome = try run("toggles=\(Self.toggles) \(arguments)")
        print("live: \(arguments): \(outcome.output)", terminator: "")
        #expect(outcome.status == 0)
        #expect(outcome["toggles"] == Double(Self.toggles))
        #expect(outcome["hits"] > 0)
        #expect(outcome["waits"] == 0, "without membarrier this takes long")
        #expect(outcome["last"] == 0 && outcome["clean"] == 1, "the handlers are still ours")
        if !arguments.contains("sites") { #expect(outcome["entries"] > 0, "no thread met a breakpoint") }
        if arguments.contains("handlers") { #expect(outcome["own"] > 0 && outcome["forwarded"] > 0) }
    }

    /// A seccomp filter that forbids membarrier, or kills for it: it is not called, and the steps wait instead.
    @Test(arguments: ["errno", "kill"]) func threadsSurviveWithoutMembarrier(_ seccomp: String) throws {
        let outcome = try run("toggles=5 threads=4 seccomp=\(seccomp)")
        print("live: seccomp=\(seccomp): \(outcome.output)", terminator: "")
        #expect(outcome.status == 0)
        #expect(outcome["waits"] == 10)
    }

    /// The torture finds what it is there to find: jumps of five bytes written while others run.
    @Test func wideStoresAreFound() throws {
        for _ in 0..<5 {
            let outcome = try run("toggles=5000 threads=16 hz=10000 sites=0xf bug=wide")
            if outcome.status != 0 { return }
        }
        Issue.record("five times 5,000 toggles survived without protection")
    }

    /// What breakpoints cost: a thread that blocks SIGTRAP and meets one takes the process with it.
    @Test func blockedSignalsKill() throws {
        for _ in 0..<5 {
            let outcome = try run("toggles=2000 threads=4 blocked=2 sites=0x20")
            if outcome.status == -Int(SIGTRAP) { return }
        }
        Issue.record("threads that block SIGTRAP survived it")
    }

    /// A signal that would end the program still does, the same way.
    @Test(arguments: [
        ("int3", SIGTRAP), ("ud2", SIGILL), ("fault", SIGSEGV), ("kill-trap", SIGTRAP), ("kill-ill", SIGILL),
        ("ignored-int3", SIGTRAP),
    ])
    func defaultActionsAreKept(_ how: String, _ signal: Int32) throws {
        #expect(try run("die=\(how)").status == -Int(signal))
    }

    @Test func ignoredSignalsAreIgnored() throws {
        let outcome = try run("die=ignored-kill")
        #expect(outcome.status == 0 && outcome.output.hasPrefix("SURVIVED"))
    }
}
