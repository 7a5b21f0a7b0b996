import ISA

// Open-coded iterators over numbers: `bpf_iter_num_new`, `_next` and `_destroy`, as `bpf_for` and `bpf_repeat` of libbpf call
// them (Linux kernel/bpf/verifier.c, `process_iter_arg`, `process_iter_next_call`). One is eight bytes of the stack that
// nothing else touches, with a reference that `_destroy` gives back.

extension Walk {
    mutating func checkIterator(
        _ call: inout HelperCall,
        _ index: Int,
        _ value: RegisterState,
        isNew: Bool
    ) throws(VerifierError) {
        let what =
            isNew ? "eight free bytes of the stack, at a multiple of 8" : "an iterator that bpf_iter_num_new() made"
        let text = "argument \(index + 1) of \(call.helper.name) must be a pointer to \(what), but r\(index + 1) is "
        let register = Register(rawValue: UInt8(index + 1))
        guard value.kind == .stack, let offset = value.constantOffset, offset & 7 == 0, offset >= Int64(-frameSize),
            offset <= -8
        else { throw fail(.argument, text + describe(value), register) }
        let frame = Int(value.frame)
        let slot = Int((-offset - 1) >> 3)
        let isOne = slot < state.frames[frame].stack.count && state.frames[frame].stack[slot].isAll(.iterator)
        guard isOne != isNew else {
            throw fail(
                .argument,
                text + "r10\(offset), where \(isOne ? "an iterator lies already" : "none is")",
                register
            )
        }
        guard isNew else {
            markRead(frame, 1 << UInt64(slot))
            call.reference = state.frames[frame].stack[slot].spilled.reference
            return
        }
        try writeStack(frame, offset, offset + 7, .misc, isCertain: true)
        var iterator = RegisterState(.iterator)
        iterator.reference = hold(.iterator)
        state.frames[frame].stack[slot].fill(.iterator)
        state.frames[frame].stack[slot].spilled = iterator
    }

    /// `bpf_iter_num_next` has given a number, on a path of its own, or NULL: no more numbers come then.
    mutating func takeNumber(_ call: HelperCall) throws(VerifierError) {
        guard let index = state.references.firstIndex(where: { $0.id == call.reference }) else { return }
        if !state.references[index].isDrained {
            var next = state
            next.references[index].rounds += 1
            next.rounds += 1
            forgetRound(&next)
            try fork(next, at: pc + 1)
            state.references[index].isDrained = true
        }
        write(.r0, .constant(0))
    }
}
