import CRuntime
import ISA
import Runtime
import Testing

@testable import UBPFVM

/// Watching a run changes nothing about it, and sees every instruction once.
@Suite struct ObserverTests {
    /// Sums 1 to 5 in a function that is called twice.
    static let statements: [Statement] = [
        .mov64(.r1, 5), .call("sum"), .mov64(.r6, .r0), .mov64(.r1, 2), .call("sum"), .add64(.r0, .r6), .exit,
        .function("sum"), .mov64(.r0, 0), .label("loop"), .add64(.r0, .r1), .sub64(.r1, 1),
        .jumpNotEqual(.r1, 0, to: "loop"), .exit,
    ]

    private func linked() throws -> [LinkedInstruction] {
        try link(Assembly(Self.statements).instructions, mapCount: 0) { _, _ in nil }
    }

    /// Keeps every step; ends the run at the step whose number is given.
    final class Recorder: ExecutionObserver {
        var steps: [ExecutionStep] = []
        var end = Int.max

        func willExecute(_ step: ExecutionStep) -> Bool {
            steps.append(step)
            return steps.count < end
        }
    }

    @Test func stepsAreSeenInOrderWithRegisters() throws {
        let program = try linked()
        var runner = ProgramRunner()
        let recorder = Recorder()
        #expect(try runner.run(program, observer: recorder) == 18)
        let watched = runner.executed
        #expect(
            recorder.steps.map(\.instruction) == [0, 1, 7] + [8, 9, 10, 8, 9, 10, 8, 9, 10, 8, 9, 10, 8, 9, 10] + [
                11, 2, 3, 4, 7, 8, 9, 10, 8, 9, 10, 11, 5, 6,
            ]
        )
        #expect(recorder.steps[1].registers[1] == 5)
        #expect(recorder.steps.last?.registers[0] == 18)
        #expect(try runner.run(program) == 18)
        #expect(runner.executed == watched)
        #expect(recorder.steps.count == Int(watched))
    }

    @Test func coverageCountsInstructionsAndBranches() throws {
        let program = try linked()
        var runner = ProgramRunner()
        let coverage = Coverage(program)
        _ = try runner.run(program, observer: coverage)
        #expect(coverage.counts == [1, 1, 1, 1, 1, 1, 1, 2, 7, 7, 7, 2])
        #expect(coverage.taken[10] == 5)
        #expect(coverage.partialBranches == [])
    }

    @Test func anObserverEndsARun() throws {
        let program = try linked()
        var runner = ProgramRunner()
        let recorder = Recorder()
        recorder.end = 4
        #expect(throws: Trap(.stopped, instruction: 8, value: 0)) { try runner.run(program, observer: recorder) }
        #expect(recorder.steps.count == 4)
        // The next run is not watched.
        #expect(try runner.run(program) == 18)
        #expect(recorder.steps.count == 4)
    }

    @Test func theBudgetHoldsUnderObservation() throws {
        let program = try linked()
        for budget in UInt64(1)...32 {
            var runner = ProgramRunner()
            runner.budget = budget
            let plain = Result { () throws(Trap) in try runner.run(program) }
            let watched = Result { () throws(Trap) in try runner.run(program, observer: Recorder()) }
            #expect(plain == watched, "\(budget)")
        }
    }
}
