/// One line of assembly: an instruction, a label, or the start of a function.
///
/// Written with leading dots in an array, for instance
///
///     try Assembly([
///         .mov64(.r0, 0),
///         .label("loop"),
///         .add64(.r0, 1),
///         .jumpLess(.r0, 10, to: "loop"),
///         .exit,
///     ])
package enum Statement: Sendable {
    case instruction(Instruction)
    /// A jump, call or function reference whose distance follows from a label.
    case reference(Instruction, to: String)
    case label(String)
    /// The start of a function, which is a label too.
    case function(String)
}

/// Why statements are no program.
package enum AssemblyError: Error, Equatable, Sendable {
    case unknownLabel(String)
    case duplicateLabel(String)
    /// A value does not fit its field in the statement's instruction.
    case outOfRange(instruction: Int)
}

/// An assembled program: linked instructions, and where its functions start.
package struct Assembly: Equatable, Sendable {
    package private(set) var instructions: [Instruction] = []
    /// Index of the first instruction of each function, the main one first.
    package private(set) var functions: [Int] = [0]

    package init(_ statements: [Statement]) throws(AssemblyError) {
        var labels: [(name: String, slot: Int)] = []
        var slot = 0
        var count = 0
        for statement in statements {
            switch statement {
            case .instruction(let instruction), .reference(let instruction, _):
                slot += instruction.slots
                count += 1
            case .label(let name), .function(let name):
                if labels.contains(where: { $0.name == name }) { throw .duplicateLabel(name) }
                labels.append((name, slot))
                if case .function = statement, count > 0 { functions.append(count) }
            }
        }
        slot = 0
        for statement in statements {
            switch statement {
            case .label, .function: continue
            case .instruction(let instruction): instructions.append(instruction)
            case .reference(var instruction, let name):
                guard let target = labels.first(where: { $0.name == name }) else { throw .unknownLabel(name) }
                let distance = target.slot - slot - 1
                switch instruction.opcode.shape {
                case .jump, .conditionalJump, .mayGoto: instruction.offset = Int32(distance)
                default: instruction.imm = Int64(distance)
                }
                instructions.append(instruction)
            }
            slot += instructions[instructions.count - 1].slots
        }
        try checkRanges()
    }

    /// The raw slots.
    package var slots: [RawInstruction] { encode(instructions) }

    private func checkRanges() throws(AssemblyError) {
        for (index, instruction) in instructions.enumerated() {
            let encoding = instruction.opcode.encoding
            let offsetFits =
                switch encoding.offset {
                case .bytes, .slots, .number: Int16(exactly: instruction.offset) != nil
                case .fixed: encoding.imm == .slots || instruction.offset == 0
                }
            let immFits =
                switch encoding.imm {
                case .value, .wideLow: Int32(exactly: instruction.imm) != nil
                case .wide: true
                case .fixed, .slots: instruction.imm == 0
                }
            if !offsetFits || !immFits { throw .outOfRange(instruction: index) }
        }
    }
}

extension Opcode {
    /// The opcode of a shape; nil where the instruction set has none, as for an 8-byte sign-extending load.
    package init?(_ shape: Shape) {
        guard let opcode = Opcode.allCases.first(where: { $0.shape == shape }) else { return nil }
        self = opcode
    }
}
