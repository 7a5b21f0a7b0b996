internal import CUBPF
internal import ISA

extension Machine {
    /// Replaces the program; the old one stays where the new one is refused.
    func load(bytes: [UInt8]) throws(EmbeddingError) {
        if bytes.count % 8 != 0 { throw .program(DecodeError(.partialSlot, slot: bytes.count / 8)) }
        try load(RawInstruction.slots(bytes))
    }

    func load(_ slots: [RawInstruction]) throws(EmbeddingError) {
        let program = try Program(slots, hasHelper: hasHelper)
        unsafe state.pointee.program = program
    }

    /// Compiles the program; a function for C.
    func compile(isChecked: Bool) throws(EmbeddingError) -> ubpf_function {
        guard unsafe !state.pointee.program.linked.isEmpty else { throw .noProgram }
        throw .noCompiler
    }
}
