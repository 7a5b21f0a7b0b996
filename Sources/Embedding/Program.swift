internal import CRuntime
internal import ISA
internal import UBPFVM

/// A program that was checked.
struct Program {
    private(set) var instructions: [Instruction] = []
    /// For the interpreter, with helpers as the embedder's.
    private(set) var linked: [LinkedInstruction] = []
    /// Bytes of the stack that a run can use; never 0.
    private(set) var stackSize = 8

    /// Without instructions: nothing was loaded.
    init() {}

    /// Checks every instruction, jump, call and helper.
    ///
    /// Control flow is checked function by function, a function being what some call or reference goes to; so no jump
    /// leaves its function and none runs past its end.
    init(_ slots: [RawInstruction], hasHelper: (Int64) -> Bool) throws(EmbeddingError) {
        do {
            instructions = try decode(slots)
            try validateControlFlow(instructions, functions: functionStarts(instructions))
        } catch {
            throw .program(error)
        }
        for (index, instruction) in instructions.enumerated() {
            try checkMeaning(instruction, at: index, hasHelper)
        }
        do {
            linked = try link(instructions, mapCount: 0) { _, _ in nil }
        } catch {
            throw .program(error)
        }
        for index in linked.indices {
            if case .callHelper = linked[index].opcode { linked[index].imm |= Self.embedders }
        }
        stackSize = neededStack()
    }

    /// Set in the number of a helper of the embedder's, so that the interpreter takes none for one of its own.
    private static var embedders: Int64 { 1 << 32 }

    /// As `link` made it, for the compiler.
    var plain: [LinkedInstruction] {
        var program = linked
        for index in program.indices {
            if case .callHelper = program[index].opcode { program[index].imm &= ~Self.embedders }
        }
        return program
    }

    /// All frames where there are calls, one where r10 is used; a run clears it, so less is faster.
    private func neededStack() -> Int {
        var size = 8
        for instruction in instructions {
            switch instruction.opcode.shape {
            case .call(.local), .call(.register), .wide(.function):
                return Int(Interpreter.maximumFrames * Interpreter.frameSize)
            case .call(.helper), .call(.kernelFunction), .wide, .arithmetic, .negate, .signExtend, .byteOrder, .packet,
                .load, .store, .atomic, .jump, .conditionalJump, .mayGoto, .exit:
                if instruction.reads.contains(.framePointer) { size = Int(Interpreter.frameSize) }
            }
        }
        return size
    }

    /// First instruction of each function that is called or referred to, in order; the program's own first.
    private func functionStarts(_ instructions: [Instruction]) -> [Int] {
        let map = SlotMap(instructions)
        var starts = [0]
        for (index, instruction) in instructions.enumerated() {
            switch instruction.flow {
            case .call(let distance), .reference(let distance):
                if let start = map.instruction(at: map.slots[index] + 1 + distance) { starts.append(start) }
            case .next, .jump, .exit: break
            }
        }
        return starts
    }

    /// Refuses what only programs with maps, or in a kernel, can do.
    private func checkMeaning(
        _ instruction: Instruction,
        at index: Int,
        _ hasHelper: (Int64) -> Bool
    ) throws(EmbeddingError) {
        switch instruction.opcode.shape {
        case .call(.helper):
            guard hasHelper(instruction.imm) else { throw .unregistered(instruction.imm, at: index) }
        case .wide(.map), .wide(.mapByIndex), .wide(.mapValue), .wide(.mapValueByIndex): throw .usesMap(at: index)
        case .wide(.variable), .call(.kernelFunction), .packet: throw .kernelOnly(at: index)
        case .wide(.value), .wide(.function), .arithmetic, .negate, .signExtend, .byteOrder, .load, .store, .atomic,
            .jump, .conditionalJump, .mayGoto, .call(.local), .call(.register), .exit:
            break
        }
    }
}
