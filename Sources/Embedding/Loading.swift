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
        unsafe state.pointee.checked = nil
        unsafe state.pointee.unchecked = nil
    }

    /// The program as a function for C; the same one for a mode that was compiled before.
    func compile(isChecked: Bool) throws(EmbeddingError) -> ubpf_function? {
        guard unsafe !state.pointee.program.linked.isEmpty else { throw .noProgram }
        unsafe state.pointee.lastIsChecked = isChecked
        if isChecked {
            if unsafe state.pointee.checked == nil {
                unsafe state.pointee.checked = try CompiledFunction.make(
                    state.pointee.program,
                    isChecked: true,
                    vm: self
                )
            }
            return unsafe state.pointee.checked?.function
        }
        if unsafe state.pointee.unchecked == nil {
            unsafe state.pointee.unchecked = try CompiledFunction.make(
                state.pointee.program,
                isChecked: false,
                vm: self
            )
        }
        return unsafe state.pointee.unchecked?.function
    }

    /// Where the code that was compiled last lies; nil before.
    var code: (address: UInt64, size: Int)? {
        let isChecked = unsafe state.pointee.lastIsChecked
        let address = unsafe isChecked ? state.pointee.checked?.address : state.pointee.unchecked?.address
        let size = unsafe isChecked ? state.pointee.checked?.size : state.pointee.unchecked?.size
        guard let address, let size else { return nil }
        return (address, size)
    }
}
