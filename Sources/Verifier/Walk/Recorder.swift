import ISA

/// Keeps the states of a walk, so that runs of the program can be compared with them.
///
/// A register, stack slot or frame of a run that no recorded state allows is a mistake of the verifier. After a walk with
/// pruning only what `NeedsAnalysis` calls live and relevant is compared: the rest of a path that was pruned was never seen.
package final class Recorder {
    /// With the needs of that time: what the walk learns later matters to later states only.
    private var states: [[(state: State, needs: [Needs])]] = []
    private var isFull: [Bool] = []
    /// Every register and slot is compared.
    private var isExact = false
    private let limit: Int

    /// - Parameter limit: states kept for an instruction; nothing is said of instructions with more.
    package init(limit: Int = 512) { self.limit = limit }

    func begin(_ walk: borrowing Walk) {
        let count = walk.layout.instructions.count
        states = Array(repeating: [], count: count)
        isFull = Array(repeating: false, count: count)
        isExact =
            !walk.subject.prunes
            && !walk.layout.instructions.contains(where: hasRounds)
    }

    func add(_ state: State, _ needs: [Needs], at pc: Int) {
        if states[pc].count < limit { states[pc].append((state, needs)) } else { isFull[pc] = true }
    }

    /// What no state at an instruction allows of a run that is about to execute it; nil where one allows it all.
    package func mismatch(at pc: Int, _ machine: Machine) -> String? {
        guard states.indices.contains(pc), !isFull[pc] else { return nil }
        var nearest: Difference?
        for (state, needs) in states[pc].reversed() {
            guard let difference = difference(state, needs, machine, at: pc) else { return nil }
            if nearest.map({ $0.progress < difference.progress }) ?? true { nearest = difference }
        }
        guard let nearest else { return "the verifier never came here" }
        return "\(nearest.text) (\(states[pc].count) states)"
    }

    /// The first thing of a run that a state does not allow.
    private struct Difference {
        /// How far the comparison came.
        var progress: Int
        var frame = 0
        var place = Place.frames
        var value: UInt64 = 0

        enum Place {
            case frames
            case register(Int, RegisterState)
            case slot(Int, StackSlot)
        }

        var text: String {
            switch place {
            case .frames: "frame \(frame) was not called so"
            case .register(let register, let known): "r\(register) of frame \(frame) is \(value), not \(known)"
            case .slot(let index, let known): "r10-\(8 * (index + 1)) of frame \(frame) is \(value), not \(known)"
            }
        }
    }

    private func difference(_ state: State, _ needs: [Needs], _ machine: Machine, at pc: Int) -> Difference? {
        guard state.frames.count == machine.frames.count else { return Difference(progress: 0) }
        var progress = 1
        for (depth, frame) in machine.frames.enumerated() {
            let known = state.frames[depth]
            if depth > 0, known.callSite != frame.callSite || known.isCallback != frame.isCallback {
                return Difference(progress: progress, frame: depth)
            }
            let isTop = depth == machine.frames.count - 1
            let next = isTop ? pc : machine.frames[depth + 1].returnPoint
            let saved: UInt16 = isTop || machine.frames[depth + 1].isCallback ? 0x3ff : 0b11_1100_0000
            for register in 0..<10 where saved >> UInt16(register) & 1 != 0 {
                progress += 1
                // Where a pointer points to that nothing uses depends on numbers that are not relevant either.
                guard isExact || (needs[next].isLive(register) && needs[next].isRelevant(register)) else { continue }
                let (value, allowed) = (frame.registers[register], known.registers[register])
                if !machine.allows(allowed, value) {
                    return Difference(
                        progress: progress,
                        frame: depth,
                        place: .register(register, allowed),
                        value: value
                    )
                }
            }
            guard isExact else { continue }
            for (index, slot) in known.stack.enumerated() {
                let value = machine.word(frame.registers[10] &- 8 &* UInt64(index + 1))
                if !machine.allows(slot, value) {
                    return Difference(progress: progress, frame: depth, place: .slot(index, slot), value: value)
                }
            }
        }
        return nil
    }
}

/// A run between two instructions, as an interpreter shows it.
package struct Machine {
    package struct Frame {
        package var callSite: Int
        package var isCallback: Bool
        /// r0 to r10; of callers, what they held when they called.
        package var registers: [UInt64]

        package init(callSite: Int, isCallback: Bool, registers: [UInt64]) {
            self.callSite = callSite
            self.isCallback = isCallback
            self.registers = registers
        }

        fileprivate var returnPoint: Int { isCallback ? callSite : callSite + 1 }
    }

    /// The program's own first.
    package var frames: [Frame]
    package var context: UInt64
    /// Reads 8 bytes of the stack.
    package var word: (UInt64) -> UInt64
    /// Where a map's values start.
    package var values: (Int) -> [UInt64]

    package init(
        frames: [Frame],
        context: UInt64,
        word: @escaping (UInt64) -> UInt64,
        values: @escaping (Int) -> [UInt64]
    ) {
        self.frames = frames
        self.context = context
        self.word = word
        self.values = values
    }

    /// Whether a register may hold this.
    fileprivate func allows(_ known: RegisterState, _ value: UInt64) -> Bool {
        if known.isNullable, value == 0 { return true }
        let fixed = UInt64(bitPattern: Int64(known.offset))
        switch known.kind {
        case .none: return true
        case .scalar: return known.scalar.contains(value)
        case .context: return known.scalar.contains(value &- context &- fixed)
        case .stack:
            guard frames.indices.contains(Int(known.frame)) else { return false }
            return known.scalar.contains(value &- frames[Int(known.frame)].registers[10] &- fixed)
        case .mapValue: return values(Int(known.map)).contains { known.scalar.contains(value &- $0 &- fixed) }
        // Handles, and memory whose place nobody told.
        case .map, .mapKey, .packet, .packetMeta, .packetEnd, .memory, .function, .object, .dynptr, .iterator:
            return value != 0
        }
    }

    /// Whether eight bytes of the stack may be these.
    fileprivate func allows(_ slot: StackSlot, _ value: UInt64) -> Bool {
        for byte in 0..<8 where slot[byte] == .zero && value >> UInt64(8 * byte) & 0xff != 0 { return false }
        let size = slot.spilledSize
        guard size > 0 else { return true }
        return allows(slot.spilled, size == 8 ? value : value & ((1 << UInt64(8 * size)) - 1))
    }
}
