import ISA

/// What the rest of a function may do with what is in the registers and in the stack frame.
///
/// - `live`: it may be read. What is not live is not compared when paths meet.
/// - `relevant`: its number may decide where a path goes or what an access touches. The number of any other scalar changes
///   nothing that the verifier looks at, so paths that differ in such numbers only are one.
struct Needs: Equatable {
    var live: UInt16 = 0
    var relevant: UInt16 = 0
    /// Stack slots whose stored scalars are relevant.
    var slots: UInt64 = 0

    func isLive(_ register: Int) -> Bool { live >> UInt16(register) & 1 != 0 }
    func isRelevant(_ register: Int) -> Bool { relevant >> UInt16(register) & 1 != 0 }

    mutating func formUnion(_ other: Needs) -> Bool {
        let before = self
        live |= other.live
        relevant |= other.relevant
        slots |= other.slots
        return self != before
    }
}

/// Computes the needs in front of every instruction, backwards until nothing changes.
///
/// Numbers that end up in addresses, sizes and conditions are found through arithmetic, moves and the stack. Memory that is
/// reached by another register than r10 may be any slot.
struct NeedsAnalysis {
    private let layout: Layout
    private let returnMatters: Bool
    private(set) var needs: [Needs]
    private var isTarget: [Bool]

    init(_ layout: Layout, order: [Int], returnMatters: Bool) {
        self.layout = layout
        self.returnMatters = returnMatters
        needs = Array(repeating: Needs(), count: layout.instructions.count)
        isTarget = Array(repeating: false, count: layout.instructions.count)
        for index in layout.instructions.indices where layout.isJump[index] {
            isTarget[Int(layout.targets[index])] = true
        }
        // Callees first: a call needs what its callee needs. A callback that recursion of helpers calls is static, too.
        for function in order { analyze(function) }
    }

    private mutating func analyze(_ function: Int) {
        let range = layout.range(function)
        var changed = true
        while changed {
            changed = false
            for index in range.reversed() {
                var after = Needs()
                if layout.goesOn[index] { after = needs[index + 1] }
                let target = Int(layout.targets[index])
                if target >= 0, layout.isJump[index] { _ = after.formUnion(needs[target]) }
                if needs[index].formUnion(before(index, after, function)) { changed = true }
            }
        }
    }

    /// What an instruction needs for the needs behind it.
    private func before(_ index: Int, _ after: Needs, _ function: Int) -> Needs {
        let instruction = layout.instructions[index]
        var result = after
        let kills = instruction.writes.union(instruction.clobbers).bits
        let dst = UInt16(1) << UInt16(instruction.dst.rawValue)
        let src = UInt16(1) << UInt16(instruction.src.rawValue)
        let matters = after.relevant & dst != 0
        result.live &= ~kills
        result.relevant &= ~kills
        result.live |= instruction.reads.bits
        switch instruction.opcode.shape {
        case .arithmetic(let op, _, let operand):
            guard matters else { break }
            if op != .mov { result.relevant |= dst }
            if operand == .reg { result.relevant |= src }
        case .negate, .byteOrder: if matters { result.relevant |= dst }
        case .signExtend: if matters { result.relevant |= src }
        case .wide, .jump, .mayGoto: break
        case .packet(_, let indirect): if indirect { result.relevant |= src }
        case .load(let size, _):
            result.relevant |= src
            if matters { result.slots |= slots(instruction.src, instruction.offset, size) }
        case .store(let size, let operand):
            let written = slots(instruction.dst, instruction.offset, size)
            let mayMatter = after.slots & written != 0
            result.relevant |= dst
            if operand == .reg, mayMatter { result.relevant |= src }
            // Of a slot that is written in part, the rest may be read.
            if instruction.dst == .framePointer, size == .b64, instruction.offset & 7 == 0 { result.slots &= ~written }
        case .atomic(let operation, let size):
            let base = operation == .loadAcquire ? instruction.src : instruction.dst
            let touched = slots(base, instruction.offset, size)
            result.relevant |= operation == .loadAcquire ? src : dst
            if case .storeRelease = operation, after.slots & touched != 0 { result.relevant |= src }
            // What was there goes to a register, r0 for a comparison.
            if after.relevant & kills != 0 { result.slots |= touched }
        case .conditionalJump(_, _, let operand):
            result.relevant |= dst
            if operand == .reg { result.relevant |= src }
        case .call(let kind): call(kind, instruction, index, &result)
        case .exit:
            result.live |= 1
            if function != 0 || returnMatters { result.relevant |= 1 }
        }
        return result
    }

    private func call(_ kind: CallKind, _ instruction: Instruction, _ index: Int, _ result: inout Needs) {
        switch kind {
        case .helper:
            guard let number = UInt32(exactly: instruction.imm), let helper = Helper(rawValue: number),
                let prototype = HelperPrototype.of(helper)
            else {
                result.live |= RegisterSet.arguments.bits
                result.relevant |= RegisterSet.arguments.bits
                return
            }
            for argument in 0..<5 {
                switch prototype.arguments[argument] {
                case .unused: continue
                case .anything: if helper == .loop { result.relevant |= 2 << UInt16(argument) }
                case .map, .mapKey, .mapValue, .mapValueOrNull, .mapValueOut, .memory, .updatedMemory, .fixedMemory,
                    .size,
                    .allocationSize, .ringRecord, .context, .contextOrNull, .constantString, .callback,
                    .callbackContext,
                    .spinLock, .timer, .dynptr, .kernelObject, .constant, .unsupported:
                    result.relevant |= 2 << UInt16(argument)
                }
                result.live |= 2 << UInt16(argument)
            }
            // Callbacks reach the frame through their context.
            if isCallingBack(instruction) { result.slots = .max }
            // Which element a constant key names decides whether it may be missing.
            if helper == .mapLookupElem { result.slots |= keySlots(index) }
        case .local:
            let callee = needs[Int(layout.targets[index])]
            result.live |= callee.live & RegisterSet.arguments.bits
            result.relevant |= callee.relevant & RegisterSet.arguments.bits
            result.slots = .max
        case .kernelFunction, .register:
            result.live |= RegisterSet.arguments.bits
            result.relevant |= RegisterSet.arguments.bits
            result.slots = .max
        }
    }

    /// Slots that hold the key of a lookup: r2, where the instructions before the call make it of r10.
    private func keySlots(_ call: Int) -> UInt64 {
        var offset: Int64 = 0
        var index = call
        while index > layout.functions[Int(layout.owner[call])], !isTarget[index] {
            index -= 1
            let instruction = layout.instructions[index]
            guard layout.goesOn[index], !layout.isJump[index] else { return .max }
            guard instruction.writes.union(instruction.clobbers).contains(.r2) else { continue }
            switch instruction.opcode {
            case .add64Imm where abs(offset) <= 512 && abs(instruction.imm) <= 512: offset += instruction.imm
            case .mov64Reg where instruction.src == .framePointer:
                return Int32(exactly: offset).map { slots(.framePointer, $0, .b32) } ?? .max
            default: return .max
            }
        }
        return .max
    }

    /// Slots that an access touches.
    private func slots(_ base: Register, _ offset: Int32, _ size: Size) -> UInt64 {
        guard base == .framePointer else { return .max }
        let (low, high) = ((-Int(offset) - size.bytes) >> 3, (-Int(offset) - 1) >> 3)
        guard low >= 0, high < 64 else { return .max }
        return 1 << UInt64(low) | 1 << UInt64(high)
    }
}
