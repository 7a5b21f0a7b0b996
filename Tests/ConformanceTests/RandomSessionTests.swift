import EngineSupport
import Glibc
import Kernel
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

    /// Maps only: callbacks and tail calls would need more than instructions there.
    @Test(.enabled(if: geteuid() == 0, "the kernel runs programs for root only"), arguments: starts)
    func interpreterFollowsTheKernel(_ start: UInt64) throws {
        var accepted = 0
        for seed in start..<start + 30 {
            do {
                let difference = try SessionComparison.kernelDifference(seed: seed)
                #expect(difference == nil, "seed \(seed)")
                accepted += 1
            } catch let rejection as KernelError {
                // E2BIG: too many paths for the verifier.
                #expect(rejection.errno == 7, "seed \(seed): errno \(rejection.errno) \(rejection.log)")
            }
        }
        #expect(accepted >= 27)
    }

    /// The programs do what they are for: elements come and go, callbacks run and stop, tail calls are taken and refused.
    @Test func everythingHappens() throws {
        let seen = try SessionComparison.coverage(seeds: 1...200)
        for event in SessionComparison.Event.allCases { #expect(seen[event, default: 0] > 2, "\(event)") }
    }
}
