import ISA

/// What a caller has to know of a function.
struct Summary {
    /// Argument registers that it reads on some path before it writes them.
    var needs = RegisterSet.none
    /// Whether every path to its exit writes r0.
    var setsResult = true
}

/// Follows every path through a function until nothing new is learnt, and checks each instruction in its final state.
///
/// States only lose knowledge where paths meet, so this ends: a register changes at most four times per instruction.
func analyze(_ layout: Layout, function: Int, callees: [Summary]) throws(VerifierError) -> Summary {
    var flow = Dataflow(layout: layout, function: function, callees: callees)
    flow.run()
    return try flow.check()
}

private struct Dataflow {
    let layout: Layout
    let callees: [Summary]
    let range: Range<Int>
    let isMain: Bool
    /// State in front of each instruction of the function; nil where no path was found yet.
    var states: [Registers?]

    init(layout: Layout, function: Int, callees: [Summary]) {
        self.layout = layout
        self.callees = callees
        range = layout.range(function)
        isMain = function == 0
        states = Array(repeating: nil, count: range.count)
        var entry = Registers(.none)
        entry[.framePointer] = .frame(0)
        if isMain {
            entry[.r1] = .any
        } else {
            for register in [Register.r1, .r2, .r3, .r4, .r5] { entry[register] = .incoming }
        }
        states[0] = entry
    }

    mutating func run() {
        var work = [range.lowerBound]
        while let start = work.popLast() {
            var index = start
            while let before = states[index - range.lowerBound] {
                let after = transfer(index, before)
                var next: Int?
                switch layout.instructions[index].flow {
                case .exit: break
                case .next, .call, .reference: next = index + 1
                case .jump(let slots, _):
                    let target = layout.target(of: index, slots: slots)
                    let isTaken = branch(index, before)
                    if isTaken != false, meet(target, after) { work.append(target) }
                    if isTaken != true { next = index + 1 }
                }
                guard let next, meet(next, after) else { break }
                index = next
            }
        }
    }

    /// Brings a state to an instruction; true if it has to be looked at (again).
    private mutating func meet(_ index: Int, _ state: Registers) -> Bool {
        let at = index - range.lowerBound
        guard states[at] != nil else {
            states[at] = state
            return true
        }
        return states[at]?.join(state) ?? false
    }

    /// Whether the jump at `index` is taken; nil for both.
    private func branch(_ index: Int, _ before: Registers) -> Bool? {
        let instruction = layout.instructions[index]
        return switch instruction.opcode.shape {
        case .jump: true
        case .conditionalJump(let comparison, let width, let operand):
            decide(comparison, width, before[instruction.dst], value(of: operand, instruction, before))
        default: nil
        }
    }

    private func value(of operand: Operand, _ instruction: Instruction, _ before: Registers) -> Value {
        switch operand {
        case .imm: .constant(instruction.imm)
        case .reg: before[instruction.src]
        }
    }

    private func transfer(_ index: Int, _ before: Registers) -> Registers {
        let instruction = layout.instructions[index]
        var after = before
        for register in Register.allCases {
            if instruction.clobbers.contains(register) { after[register] = .none }
            if instruction.writes.contains(register) { after[register] = .any }
        }
        switch instruction.opcode.shape {
        case .arithmetic(let op, let width, let operand):
            after[instruction.dst] = fold(
                op,
                width,
                before[instruction.dst],
                value(of: operand, instruction, before)
            )
        case .wide(.value): after[instruction.dst] = .constant(instruction.imm)
        case .call(.local):
            let callee = callees[layout.callee(of: index, slots: Int(instruction.imm))]
            if !callee.setsResult { after[.r0] = .none }
        default: break
        }
        return after
    }

    /// Checks every reached instruction; in order, so that the first wrong one is reported.
    func check() throws(VerifierError) -> Summary {
        var summary = Summary()
        for index in range {
            guard let before = states[index - range.lowerBound] else { continue }
            let instruction = layout.instructions[index]
            if instruction.writes.contains(.framePointer) { throw layout.error(.framePointerWritten, at: index) }
            var needed = try support(of: instruction, at: index)
            if case .exit = instruction.flow {
                if !isMain {
                    needed = .none
                    if before[.r0] == .none { summary.setsResult = false }
                }
            }
            for register in Register.allCases where needed.contains(register) {
                switch before[register] {
                case .none: throw layout.error(.uninitialized(register), at: index)
                case .incoming: summary.needs = summary.needs.union(RegisterSet(register))
                case .any, .constant, .frame: break
                }
            }
            try checkStack(instruction, before, at: index)
        }
        return summary
    }

    /// The registers that an instruction needs; refuses those that cannot run here.
    private func support(of instruction: Instruction, at index: Int) throws(VerifierError) -> RegisterSet {
        switch instruction.opcode.shape {
        case .packet: throw layout.error(.unsupported(.packetAccess), at: index)
        case .wide(.variable): throw layout.error(.unsupported(.kernelVariable), at: index)
        case .wide(.mapByIndex), .wide(.mapValueByIndex):
            throw layout.error(.unsupported(.descriptorArray), at: index)
        case .call(.kernelFunction): throw layout.error(.unsupported(.kernelFunction), at: index)
        case .call(.register): throw layout.error(.unsupported(.indirectCall), at: index)
        case .call(.local): return callees[layout.callee(of: index, slots: Int(instruction.imm))].needs
        case .call(.helper):
            if instruction.imm == poisonedCall { throw layout.error(.unresolvedRelocation, at: index) }
            guard let number = UInt32(exactly: instruction.imm), let helper = Helper(rawValue: number) else {
                throw layout.error(.unknownHelper(instruction.imm), at: index)
            }
            switch helper.support {
            case .refused(let refusal): throw layout.error(.refusedHelper(helper, refusal), at: index)
            case .implemented:
                let count = HelperPrototype.of(helper)?.count ?? 5
                return RegisterSet(bits: (1 << UInt16(count + 1)) - 2)
            }
        default: return instruction.reads
        }
    }

    /// Accesses through the frame pointer plus a constant must stay inside the frame.
    private func checkStack(
        _ instruction: Instruction,
        _ before: Registers,
        at index: Int
    ) throws(VerifierError) {
        let base: Register
        let size: Size
        switch instruction.opcode.shape {
        case .load(let bytes, _), .atomic(.loadAcquire, let bytes): (base, size) = (instruction.src, bytes)
        case .store(let bytes, _), .atomic(_, let bytes): (base, size) = (instruction.dst, bytes)
        default: return
        }
        guard case .frame(let start) = before[base] else { return }
        let offset = start + Int64(instruction.offset)
        if offset < Int64(-frameSize) || offset + Int64(size.bytes) > 0 {
            throw layout.error(.stackOutOfBounds(offset: offset, size: size.bytes), at: index)
        }
    }
}
