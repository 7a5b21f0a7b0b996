package import ISA

/// Nested calls of a program, its own frame included (`MAX_CALL_FRAMES` of Linux).
package let maximumFrames = 8

/// Bytes of stack below each frame's r10 (`MAX_BPF_STACK`).
package let frameSize = 512

/// What libbpf writes over an instruction whose relocation cannot be resolved (a call of this "helper").
package let poisonedCall: Int64 = 0xbad2310

/// Refuses programs that make no sense whatever the types of their values are.
///
/// Checked are control flow and reachability, depth of calls, accesses relative to the frame pointer, that registers hold
/// a value before they are read, and that every helper exists here. Branches that a constant decides are followed, so that
/// code behind a failed `bpf_core_type_exists` is not looked at. Back edges are allowed: a budget ends them at run time.
///
/// - Parameter functions: index of the first instruction of each function, the program itself first.
package func check(_ instructions: [Instruction], functions: [Int]) throws(VerifierError) {
    let layout = try Layout(instructions, functions: functions)
    try checkReachability(layout)
    let order = try CallGraph(layout).calleesFirst()
    var summaries = [Summary](repeating: Summary(), count: layout.functions.count)
    for function in order {
        summaries[function] = try analyze(layout, function: function, callees: summaries)
    }
}

/// A program whose control flow is known to be well-formed.
struct Layout {
    let instructions: [Instruction]
    let functions: [Int]
    private let map: SlotMap

    init(_ instructions: [Instruction], functions: [Int]) throws(VerifierError) {
        self.instructions = instructions
        self.functions = functions
        map = SlotMap(instructions)
        if !instructions.isEmpty, functions.first != 0 { throw self.error(.badFunctions, at: 0) }
        var last = -1
        for start in functions {
            if start <= last || start >= max(instructions.count, 1) { throw self.error(.badFunctions, at: 0) }
            last = start
        }
        do {
            try validateControlFlow(instructions, functions: functions)
        } catch {
            throw self.error(.controlFlow(error.kind), at: map.instruction(at: error.slot) ?? 0)
        }
    }

    /// Instructions of a function.
    func range(_ function: Int) -> Range<Int> {
        functions[function]..<(function + 1 < functions.count ? functions[function + 1] : instructions.count)
    }

    /// The instruction `slots` behind the one after `index`, which exists.
    func target(of index: Int, slots: Int) -> Int {
        guard let target = map.instruction(at: map.slots[index] + 1 + slots) else {
            preconditionFailure("control flow was validated")
        }
        return target
    }

    /// The function that a call or reference at `index` names.
    func callee(of index: Int, slots: Int) -> Int {
        let start = target(of: index, slots: slots)
        guard let function = functions.firstIndex(of: start) else {
            preconditionFailure("control flow was validated")
        }
        return function
    }

    func error(_ kind: VerifierError.Kind, at index: Int) -> VerifierError {
        let text = instructions.indices.contains(index) ? Disassembler().text(instructions[index]) : ""
        return VerifierError(kind: kind, instruction: index, text: text)
    }
}

/// Refuses instructions that no path leads to, whatever the values are.
private func checkReachability(_ layout: Layout) throws(VerifierError) {
    var isReached = [Bool](repeating: false, count: layout.instructions.count)
    var work = [0]
    while let start = work.popLast() {
        var index = start
        while !isReached[index] {
            isReached[index] = true
            var goesOn = true
            switch layout.instructions[index].flow {
            case .next: break
            case .exit: goesOn = false
            case .jump(let slots, let conditional):
                work.append(layout.target(of: index, slots: slots))
                goesOn = conditional
            case .call(let slots), .reference(let slots): work.append(layout.target(of: index, slots: slots))
            }
            if !goesOn { break }
            index += 1
        }
    }
    if let dead = isReached.firstIndex(of: false) { throw layout.error(.unreachable, at: dead) }
}
