internal import ISA
internal import Runtime
internal import UBPFVM
internal import Verifier

/// Watches a run of an accepted program: every access must lie inside one object, every register where the verifier
/// says that it may be, nothing may stay taken, and nothing may come back exactly as it was.
final class SoundnessObserver: ExecutionObserver {
    private let verified: VerifiedCase
    private var program: [Instruction] { verified.instructions }
    private let recorders: [Recorder]
    private let view: SessionView
    private let fixture: SessionFixture
    private let context: UInt64
    private var frames: [Called] = []
    private var last = 0
    /// Steps in a program that was gone over to.
    private var elsewhere = 0
    /// Where values start; those of elements that were deleted stay, as pointers to them do.
    private var values: [[UInt64]]
    /// Ring records that were not given back.
    private var records: [Range<UInt64>] = []
    private var reserved: UInt64 = 0
    private let starts, globalStarts: Set<Int>
    private let packet: Range<UInt64>
    private var steps = 0
    private var kept: Snapshot?
    private let isRepeatable: Bool

    /// A frame of the run.
    private struct Called {
        var frame: Machine.Frame
        /// Passes of its `may_goto`.
        var rounds = 0
        /// Bytes of it that were used.
        var size: UInt64 = 1
        /// A global function, whose states start with it.
        var isGlobal = false
        /// Keys and values that a callback was given.
        var given: [Range<UInt64>] = []
    }

    /// A run at some step, for comparing.
    private struct Snapshot {
        var instruction: Int
        var registers: [[UInt64]]
        var rounds: [Int]
        var memory: [UInt64]
    }

    init(_ program: VerifiedCase, _ recorders: [Recorder], _ fixture: SessionFixture, _ view: SessionView) {
        verified = program
        self.recorders = recorders
        self.view = view
        self.fixture = fixture
        context = fixture.contextAddress
        packet = fixture.packet
        values = VerifiedMap.allCases.map { _ in [] }
        let starts = VerifiedSession.functionStarts(program.instructions)
        self.starts = Set(starts)
        globalStarts = Set(program.contracts.keys.compactMap { starts.indices.contains($0) ? starts[$0] : nil })
        // What helpers remember is not seen.
        isRepeatable = program.instructions.allSatisfy { instruction in
            instruction.opcode != .callHelper || [1, 16, 164, 181].contains(instruction.imm)
        }
        VerifiedSession.lastFault = nil
        findValues()
    }

    /// What is wrong at the end of a run.
    var endFault: String? { records.isEmpty ? nil : "a ring record was not given back" }

    private func findValues() {
        for map in VerifiedMap.allCases where map.hasValues {
            let here = MapView(view, Int(map.index))
            for slot in 0..<(map == .cpus ? view.cpuCount : 1) {
                var cursor = MapCursor()
                while cursor.advance(here, slot: slot) {
                    guard let value = cursor.value else { continue }
                    let address = UInt64(UInt(bitPattern: value))
                    if !values[Int(map.index)].contains(address) { values[Int(map.index)].append(address) }
                }
            }
        }
    }

    func willExecute(_ step: ExecutionStep) -> Bool {
        if elsewhere > 0 {
            elsewhere -= 1
            return true
        }
        let before = program[last]
        if before.opcode == .callHelper {
            if before.imm == 12, step.instruction == 0 {
                // The other program has two instructions.
                elsewhere = 1
                return true
            }
            if [1, 2, 3].contains(before.imm) { findValues() }
            if before.imm == 131, step.registers[0] != 0 {
                records.append(step.registers[0]..<step.registers[0] + reserved)
            }
        }
        update(step)
        last = step.instruction
        var fault = accessFault(step) ?? depthFault() ?? repetition(step)
        if !recorders.isEmpty, fault == nil {
            let root = frames.lastIndex { $0.isGlobal } ?? 0
            let machine = Machine(
                frames: frames[root...].map(\.frame),
                context: context,
                word: { UnsafePointer<UInt64>(bitPattern: UInt($0))?.pointee ?? 0 },
                values: { self.values[$0] }
            )
            for recorder in recorders where fault == nil { fault = recorder.mismatch(at: step.instruction, machine) }
        }
        if let fault {
            VerifiedSession.lastFault =
                "instruction \(step.instruction) (\(Disassembler().text(program[step.instruction]))): \(fault)"
        }
        note(step)
        return fault == nil
    }

    /// Frames by what r10 is: a callee's is lower.
    private func update(_ step: ExecutionStep) {
        while frames.count > 1, frames[frames.count - 1].frame.registers[10] < step.registers[10] {
            frames.removeLast()
        }
        if frames.isEmpty || frames[frames.count - 1].frame.registers[10] > step.registers[10] {
            let isCallback = program[last].opcode == .callHelper
            var called = Called(
                frame: Machine.Frame(
                    callSite: frames.isEmpty ? -1 : last,
                    isCallback: isCallback,
                    registers: step.registers
                )
            )
            called.isGlobal = !frames.isEmpty && !isCallback && globalStarts.contains(step.instruction)
            frames.append(called)
        }
        let top = frames.count - 1
        // Each round of a callback has another key.
        if frames[top].frame.isCallback, program[frames[top].frame.callSite].imm == 164,
            starts.contains(step.instruction)
        {
            let (key, value) = (step.registers[2], step.registers[3])
            frames[top].given = [key..<key &+ 4, value..<value &+ UInt64(VerifiedMap.array.valueSize)]
        }
        frames[top].frame.registers = step.registers
    }

    /// What the instruction does that is asked for later.
    private func note(_ step: ExecutionStep) {
        let instruction = program[step.instruction]
        if instruction.opcode == .mayGoto { frames[frames.count - 1].rounds += 1 }
        guard instruction.opcode == .callHelper else { return }
        if instruction.imm == 131 { reserved = step.registers[2] }
        if instruction.imm == 132 || instruction.imm == 133 {
            records.removeAll { $0.lowerBound == step.registers[1] }
        }
    }

    // MARK: - Faults

    /// What an instruction reads or writes must lie inside one frame, one value, or the context.
    private func accessFault(_ step: ExecutionStep) -> String? {
        let instruction = program[step.instruction]
        let (base, bytes): (Register, Int)
        switch instruction.opcode.shape {
        case .load(let size, _): (base, bytes) = (instruction.src, size.bytes)
        case .atomic(.loadAcquire, let size): (base, bytes) = (instruction.src, size.bytes)
        case .store(let size, _), .atomic(_, let size): (base, bytes) = (instruction.dst, size.bytes)
        case .call(.helper), .call(.kernelFunction): return helperFault(step, instruction)
        default: return nil
        }
        let start = step.registers[Int(base.rawValue)] &+ UInt64(bitPattern: Int64(instruction.offset))
        return isInside(start, bytes) ? nil : "accesses \(bytes) bytes that lie in no object of the program"
    }

    private func isInside(_ start: UInt64, _ bytes: Int) -> Bool {
        let end = start &+ UInt64(bytes)
        if end < start { return false }
        for index in frames.indices {
            let top = frames[index].frame.registers[10]
            if start >= top - 512, end <= top {
                frames[index].size = max(frames[index].size, top - start)
                return true
            }
            if frames[index].given.contains(where: { start >= $0.lowerBound && end <= $0.upperBound }) { return true }
        }
        if start >= context, end <= context + UInt64(fixture.contextSize) { return true }
        if start >= packet.lowerBound, end <= packet.upperBound { return true }
        if records.contains(where: { start >= $0.lowerBound && end <= $0.upperBound }) { return true }
        return VerifiedMap.allCases.contains { map in
            values[Int(map.index)].contains { start >= $0 && end <= $0 + UInt64(map.valueSize) }
        }
    }

    /// Keys, values and buffers of helpers, where the map is the one that was loaded just before.
    private func helperFault(_ step: ExecutionStep, _ instruction: Instruction) -> String? {
        let registers = step.registers
        var areas: [(UInt64, Int)] = []
        switch instruction.imm {
        case 1, 2, 3, 87, 88, 89, 195:
            let load = program[..<step.instruction].suffix(3).last { $0.opcode == .loadMap && $0.dst == .r1 }
            guard let map = load.flatMap({ VerifiedMap(rawValue: $0.imm) }) else { return nil }
            // Maps without keys have values in the key's place.
            areas.append((registers[2], (87...89).contains(instruction.imm) ? map.valueSize : map.keySize))
            if instruction.imm == 2 { areas.append((registers[3], map.valueSize)) }
        case 16: areas.append((registers[1], Int(truncatingIfNeeded: registers[2])))
        case 212, 213, 214: areas.append((registers[1], 8))
        case 132, 133:
            if !records.contains(where: { $0.lowerBound == registers[1] }) { return "gives back what is no record" }
        default: return nil
        }
        for (start, bytes) in areas where bytes > 0 && !isInside(start, bytes) {
            return "gives a helper \(bytes) bytes that lie in no object of the program"
        }
        return nil
    }

    /// The frames of nested calls together must fit into one.
    private func depthFault() -> String? {
        guard frames.count > 1 else { return nil }
        let total = frames.reduce(UInt64(0)) { $0 + ($1.size + 15) / 16 * 16 }
        return total > 512 ? "nested calls use \(total) bytes of stack" : nil
    }

    /// A run that is again as it was, memory and counters included, never ends.
    private func repetition(_ step: ExecutionStep) -> String? {
        steps += 1
        guard isRepeatable, steps >= 2048, !frames.contains(where: \.frame.isCallback) else { return nil }
        if let kept, kept.instruction == step.instruction, kept.registers.count == frames.count,
            zip(kept.registers, frames).allSatisfy({ $0 == $1.frame.registers }),
            zip(kept.rounds, frames).allSatisfy({ $0 == $1.rounds }), kept.memory == memory
        {
            return "the run is as it was some steps ago, and never ends"
        }
        // Far apart, so that a long circle is found too.
        if kept == nil || steps & (steps - 1) == 0 {
            kept = Snapshot(
                instruction: step.instruction,
                registers: frames.map(\.frame.registers),
                rounds: frames.map(\.rounds),
                memory: memory
            )
        }
        return nil
    }

    private var memory: [UInt64] {
        var words: [UInt64] = []
        let low = frames[frames.count - 1].frame.registers[10] - 512
        for address in stride(from: low, to: frames[0].frame.registers[10], by: 8) {
            words.append(UnsafePointer<UInt64>(bitPattern: UInt(address))?.pointee ?? 0)
        }
        for map in VerifiedMap.allCases {
            for value in values[Int(map.index)] {
                for word in 0..<map.valueSize / 8 {
                    words.append(UnsafePointer<UInt64>(bitPattern: UInt(value) + UInt(8 * word))?.pointee ?? 0)
                }
            }
        }
        return words
    }
}
