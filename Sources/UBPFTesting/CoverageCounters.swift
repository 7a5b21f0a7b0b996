import CRuntime
import ISA

/// Counters that an interpreted run leaves behind: executions of each instruction, and jumps taken.
@safe
final class CoverageCounters {
    /// The programs of a session, in its order.
    private let programs: [[LinkedInstruction]]
    private let starts: [Int]
    private let counts: UnsafeMutablePointer<UInt64>
    private let taken: UnsafeMutablePointer<UInt64>
    private let total: Int
    /// The conditional jump that was executed last, as an index of `counts`; -1: none.
    private var lastJump = -1
    private var lastTarget = 0

    init(_ programs: [[LinkedInstruction]]) {
        self.programs = programs
        var starts: [Int] = []
        var total = 0
        for program in programs {
            starts.append(total)
            total += program.count
        }
        self.starts = starts
        self.total = total
        unsafe counts = .allocate(capacity: max(total, 1))
        unsafe taken = .allocate(capacity: max(total, 1))
        unsafe counts.initialize(repeating: 0, count: max(total, 1))
        unsafe taken.initialize(repeating: 0, count: max(total, 1))
    }

    deinit {
        unsafe counts.deallocate()
        unsafe taken.deallocate()
    }

    /// Executions of a program's instructions.
    func counts(_ program: Int) -> [UInt64] {
        unsafe Array(UnsafeBufferPointer(start: counts + starts[program], count: programs[program].count))
    }

    /// How often each conditional jump of a program jumped.
    func taken(_ program: Int) -> [UInt64] {
        unsafe Array(UnsafeBufferPointer(start: taken + starts[program], count: programs[program].count))
    }

    /// An observer for runs; the counters must outlive it.
    func observer() -> cruntime_observer {
        lastJump = -1
        return unsafe cruntime_observer(
            step: { user, context, instruction, _ in
                guard let user = unsafe user else { return 1 }
                let counters = unsafe Unmanaged<CoverageCounters>.fromOpaque(user).takeUnretainedValue()
                counters.step(Int(unsafe context.pointee.program), Int(instruction))
                return 1
            },
            user: Unmanaged.passUnretained(self).toOpaque(),
            budget: 0
        )
    }

    /// Forgets the last jump while something else is counted.
    func pause() -> (jump: Int, target: Int) {
        defer { lastJump = -1 }
        return (lastJump, lastTarget)
    }

    /// Goes on after `pause`.
    func resume(_ last: (jump: Int, target: Int)) { (lastJump, lastTarget) = last }

    /// Counts an instruction.
    func step(_ program: Int, _ instruction: Int) {
        let index = starts[program] + instruction
        if lastJump >= 0, index == lastTarget { unsafe taken[lastJump] += 1 }
        unsafe counts[index] += 1
        let code = programs[program][instruction]
        if case .conditionalJump = code.opcode.shape {
            lastJump = index
            lastTarget = starts[program] + Int(code.target)
        } else {
            lastJump = -1
        }
    }
}
