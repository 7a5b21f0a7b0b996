#if !hasFeature(Embedded)
package import CRuntime
package import ISA

/// What an observer sees before an instruction is executed.
package struct ExecutionStep: Equatable, Sendable {
    /// Index of the program in its session, as tail calls change it; 0 without a session.
    package let program: Int
    /// Index of the instruction in the program.
    package let instruction: Int
    /// r0 to r10.
    package let registers: [UInt64]
    /// Instructions that the run may execute after this one.
    package let budget: UInt64
}

/// Somebody who watches interpreted runs: coverage, traces, steppers.
package protocol ExecutionObserver: AnyObject {
    /// Called before each instruction; false ends the run with a trap of kind `stopped`.
    func willExecute(_ step: ExecutionStep) -> Bool
}

extension ProgramRunner {
    /// Interprets a linked program under the eyes of `observer`; else as `run`.
    package mutating func run(
        _ program: [LinkedInstruction],
        r1: UInt64? = nil,
        r2: UInt64? = nil,
        observer: any ExecutionObserver
    ) throws(Trap) -> UInt64 {
        unsafe try runAny(r1: r1, r2: r2) { context, first, second in
            unsafe withObserver(observer, context) {
                unsafe program.withUnsafeBufferPointer { code -> UInt64 in
                    guard let start = code.baseAddress else { return 0 }
                    return unsafe Interpreter.run(context, start, Int32(code.count), r1: first, r2: second)
                }
            }
        }
    }
}

/// Calls `body` while `observer` watches what is interpreted with `context`.
package func withObserver<Result>(
    _ observer: any ExecutionObserver,
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ body: () -> Result
) -> Result {
    let box = ObserverBox(observer)
    var record = unsafe cruntime_observer(
        step: { user, context, instruction, registers in
            guard let user = unsafe user else { return 1 }
            let box = unsafe Unmanaged<ObserverBox>.fromOpaque(user).takeUnretainedValue()
            let step = unsafe ExecutionStep(
                program: Int(context.pointee.program),
                instruction: Int(instruction),
                registers: Array(UnsafeBufferPointer(start: registers, count: 11)),
                budget: context.pointee.observer?.pointee.budget ?? 0
            )
            return box.observer.willExecute(step) ? 1 : 0
        },
        user: Unmanaged.passUnretained(box).toOpaque(),
        budget: 0
    )
    return withExtendedLifetime(box) {
        unsafe withUnsafeMutablePointer(to: &record) { pointer in
            unsafe context.pointee.observer = unsafe pointer
            defer { unsafe context.pointee.observer = nil }
            let result = body()
            // What is left of the budget is where it is looked for.
            unsafe context.pointee.budget = unsafe pointer.pointee.budget
            return result
        }
    }
}

/// A class for C's pointer to an existential.
private final class ObserverBox {
    let observer: any ExecutionObserver

    init(_ observer: any ExecutionObserver) { self.observer = observer }
}

/// Counts how often each instruction ran and which ways each conditional jump went.
package final class Coverage: ExecutionObserver {
    /// Executions of each instruction.
    package private(set) var counts: [UInt64]
    /// For each conditional jump: how often it jumped.
    package private(set) var taken: [UInt64]
    private let program: [LinkedInstruction]

    package init(_ program: [LinkedInstruction]) {
        self.program = program
        counts = [UInt64](repeating: 0, count: program.count)
        taken = counts
    }

    private var last: Int?

    package func willExecute(_ step: ExecutionStep) -> Bool {
        if let last, case .conditionalJump = program[last].opcode.shape, step.instruction == Int(program[last].target),
            step.instruction != last + 1
        {
            taken[last] += 1
        }
        counts[step.instruction] += 1
        last = step.instruction
        return true
    }

    /// Conditional jumps of which one way was never gone.
    package var partialBranches: [Int] {
        program.indices.filter { index in
            guard case .conditionalJump = program[index].opcode.shape else { return false }
            return counts[index] > 0 && (taken[index] == 0 || taken[index] == counts[index])
        }
    }
}
#endif
