import ISA

/// A program whose control flow is known to be well-formed.
struct Layout {
    let instructions: [Instruction]
    /// First instruction of each function.
    let functions: [Int]
    /// Where each jump goes, and where the function starts that a call or reference names; -1 for other instructions.
    private(set) var targets: [Int32]
    private(set) var isJump: [Bool]
    /// The instruction may be followed by the next one.
    private(set) var goesOn: [Bool]
    /// Function of each instruction.
    private(set) var owner: [Int32]
    /// Functions that call a helper which moves the packet, or a function that does; another program may, too.
    private(set) var packetChangers: Set<Int> = []
    private let slots: [Int]

    /// - Parameter functions: index of the first instruction of each function, the program itself first.
    init(_ instructions: [Instruction], functions: [Int]) throws(VerifierError) {
        self.instructions = instructions
        self.functions = functions
        let map = SlotMap(instructions)
        slots = map.slots
        targets = Array(repeating: -1, count: instructions.count)
        isJump = Array(repeating: false, count: instructions.count)
        goesOn = Array(repeating: true, count: instructions.count)
        owner = []
        if !instructions.isEmpty, functions.first != 0 { throw damaged() }
        var last = -1
        for start in functions {
            if start <= last || start >= max(instructions.count, 1) { throw damaged() }
            last = start
        }
        do { try validateControlFlow(instructions, functions: functions) } catch {
            throw self.error(.controlFlow, at: map.instruction(at: error.slot) ?? 0, error.kind.message)
        }
        for function in functions.indices {
            for _ in range(function) { owner.append(Int32(function)) }
        }
        for (index, instruction) in instructions.enumerated() {
            if instruction.writes.contains(.framePointer) {
                throw self.error(.framePointer, at: index, "r10, the frame pointer, is read-only")
            }
            switch instruction.flow {
            case .next: break
            case .exit: goesOn[index] = false
            case .jump(let distance, let conditional):
                goesOn[index] = conditional
                isJump[index] = true
                targets[index] = target(map, index, distance)
            case .call(let distance), .reference(let distance): targets[index] = target(map, index, distance)
            }
        }
        try checkReachability()
        findPacketChangers()
    }

    private mutating func findPacketChangers() {
        var callers = [[Int]](repeating: [], count: functions.count)
        var work: [Int] = []
        for index in instructions.indices {
            let function = Int(owner[index])
            switch instructions[index].opcode {
            case .callHelper:
                let helper = Helper(rawValue: UInt32(truncatingIfNeeded: instructions[index].imm))
                let isOne = helper == .tailCall || (helper.flatMap { HelperPrototype.of($0) }?.changesPacket ?? false)
                if isOne, packetChangers.insert(function).inserted { work.append(function) }
            case .callLocal, .loadFunction: callers[callee(of: index)].append(function)
            default: break
            }
        }
        while let function = work.popLast() {
            for caller in callers[function] where packetChangers.insert(caller).inserted { work.append(caller) }
        }
    }

    private func target(_ map: SlotMap, _ index: Int, _ distance: Int) -> Int32 {
        Int32(map.instruction(at: map.slots[index] + 1 + distance) ?? -1)
    }

    private func damaged() -> VerifierError {
        error(.controlFlow, at: 0, "the list of functions is damaged; this is a bug of the loader")
    }

    /// Instructions of a function.
    func range(_ function: Int) -> Range<Int> {
        functions[function]..<(function + 1 < functions.count ? functions[function + 1] : instructions.count)
    }

    /// The function that a call or reference at `index` names.
    func callee(of index: Int) -> Int { Int(owner[Int(targets[index])]) }

    func error(_ rule: Rule, at index: Int, _ what: String) -> VerifierError {
        let text = instructions.indices.contains(index) ? Disassembler().text(instructions[index]) : ""
        let slot = slots.indices.contains(index) ? slots[index] : 0
        return VerifierError(rule: rule, instruction: index, slot: slot, text: text, what: what)
    }

    /// Refuses instructions that no path leads to, whatever the values are.
    private func checkReachability() throws(VerifierError) {
        var isReached = [Bool](repeating: false, count: instructions.count)
        var work = [0]
        while let start = work.popLast() {
            var index = start
            while !isReached[index] {
                isReached[index] = true
                let target = Int(targets[index])
                if target >= 0 { work.append(target) }
                guard goesOn[index] else { break }
                index += 1
            }
        }
        if let dead = isReached.firstIndex(of: false) {
            throw error(.unreachable, at: dead, "no path leads here")
        }
    }
}
