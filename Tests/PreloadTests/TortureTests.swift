import CSession
import Foundation
import ISA
import Testing

/// A fixture program, compiled once per run.
enum Fixture {
    static let torture: String? = compile("torture.cpp", ["g++", "-O2", "-g", "-rdynamic", "-pthread"])

    static let helpers: String? = compile("helpers.c", ["gcc", "-O2", "-g"])

    static let reads: String? = compile("reads.c", ["gcc", "-O2", "-g", "-pthread"])

    private static func compile(_ name: String, _ compiler: [String]) -> String? {
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Fixtures/" + name
        let output = NSTemporaryDirectory() + "/ubpf-\(getpid())-\(name).out"
        let outcome = try? run(["/usr/bin/env"] + compiler + ["-o", output, source])
        return outcome?.status == 0 ? output : nil
    }
}

/// Programs that do hard things to their stacks and processes: with probes they must do exactly the same, and every
/// call is counted as a hit or as missed.
@Suite(.serialized, .enabled(if: library != nil, "no libubpf.so: run 'make build' first"))
struct TortureTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var name: String
        /// Calls that never come back: thrown past, jumped over.
        var abandoned = 0
        /// Calls that a signal handler may make while a program runs.
        var mayMiss = false
        var testDescription: String { name }
    }

    static let cases = [
        Case(name: "values"), Case(name: "throw", abandoned: 1000), Case(name: "nested", abandoned: 100),
        Case(name: "longjmp", abandoned: 1000), Case(name: "exit_thread", abandoned: 200), Case(name: "recursion"),
        Case(name: "backtrace"), Case(name: "fork"), Case(name: "spawn"), Case(name: "short"),
        Case(name: "threads"), Case(name: "errno"),
    ]

    @Test(arguments: cases)
    func behavesAsWithoutProbes(_ it: Case) throws {
        let program = try #require(Fixture.torture, "g++ is needed")
        let plain = try run([program, it.name])
        let probed = try runProbed(
            [program, it.name],
            [Probe(symbol: "victim"), Probe(symbol: "deep"), Probe(symbol: "tail2")]
        )
        #expect(probed.attached?.error == 0)
        #expect(probed.attached?.value == 3)
        #expect(probed.output == plain.output)
        #expect(probed.status == plain.status)
        let words = plain.output.split(separator: "\n").last.map { $0.split(separator: " ") } ?? []
        let calls = try #require(words.first { $0.hasPrefix("calls=") }.flatMap { Int($0.dropFirst(6)) })
        let names = ["victim", "tail2"]
        let entered = names.compactMap { probed.entries[$0]?.total }.reduce(0, +)
        let left = names.compactMap { probed.returns[$0]?.total }.reduce(0, +)
        #expect(entered == calls)
        #expect(left == calls - it.abandoned)
        #expect(names.allSatisfy { probed.entries[$0]?.missed == 0 })
        #expect(probed.entries.values.allSatisfy { $0.traps == 0 })
    }

    @Test func everySignatureSurvives() throws {
        let program = try #require(Fixture.torture, "g++ is needed")
        let functions = ["many", "structure", "pair", "extended", "complicated", "wide", "tail1", "tail2"]
        let plain = try run([program, "values"])
        let probed = try runProbed([program, "values"], functions.map { Probe(symbol: $0) })
        #expect(probed.output == plain.output)
        for name in functions {
            let calls = name == "pair" ? 2000 : 1000
            #expect(probed.entries[name]?.hits == UInt64(calls), "\(name)")
            #expect(probed.returns[name]?.hits == UInt64(calls), "\(name)")
        }
    }

    @Test func wideVectorsSurvive() throws {
        let program = try #require(Fixture.torture, "g++ is needed")
        let plain = try run([program, "vectors"])
        let probed = try runProbed([program, "vectors"], [Probe(symbol: "vectors")])
        #expect(probed.output == plain.output)
        if !plain.output.contains("no-avx") { #expect(probed.returns["vectors"]?.hits == 1000) }
    }

    @Test(arguments: ["signal", "signal_alternate", "siglongjmp", "backtrace_signal"])
    func signalsMayCome(_ name: String) throws {
        let program = try #require(Fixture.torture, "g++ is needed")
        let plain = try run([program, name], seconds: 20)
        try #require(plain.status == 0)
        let probed = try runProbed([program, name], [Probe(symbol: "victim"), Probe(symbol: "deep")], seconds: 20)
        #expect(probed.output == plain.output)
        #expect(probed.status == 0)
        let calls = try #require(probed.number("COUNT"))
        let entered = try #require(probed.entries["victim"]).total
        // A handler may jump away between a probe's count and the function's own.
        #expect(abs(entered - calls) <= (name == "siglongjmp" ? 1000 : 0))
    }

    @Test func fibersMoveBetweenStacks() throws {
        let program = try #require(Fixture.torture, "g++ is needed")
        let plain = try run([program, "fibers"])
        let probed = try runProbed([program, "fibers"], [Probe(symbol: "victim"), Probe(symbol: "deep")])
        #expect(probed.output == plain.output)
        #expect(probed.status == plain.status)
    }

    @Test func mallocIsCountedExactly() throws {
        let program = try #require(Fixture.torture, "g++ is needed")
        let plain = try run([program, "threads"])
        let probed = try runProbed(
            [program, "threads"],
            [Probe(module: "libc", symbol: "malloc"), Probe(module: "libc", symbol: "free"), Probe(symbol: "victim")]
        )
        #expect(probed.output == plain.output)
        let mallocs = try #require(probed.entries["malloc"])
        let frees = try #require(probed.entries["free"])
        #expect(mallocs.total >= 1_600_000 && mallocs.total < 1_601_000)
        // Each of the forty threads gives its cache back when it ends, some thirty blocks.
        #expect(frees.total >= 1_600_000 && frees.total < 1_602_000)
        #expect(probed.returns["malloc"]?.total == mallocs.total)
        #expect(probed.entries["victim"]?.total == 1_600_000)
    }

    /// Hits stop the moment the controller is gone, and nothing else does.
    @Test func outlivesItsController() throws {
        let program = try #require(Fixture.torture, "g++ is needed")
        let plain = try run([program, "signal"])
        let probed = try runProbed([program, "signal"], [Probe(symbol: "victim")]) { shared in
            usleep(500_000)
            // What the kernel does to a robust mutex whose owner dies (FUTEX_OWNER_DIED).
            let word = UnsafeMutableRawPointer(shared) + 64
            word.storeBytes(of: word.load(as: UInt32.self) | 0x4000_0000, as: UInt32.self)
        }
        #expect(probed.output == plain.output)
        #expect(probed.status == plain.status)
        let hits = try #require(probed.entries["victim"]).total
        #expect(hits > 1000)
        #expect(hits < (probed.number("COUNT") ?? 0) / 2)
    }
}
