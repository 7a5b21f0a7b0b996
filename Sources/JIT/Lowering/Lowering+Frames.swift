internal import ISA

// How functions begin and end. At a function's entry the stack pointer is 8 more than a multiple of 16, as in C.

extension Lowering {
    /// The registers that a function pushes, in order.
    private static var saved: InlineArray<4, (bit: UInt16, register: GPR)> {
        [(1 << 6, .rbx), (1 << 7, .r13), (1 << 8, .r14), (1 << 9, .r15)]
    }

    /// Bytes below the pushed registers: what keeps calls aligned, and the counter of `may_goto`.
    private mutating func localSize() -> Int32 {
        let pushes = Int32((function.saved & 0b11_1100_0000).nonzeroBitCount)
        guard function.hasCalls || function.hasMayGoto else { return 0 }
        let wanted: Int32 = function.hasMayGoto ? 8 : 0
        return (8 + 8 * pushes + wanted) % 16 == 0 ? wanted : wanted + 8
    }

    mutating func prologue() throws(CodeError) {
        values.clear()
        pending = 0
        zeroUpper = 0
        origins = Origins.atEntry(isProgram: function.start == 0)
        for index in 0..<4 where function.saved & Self.saved[index].bit != 0 { asm.push(Self.saved[index].register) }
        let size = localSize()
        if size != 0 { asm.alu(.sub, .rsp, size) }
        if function.hasMayGoto { asm.store(.base(.rsp, 0), immediate: 8 << 20, size: .b32) }
    }

    /// Undoes the prologue.
    mutating func leaveFrame() {
        let size = localSize()
        if size != 0 { asm.alu(.sub, .rsp, -size) }
        for index in stride(from: 3, through: 0, by: -1) where function.saved & Self.saved[index].bit != 0 {
            asm.pop(Self.saved[index].register)
        }
    }

    mutating func exit() {
        settle(0)
        drop(notIn: 0)
        leaveFrame()
        asm.ret()
    }
}

/// The function that C calls: `uint64_t (struct cruntime_context *, uint64_t r1, uint64_t r2)`.
func writeEntry(_ body: Label, isChecked: Bool, canLeave: Bool, _ asm: inout Assembler) {
    guard canLeave else {
        asm.push(.rbp)
        asm.push(.r12)
        asm.alu(.sub, .rsp, 8)
        asm.mov(.r12, .rdi)
        asm.load(.rbp, .base(.rdi, ContextOffset.stackHigh))
        asm.mov(.rdi, .rsi)
        asm.mov(.rsi, .rdx)
        asm.call(body)
        asm.alu(.sub, .rsp, -8)
        asm.pop(.r12)
        asm.pop(.rbp)
        return asm.ret()
    }
    // A trap in any frame comes back to `leave`, so everything is saved here.
    for register in [GPR.rbx, .rbp, .r12, .r13, .r14, .r15] { asm.push(register) }
    asm.alu(.sub, .rsp, 8)
    asm.mov(.r12, .rdi)
    asm.store(.base(.r12, ContextOffset.stackPointer), .rsp)
    asm.load(.rbp, .base(.rdi, ContextOffset.stackHigh))
    asm.load(.r9, .base(.rdi, ContextOffset.budget))
    if isChecked {
        for register in [GPR.rax, .rcx, .r8, .rbx, .r13, .r14, .r15] { asm.alu(.xor, register, register, .w32) }
    }
    asm.mov(.rdi, .rsi)
    asm.mov(.rsi, .rdx)
    if isChecked { asm.alu(.xor, .rdx, .rdx, .w32) }
    asm.call(body)
    writeReturn(isChecked: isChecked, &asm)
}

/// A C function of (r1, r2) with a context and a BPF stack of its own, on the native stack.
///
/// Unchecked code without a session uses no field of the context but the spill.
func writeStandaloneEntry(_ body: Label, _ asm: inout Assembler) {
    let context: Int32 = 512
    let stack: Int32 = 8 * 512
    asm.push(.rbp)
    asm.push(.r12)
    asm.alu(.sub, .rsp, context + stack + 8)
    asm.mov(.r12, .rsp)
    asm.lea(.rbp, .base(.rsp, context + stack))
    asm.call(body)
    asm.alu(.sub, .rsp, -(context + stack + 8))
    asm.pop(.r12)
    asm.pop(.rbp)
    asm.ret()
}

/// Behind the body: gives back the budget and the caller's registers.
private func writeReturn(isChecked: Bool, _ asm: inout Assembler) {
    if isChecked { asm.store(.base(.r12, ContextOffset.budget), .r9) }
    asm.alu(.sub, .rsp, -8)
    for register in [GPR.r15, .r14, .r13, .r12, .rbp, .rbx] { asm.pop(register) }
    asm.ret()
}

/// Where runs that trap end: the stack pointer of the entry, result 0.
func writeLeave(_ leave: Label, isChecked: Bool, _ asm: inout Assembler) {
    asm.bind(leave)
    asm.load(.rsp, .base(.r12, ContextOffset.stackPointer))
    asm.alu(.xor, .rax, .rax, .w32)
    writeReturn(isChecked: isChecked, &asm)
}
