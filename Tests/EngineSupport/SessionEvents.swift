internal import ISA
internal import UBPFVM

extension SessionComparison {
    /// What the programs of a session are for; each happens in runs, it is not enough that an instruction is there.
    package enum Event: CaseIterable {
        /// Calls that did what they are called for.
        case update, delete, probeRead, callThroughRegister
        /// Callbacks that ran, that ended their loop, that ran below another callback.
        case loop, loopStops, forEach, nestedCallback
        case tailCallIsTaken, tailCallInCallback, tailCallGoesOn, tailCallsEnd
        /// Seen in what a run left.
        case arrayIsWritten, hashIsFilled, hashIsFull
        case callDepth
    }
}

/// Counts what happens while programs run.
final class EventCounter: ExecutionObserver {
    private(set) var seen: [SessionComparison.Event: Int] = [:]
    private let programs: [[Instruction]]
    /// Calls that have not come back, the innermost last.
    private var calls: [(frame: UInt64, program: Int, instruction: Int)] = []

    init(_ programs: [[Instruction]]) { self.programs = programs }

    func count(_ event: SessionComparison.Event) { seen[event, default: 0] += 1 }

    /// The program of each frame, the innermost last: a step names the one that was gone over to last, maybe in a callback that is over.
    private var frames: [(address: UInt64, program: Int)] = []

    func beginRun() {
        calls = []
        frames = []
    }

    func willExecute(_ step: ExecutionStep) -> Bool {
        let frame = step.registers[10]
        while let last = frames.last, last.address < frame { frames.removeLast() }
        if frames.last?.address != frame { frames.append((frame, frames.last?.program ?? 0)) }
        while let call = calls.last, call.frame <= frame {
            calls.removeLast()
            if call.frame == frame { ended(call, step) }
        }
        let program = frames[frames.count - 1].program
        switch programs[program][step.instruction].opcode.shape {
        case .call: calls.append((frame, program, step.instruction))
        // The next round of a callback begins in its first program again.
        case .exit: frames.removeLast()
        default: break
        }
        return true
    }

    /// What a call came to, from the first instruction after it.
    private func ended(_ call: (frame: UInt64, program: Int, instruction: Int), _ step: ExecutionStep) {
        let instruction = programs[call.program][call.instruction]
        let result = Int64(bitPattern: step.registers[0])
        let isBelow = calls.contains { [164, 181].contains(programs[$0.program][$0.instruction].imm) }
        switch (instruction.opcode, instruction.imm) {
        case (.callHelper, 2): if result == 0 { count(.update) }
        case (.callHelper, 3): if result == 0 { count(.delete) }
        case (.callHelper, 4), (.callHelper, 113): if result == 0 { count(.probeRead) }
        case (.callHelper, 12):
            if step.instruction == 0 {
                frames[frames.count - 1].program = step.program
                count(.tailCallIsTaken)
                if isBelow { count(.tailCallInCallback) }
            } else {
                count(.tailCallGoesOn)
            }
        case (.callHelper, 164), (.callHelper, 181):
            guard result > 0 else { return }
            count(instruction.imm == 164 ? .forEach : .loop)
            if isBelow { count(.nestedCallback) }
            // Where the program keeps how many rounds it wanted.
            if instruction.imm == 181, step.registers[0] < step.registers[9] { count(.loopStops) }
        case (.callRegister, _): count(.callThroughRegister)
        default: break
        }
    }
}
