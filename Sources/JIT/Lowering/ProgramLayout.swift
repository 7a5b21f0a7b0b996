internal import ISA

/// What one look over a program tells: its functions, where jumps end, which registers are alive.
struct ProgramLayout {
    /// A function of the program: the instructions up to the next function's first.
    struct Function {
        let start: Int
        var end: Int
        let label: Label
        /// r6 to r9, one bit each, where the function writes them.
        var saved: UInt16 = 0
        var hasCalls = false
        var hasMayGoto = false
        /// Whether it, or something that runs in its frame, uses r10.
        var needsFrame = false
    }

    private(set) var functions: [Function] = []
    /// Label of each instruction that a jump ends at.
    private(set) var labels: [Label?]
    /// Whether a backward jump ends at an instruction.
    private(set) var loops: [Bool]
    /// What checked code takes from the budget before an instruction; mostly 0.
    var charges: [Int32] = []
    /// Registers whose values are still needed before each instruction, one bit each; one element more than instructions.
    private(set) var live: [UInt16]
    /// What is known of registers where jumps end; only for checked code.
    private(set) var origins: [Origins] = []
    /// Upper estimate of code bytes before each instruction, for the choice of short jumps.
    private(set) var estimate: [Int32]

    init(
        _ code: UnsafeBufferPointer<LinkedInstruction>,
        _ assembler: inout Assembler,
        isChecked: Bool
    ) throws(CodeError) {
        let count = code.count
        labels = [Label?](repeating: nil, count: count)
        loops = [Bool](repeating: false, count: count)
        live = [UInt16](repeating: 0, count: count + 1)
        estimate = [Int32](repeating: 0, count: count + 1)
        var isFunction = [Bool](repeating: false, count: count)
        if count > 0 { isFunction[0] = true }
        var effects: [Effects] = []
        effects.reserveCapacity(count)
        var flows = [Flow](repeating: .next, count: count)
        for index in 0..<count {
            let instruction = unsafe code[index]
            let target = Int(instruction.target)
            effects.append(Effects(instruction))
            switch instruction.opcode.shape {
            case .jump, .conditionalJump, .mayGoto:
                if case .jump = instruction.opcode.shape { flows[index] = .jump } else { flows[index] = .either }
                if labels[target] == nil { labels[target] = assembler.makeLabel() }
                if target <= index { loops[target] = true }
            case .call(.local), .wide(.function): isFunction[target] = true
            case .exit: flows[index] = .end
            case .arithmetic, .negate, .signExtend, .byteOrder, .wide, .packet, .load, .store, .atomic, .call: break
            }
            let bytes = estimatedSize(instruction, isChecked: isChecked) + (loops[index] ? 24 : 0)
            estimate[index + 1] = estimate[index] + bytes
        }
        for index in 0..<count where isFunction[index] {
            if let last = functions.indices.last { functions[last].end = index }
            functions.append(Function(start: index, end: count, label: assembler.makeLabel()))
        }
        for index in functions.indices { unsafe try look(at: index, code, effects) }
        unsafe findLive(code, effects, flows)
        if isChecked {
            unsafe findOrigins(code)
            unsafe findCharges(code, flows)
        }
    }

    /// The function that starts at an instruction.
    func function(at start: Int) -> Function? {
        // They are in order.
        var low = 0
        var high = functions.count
        while low < high {
            let middle = (low + high) / 2
            if functions[middle].start < start { low = middle + 1 } else { high = middle }
        }
        guard low < functions.count, functions[low].start == start else { return nil }
        return functions[low]
    }

    /// What one function does, and that it keeps to itself: compiled code cannot jump from one frame into another.
    private mutating func look(
        at index: Int,
        _ code: UnsafeBufferPointer<LinkedInstruction>,
        _ effects: [Effects]
    ) throws(CodeError) {
        var function = functions[index]
        for at in function.start..<function.end {
            let instruction = unsafe code[at]
            function.saved |= effects[at].writes & 0b11_1100_0000
            if effects[at].reads >> 10 & 1 != 0 { function.needsFrame = true }
            var goesOn = at + 1 == function.end
            switch instruction.opcode.shape {
            case .jump, .conditionalJump, .mayGoto:
                let target = Int(instruction.target)
                if target < function.start || target >= function.end { throw .crossesFunctions(instruction: at) }
                if case .jump = instruction.opcode.shape { goesOn = false }
                if case .mayGoto = instruction.opcode.shape { function.hasMayGoto = true }
            case .call(let kind):
                function.hasCalls = true
                switch kind {
                case .helper:
                    // Tail calls and callbacks run code that may use the stack.
                    switch instruction.imm {
                    case 12, 164, 181, 209: function.needsFrame = true
                    default: break
                    }
                case .register: function.needsFrame = true
                case .local, .kernelFunction: break
                }
            case .exit: goesOn = false
            case .arithmetic, .negate, .signExtend, .byteOrder, .wide, .packet, .load, .store, .atomic: break
            }
            if goesOn { throw .crossesFunctions(instruction: at) }
        }
        functions[index] = function
    }

    /// Carries guesses along jumps, backward ones too.
    private mutating func findOrigins(_ code: UnsafeBufferPointer<LinkedInstruction>) {
        origins = [Origins](repeating: Origins(), count: code.count)
        for function in functions {
            var known = Origins.atEntry(isProgram: function.start == 0)
            for index in function.start..<function.end {
                let instruction = unsafe code[index]
                if labels[index] != nil { known.merge(origins[index]) }
                known.apply(instruction)
                if instruction.opcode.isJump { origins[Int(instruction.target)].merge(known) }
            }
        }
    }

    /// Where a conditional jump goes if it is not taken but jumps over an unconditional jump, which can be made one with it; else nil.
    ///
    /// Compilers that can jump only a short way make `if c goto +1; goto far` of `if not c goto far`.
    func inverted(_ code: UnsafeBufferPointer<LinkedInstruction>, _ index: Int, _ function: Function) -> Int? {
        guard unsafe Int(code[index].target) == index + 2, index + 2 < function.end, labels[index + 1] == nil else {
            return nil
        }
        // Where the jump is charged on its own it stays.
        if !charges.isEmpty, charges[index + 1] != 0 { return nil }
        let following = unsafe code[index + 1]
        switch following.opcode {
        case .jump, .jumpLong: return Int(following.target)
        default: return nil
        }
    }

    /// Where an instruction goes on.
    enum Flow {
        case next, either, jump, end

        var jumps: Bool { self == .jump || self == .either }
        var falls: Bool { self == .next || self == .either }
    }

    /// Backward data flow: one sweep, then along backward jumps what it met too late.
    ///
    /// An instruction is looked at again only where a register became alive after it, so at most once for each of the eleven
    /// registers and each way to go on: chains of loops take no longer than one loop.
    private mutating func findLive(
        _ code: UnsafeBufferPointer<LinkedInstruction>,
        _ effects: [Effects],
        _ flows: [Flow]
    ) {
        var late = false
        for index in stride(from: code.count - 1, through: 0, by: -1) where unsafe update(index, code, effects, flows) {
            if loops[index] { late = true }
        }
        guard late else { return }
        // The jumps to an instruction, as a list through `next`; -1 at its end.
        var first = [Int32](repeating: -1, count: code.count)
        var next = first
        var waiting: [Int32] = []
        for index in 0..<code.count where flows[index].jumps {
            let (target, jump) = unsafe (Int(code[index].target), Int32(truncatingIfNeeded: index))
            next[index] = first[target]
            first[target] = jump
            if target <= index { waiting.append(jump) }
        }
        while let start = waiting.popLast() {
            var index = Int(start)
            while unsafe update(index, code, effects, flows) {
                var jump = first[index]
                while jump >= 0 {
                    waiting.append(jump)
                    jump = next[Int(jump)]
                }
                guard index > 0, flows[index - 1].falls else { break }
                index -= 1
            }
        }
    }

    /// Finds anew what is alive before an instruction; true if that is more than was known.
    private mutating func update(
        _ index: Int,
        _ code: UnsafeBufferPointer<LinkedInstruction>,
        _ effects: [Effects],
        _ flows: [Flow]
    ) -> Bool {
        let after: UInt16 =
            switch flows[index] {
            case .next: live[index + 1]
            case .either: unsafe live[index + 1] | live[Int(code[index].target)]
            case .jump: unsafe live[Int(code[index].target)]
            case .end: 0
            }
        let before = after & ~effects[index].writes | effects[index].reads
        guard before != live[index] else { return false }
        live[index] = before
        return true
    }
}

extension Opcode {
    /// Whether `target` of the linked instruction is where it may jump to.
    var isJump: Bool {
        switch shape {
        case .jump, .conditionalJump, .mayGoto: true
        case .arithmetic, .negate, .signExtend, .byteOrder, .wide, .packet, .load, .store, .atomic, .call, .exit: false
        }
    }
}

/// Roughly the most bytes that an instruction compiles to; a jump that this makes too short is made again as a long one.
private func estimatedSize(_ instruction: LinkedInstruction, isChecked: Bool) -> Int32 {
    switch instruction.opcode.shape {
    case .arithmetic(let operation, _, _):
        switch operation {
        case .div, .mod, .sdiv, .smod: 60
        case .lsh, .rsh, .arsh, .add, .sub, .mul, .or, .and, .xor, .mov: 5
        }
    case .negate, .signExtend, .byteOrder: 6
    case .wide: 10
    case .packet: 12
    case .load, .store: isChecked ? 30 : 6
    case .atomic: isChecked ? 50 : 30
    case .jump: 5
    case .conditionalJump: 9
    case .mayGoto: 20
    case .call: 50
    case .exit: 14
    }
}
