import CSession
import Foundation
import ISA
import Testing

/// Helpers that act on the process, in a process: a function that is called a thousand times with a pointer to 7, which it returns.
@Suite(.serialized, .enabled(if: library != nil, "no libubpf.so: run 'make build' first"))
struct HelperRunTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var program: [Statement]
        var flags: csession_flag = CSESSION_VERIFIED
        var output: String
        /// Of a thousand calls.
        var traps = 0
    }

    private static let write: [Statement] = [
        .store64(.r10, -8, 9), .load64(.r1, .r1, 112), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, 8),
        .call(.probeWriteUser), .mov64(.r0, 0), .exit,
    ]
    private static let override: [Statement] = [.mov64(.r2, 5), .call(.overrideReturn), .mov64(.r0, 0), .exit]

    private static func signal(_ helper: Helper) -> [Statement] {
        [.mov64(.r1, Int64(SIGUSR1)), .call(helper), .mov64(.r0, 0), .exit]
    }

    static let cases = [
        Case(
            testDescription: "nothing",
            program: [.mov64(.r0, 0), .exit],
            output: "sum=7000 word=7 runs=1000 handled=0\n"
        ),
        Case(
            testDescription: "signal",
            program: signal(.sendSignal),
            output: "sum=7000 word=7 runs=1000 handled=1000\n"
        ),
        Case(
            testDescription: "signal to the thread",
            program: signal(.sendSignalThread),
            output: "sum=7000 word=7 runs=1000 handled=1000\n"
        ),
        Case(
            testDescription: "write",
            program: write,
            flags: CSESSION_ALLOW_WRITE,
            output: "sum=9000 word=9 runs=1000 handled=0\n"
        ),
        Case(
            testDescription: "write that nobody allowed",
            program: write,
            output: "sum=7000 word=7 runs=1000 handled=0\n",
            traps: 1000
        ),
        Case(
            testDescription: "override",
            program: override,
            flags: CSESSION_ALLOW_OVERRIDE,
            output: "sum=5000 word=7 runs=0 handled=0\n"
        ),
        Case(
            testDescription: "override that nobody allowed",
            program: override,
            output: "sum=7000 word=7 runs=1000 handled=0\n",
            traps: 1000
        ),
    ]

    @Test(arguments: cases) func atTheEntry(_ it: Case) throws {
        let fixture = try #require(Fixture.helpers, "gcc is needed")
        let probed = try runProbed(
            [fixture],
            [Probe(symbol: "answer", returns: false)],
            program: Assembly(it.program).instructions,
            flags: it.flags.rawValue
        )
        #expect(probed.output == it.output)
        #expect(probed.status == 0)
        #expect(probed.entries["answer"]?.hits == 1000)
        #expect(probed.entries["answer"]?.traps == UInt64(it.traps))
    }

    /// The same program at the function's return, too, where it overrides nothing more.
    @Test func overridesWithReturnProbe() throws {
        let fixture = try #require(Fixture.helpers, "gcc is needed")
        let probed = try runProbed(
            [fixture],
            [Probe(symbol: "answer")],
            program: Assembly(Self.override).instructions,
            flags: CSESSION_ALLOW_OVERRIDE.rawValue
        )
        #expect(probed.output == "sum=5000 word=7 runs=0 handled=0\n")
        #expect(probed.entries["answer"]?.hits == 1000 && probed.returns["answer"]?.hits == 1000)
        #expect(probed.returns["answer"]?.missed == 0)
    }
}
