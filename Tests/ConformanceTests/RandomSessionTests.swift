import EngineSupport
import Testing

/// Random programs with maps, callbacks and tail calls, on the interpreter and both kinds of code.
@Suite struct RandomSessionTests {
    static let starts: [UInt64] = (0..<8).map { $0 * 30 + 1 }

    @Test(arguments: starts)
    func compiledCodeFollowsTheInterpreter(_ start: UInt64) throws {
        for seed in start..<start + 30 {
            let difference = try SessionComparison.difference(seed: seed)
            #expect(difference == nil, "seed \(seed)")
        }
    }

    /// The programs do what they are for: elements come and go, callbacks run and stop, tail calls are taken and refused.
    @Test func everythingHappens() throws {
        let seen = try SessionComparison.coverage(seeds: 1...100)
        for event in SessionComparison.Event.allCases { #expect(seen[event, default: 0] > 2, "\(event)") }
    }
}
