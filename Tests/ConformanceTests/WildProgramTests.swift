import EngineSupport
import Runtime
import Testing

/// Programs that no verifier would accept: the interpreter and checked code end them in the same way and are not harmed.
@Suite struct WildProgramTests {
    static let starts: [UInt64] = (0..<10).map { UInt64($0) * 300 + 1 }

    @Test(arguments: starts)
    func checkedCodeEndsAsTheInterpreterDoes(_ start: UInt64) throws {
        for seed in start..<start + 300 {
            let comparison = try compareWild(seed: seed)
            #expect(comparison.difference == nil, "seed \(seed)")
        }
    }

    /// Registers that nobody wrote say nothing of the process.
    @Test(arguments: starts)
    func undefinedRegistersSayNothing(_ start: UInt64) throws {
        for seed in start..<start + 100 {
            let difference = try compareUndefined(seed: seed)
            #expect(difference == nil, "seed \(seed)")
        }
    }

    /// The programs meet every kind of trap that they can, and some reach their end.
    @Test func allEndingsOccur() throws {
        var endings: [TrapKind: Int] = [:]
        for seed in UInt64(1)...3000 { endings[try compareWild(seed: seed).ending, default: 0] += 1 }
        for kind in [TrapKind.none, .badRead, .badWrite, .misaligned, .budget, .callDepth, .unknownHelper, .badJump] {
            #expect(endings[kind, default: 0] > 2, "\(kind)")
        }
    }
}
