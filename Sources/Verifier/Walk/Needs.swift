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
    /// Stored scalars of the frames below are relevant: something may be read through a pointer to one of them.
    var reachesCallers = false

    func isLive(_ register: Int) -> Bool { live >> UInt16(register) & 1 != 0 }
    func isRelevant(_ register: Int) -> Bool { relevant >> UInt16(register) & 1 != 0 }

    /// Numbers stored in these slots are relevant; if any, those of other frames too.
    mutating func read(_ slots: UInt64) {
        self.slots |= slots
        if slots == .max { reachesCallers = true }
    }

    mutating func formUnion(_ other: Needs) -> Bool {
        let before = self
        live |= other.live
        relevant |= other.relevant
        slots |= other.slots
        reachesCallers = reachesCallers || other.reachesCallers
        return self != before
    }
}

/// Computes the needs in front of every instruction, backwards until nothing changes.
///
/// Numbers that end up in addresses and sizes are found through arithmetic, moves and the stack. Some things show only on
/// the way, and the walk tells them to `decide`: comparisons matter only where they decide something, since a jump that was
/// walked both ways is covered whichever way another path takes; few registers but r10 point to the stack; and few sums are
/// pointers. States that were compared before were walked to their ends without, so nothing has to be taken back.
struct NeedsAnalysis {
    private let layout: Layout
    private(set) var needs: [Needs]
    private let isTarget: [Bool]
    /// What is needed of r0 where each function ends.
    private var returned: [Needs]
    private var isDecided: [Bool]
    /// A number is added to a pointer, or subtracted from it.
    private var isMoving: [Bool]
    /// What was not walked yet needs nothing.
    private var isWalked: [Bool]
    /// Registers that the contract of each function speaks of.
    private let contracts: [UInt16]
    /// Programs must not move pointers out of their objects, used or not.
    private let isStrict: Bool
    /// Some helpers take other arguments in some programs.
    private let type: ProgramType
    /// Where jumps to each instruction come from, one list behind the other, and where each list starts.
    private var sources: [Int32] = []
    private var sourceStarts: [Int32] = []
    /// Calls of each function, and its exits.
    private var callSites: [[Int]]
    private var exits: [[Int]]
    /// Instructions to look at again.
    private var work: [Int32] = []
    private var isQueued: [Bool]

    /// - Parameters:
    ///   - decidesAll: every comparison matters.
    ///   - onlyWalked: nothing but what `arrive` was told of needs anything.
    init(_ layout: Layout, _ subject: Subject, returnMatters: Bool, decidesAll: Bool, onlyWalked: Bool = false) {
        self.layout = layout
        let functions = subject.functions
        contracts = functions.map { function in
            ((2 << UInt16(min(5, function.contract?.parameters.count ?? 0))) - 1) & RegisterSet.arguments.bits
        }
        isStrict = subject.strictLeaks
        type = subject.type
        let count = layout.instructions.count
        needs = Array(repeating: Needs(), count: count)
        isDecided = Array(repeating: decidesAll, count: count)
        isMoving = Array(repeating: false, count: count)
        isWalked = Array(repeating: !onlyWalked, count: count)
        isQueued = Array(repeating: true, count: count)
        // A global function must return a number, whichever it is and whoever calls it.
        returned = functions.map { $0.contract == nil ? Needs() : Needs(live: 1) }
        returned[0] = Needs(live: 1, relevant: returnMatters ? 1 : 0)
        callSites = Array(repeating: [], count: functions.count)
        exits = Array(repeating: [], count: functions.count)
        var isTarget = [Bool](repeating: false, count: count)
        for index in 0..<count {
            if layout.isJump[index] { isTarget[Int(layout.targets[index])] = true }
            switch layout.instructions[index].opcode {
            case .loadFunction: returned[layout.callee(of: index)] = Needs(live: 1, relevant: 1)
            case .callLocal: callSites[layout.callee(of: index)].append(index)
            case .exit: exits[Int(layout.owner[index])].append(index)
            default: break
            }
        }
        self.isTarget = isTarget
        findSources()
        work = (0..<Int32(count)).map(\.self)
        run()
    }

    /// From here on, the numbers compared at a jump matter, an access may be one of the stack, a helper looks at the stack.
    mutating func decide(_ index: Int) {
        guard !isDecided[index] else { return }
        isDecided[index] = true
        queue(index)
        run()
    }

    /// From here on, the numbers added at an instruction matter: one of them is a pointer.
    mutating func move(_ index: Int) {
        guard !isMoving[index] else { return }
        isMoving[index] = true
        queue(index)
        run()
    }

    /// The walk has come to an instruction.
    mutating func arrive(_ index: Int) {
        guard !isWalked[index] else { return }
        isWalked[index] = true
        queue(index)
        run()
    }

    private mutating func findSources() {
        let count = layout.instructions.count
        var counts = [Int32](repeating: 0, count: count + 1)
        for index in 0..<count where layout.isJump[index] { counts[Int(layout.targets[index]) + 1] += 1 }
        for index in 0..<count { counts[index + 1] += counts[index] }
        sourceStarts = counts
        sources = Array(repeating: 0, count: Int(counts[count]))
        for index in 0..<count where layout.isJump[index] {
            let target = Int(layout.targets[index])
            sources[Int(counts[target])] = Int32(index)
            counts[target] += 1
        }
    }

    private mutating func queue(_ index: Int) {
        guard !isQueued[index] else { return }
        isQueued[index] = true
        work.append(Int32(index))
    }

    private mutating func run() {
        while let next = work.popLast() {
            let index = Int(next)
            isQueued[index] = false
            guard isWalked[index] else { continue }
            var after = Needs()
            if layout.goesOn[index] { after = needs[index + 1] }
            if layout.isJump[index] { _ = after.formUnion(needs[Int(layout.targets[index])]) }
            let function = Int(layout.owner[index])
            if layout.instructions[index].opcode == .callLocal {
                let callee = layout.callee(of: index)
                if returned[callee].formUnion(Needs(live: after.live & 1, relevant: after.relevant & 1)) {
                    for exit in exits[callee] { queue(exit) }
                }
            }
            guard needs[index].formUnion(before(index, after, function)) else { continue }
            if index > 0, layout.goesOn[index - 1] { queue(index - 1) }
            for source in sourceStarts[index]..<sourceStarts[index + 1] { queue(Int(sources[Int(source)])) }
            if index == layout.functions[function] {
                for site in callSites[function] { queue(site) }
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
            // How far a pointer is moved is checked even where nothing uses it.
            if isMoving[index] || isStrict, operand == .reg, op == .add || op == .sub { result.relevant |= dst | src }
            guard matters else { break }
            if op != .mov { result.relevant |= dst }
            if operand == .reg { result.relevant |= src }
        case .negate, .byteOrder: if matters { result.relevant |= dst }
        case .signExtend: if matters { result.relevant |= src }
        case .wide, .jump, .mayGoto: break
        case .packet(_, let indirect): if indirect { result.relevant |= src }
        case .load(let size, _):
            result.relevant |= src
            if matters { result.read(slots(instruction.src, instruction, size, index)) }
        case .store(let size, let operand):
            let written = slots(instruction.dst, instruction, size, index)
            // A frame of a caller knows itself what matters of it.
            let mayMatter = written == .max || after.slots & written != 0
            result.relevant |= dst
            if operand == .reg, mayMatter { result.relevant |= src }
            // Of a slot that is written in part, the rest may be read.
            if instruction.dst == .framePointer, size == .b64, instruction.offset & 7 == 0 { result.slots &= ~written }
        case .atomic(let operation, let size):
            let base = operation == .loadAcquire ? instruction.src : instruction.dst
            let touched = slots(base, instruction, size, index)
            result.relevant |= operation == .loadAcquire ? src : dst
            if case .storeRelease = operation, touched == .max || after.slots & touched != 0 { result.relevant |= src }
            // What was there goes to a register, r0 for a comparison.
            if after.relevant & kills != 0 { result.read(touched) }
        case .conditionalJump(_, _, let operand):
            // What is learnt of one operand comes from the other one.
            let operands = operand == .reg ? dst | src : dst
            if isDecided[index] || after.relevant & operands != 0 { result.relevant |= operands }
        case .call(let kind): call(kind, instruction, index, &result)
        case .exit:
            result.live = returned[function].live
            result.relevant = returned[function].relevant
        }
        return result
    }

    private func call(_ kind: CallKind, _ instruction: Instruction, _ index: Int, _ result: inout Needs) {
        switch kind {
        case .helper, .kernelFunction:
            guard let helper = Helper(calledBy: instruction), let prototype = HelperPrototype.of(helper, for: type)
            else {
                result.live |= RegisterSet.arguments.bits
                result.relevant |= RegisterSet.arguments.bits
                return
            }
            for argument in 0..<5 {
                switch prototype.arguments[argument] {
                case .unused: continue
                case .number: break
                case .anything: if helper == .loop { result.relevant |= 2 << UInt16(argument) }
                case .map, .mapKey, .mapValue, .mapValueOrNull, .mapValueOut, .memory, .updatedMemory, .fixedMemory,
                    .size,
                    .allocationSize, .ringRecord, .context, .contextOrNull, .constantString, .callback,
                    .callbackContext,
                    .spinLock, .timer, .dynptr, .iterator, .kernelObject, .constant, .unsupported:
                    result.relevant |= 2 << UInt16(argument)
                }
                result.live |= 2 << UInt16(argument)
            }
            // Callbacks reach the frame through their context.
            if isCallingBack(instruction) { result.read(.max) }
            // Which element a constant key names decides whether it may be missing.
            if helper == .mapLookupElem, isDecided[index] { result.read(keySlots(index)) }
        case .local:
            let callee = needs[Int(layout.targets[index])]
            result.live |= callee.live & RegisterSet.arguments.bits
            result.relevant |= callee.relevant & RegisterSet.arguments.bits
            result.live |= contracts[layout.callee(of: index)]
            result.relevant |= contracts[layout.callee(of: index)]
            // The callee reads its caller's frames, or calls what does.
            if callee.reachesCallers { result.read(.max) }
        case .register:
            result.live |= RegisterSet.arguments.bits
            result.relevant |= RegisterSet.arguments.bits
            result.read(.max)
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
            case .mov64Reg where instruction.src == .framePointer: return slots(offset, .b32)
            default: return .max
            }
        }
        return .max
    }

    /// Slots that an access touches.
    private func slots(_ base: Register, _ instruction: Instruction, _ size: Size, _ index: Int) -> UInt64 {
        // Other registers may point to the stack; the walk says so where they do.
        guard base == .framePointer else { return isDecided[index] ? .max : 0 }
        return slots(Int64(instruction.offset), size)
    }

    /// Slots of bytes that lie so far from r10.
    private func slots(_ offset: Int64, _ size: Size) -> UInt64 {
        let (low, high) = ((-offset - Int64(size.bytes)) >> 3, (-offset - 1) >> 3)
        guard low >= 0, high < 64 else { return .max }
        return 1 << UInt64(low) | 1 << UInt64(high)
    }
}
