internal import CRuntime
internal import ISA
internal import Runtime

// Helpers that call functions of the program: bpf_loop, bpf_for_each_map_elem and bpf_user_ringbuf_drain.
//
// They run as loops in generated code, with the caller's r6 to r9 pushed and rbx, r13 and r14 for themselves.

extension Lowering {
    /// Where a callback is.
    private enum Callback {
        case known(Label)
        /// Its address is on the native stack, behind what the loop keeps there; in a register the callback would find it.
        case onStack
    }

    /// The callback whose handle is in rsi: pushes the caller's registers and keeps what a loop needs.
    private mutating func enterLoop() -> Callback {
        var callback = Callback.onStack
        if let handle = constant(2), let start = FunctionHandle.index(UInt64(bitPattern: handle)),
            let function = layout.function(at: start)
        {
            callback = .known(function.label)
        }
        flush(layout.live[index])
        if case .onStack = callback {
            let isHandle = asm.makeLabel()
            asm.mov(.r11, .rsi)
            asm.mov(.r10, .rsi)
            asm.shift(.shr, .r10, 32)
            asm.alu(.cmp, .r10, Int32(bitPattern: UInt32(truncatingIfNeeded: FunctionHandle.make(0) >> 32)), .w32)
            asm.jump(.equal, isHandle)
            asm.jump(trap(.badArgument, .r11))
            asm.bind(isHandle)
            findFunction()
        }
        asm.push(.rbx)
        asm.push(.r13)
        asm.push(.r14)
        asm.push(.r15)
        if case .onStack = callback {
            asm.alu(.sub, .rsp, 16)
            asm.store(.base(.rsp, 0), .r10)
        }
        return callback
    }

    private mutating func leaveLoop(_ callback: Callback) {
        if case .onStack = callback { asm.alu(.sub, .rsp, -16) }
        asm.pop(.r15)
        asm.pop(.r14)
        asm.pop(.r13)
        asm.pop(.rbx)
        called()
    }

    /// What a callback finds in the argument registers that it is not given.
    private mutating func clear(_ registers: [GPR]) {
        for register in registers { asm.alu(.xor, register, register, .w32) }
    }

    /// - Parameter kept: bytes that the loop keeps on the native stack.
    private mutating func call(_ callback: Callback, frames: Int32, kept: Int32 = 0) {
        asm.alu(.sub, .rbp, 512 * frames)
        switch callback {
        case .known(let label): asm.call(label)
        case .onStack: asm.call(.base(.rsp, kept))
        }
        asm.alu(.sub, .rbp, -512 * frames)
    }

    /// `bpf_loop(nr_loops, callback, context, flags)` (Linux kernel/bpf/bpf_iter.c).
    mutating func loop() throws(CodeError) {
        let callback = enterLoop()
        let (invalid, tooBig, again, end, done) =
            (asm.makeLabel(), asm.makeLabel(), asm.makeLabel(), asm.makeLabel(), asm.makeLabel())
        asm.test(.rcx, .rcx)
        asm.jump(.notEqual, invalid)
        asm.alu(.cmp, .rdi, 8 << 20, .w32)
        asm.jump(.above, tooBig)
        asm.alu(.xor, .rbx, .rbx, .w32)
        asm.mov(.r13, .rdi, .w32)
        asm.mov(.r14, .rdx)
        asm.test(.r13, .r13)
        asm.jump(.equal, end)
        checkDepth()
        asm.bind(again)
        asm.mov(.rdi, .rbx, .w32)
        asm.mov(.rsi, .r14)
        clear([.rdx, .rcx, .r8])
        call(callback, frames: 1)
        asm.alu(.add, .rbx, 1, .w32)
        asm.test(.rax, .rax)
        asm.jump(.notEqual, end)
        asm.alu(.cmp, .rbx, .r13, .w32)
        asm.jump(.below, again)
        asm.bind(end)
        asm.mov(.rax, .rbx, .w32)
        asm.jump(done)
        asm.bind(invalid)
        asm.mov(.rax, UInt64(bitPattern: -22))
        asm.jump(done)
        asm.bind(tooBig)
        asm.mov(.rax, UInt64(bitPattern: -7))
        asm.bind(done)
        leaveLoop(callback)
    }

    /// `bpf_for_each_map_elem(map, callback, context, flags)` (Linux kernel/bpf/hashtab.c, arraymap.c), and
    /// `bpf_user_ringbuf_drain` (kernel/bpf/ringbuf.c).
    mutating func forEach(_ number: Int64) throws(CodeError) {
        guard options.session != nil else { throw .noSession(instruction: index) }
        let callback = enterLoop()
        let (again, end, done) = (asm.makeLabel(), asm.makeLabel(), asm.makeLabel())
        let room = Int32(truncatingIfNeeded: walkRoom)
        asm.alu(.sub, .rsp, room)
        asm.mov(.rbx, .rdi)
        asm.mov(.r14, .rdx)
        asm.mov(.rsi, .rsp)
        asm.lea(.rdx, .base(.rbp, -1024))
        asm.mov(.r8, UInt64(number))
        callRuntime(unsafe address(of: beginWalkEntry))
        checkHelper()
        asm.test(.rax, .rax)
        asm.jump(.notEqual, done)
        // An array's key and a record's dynptr lie nowhere in memory: they get a frame of the stack, between the caller's and
        // the callback's.
        if options.checksDepth {
            asm.lea(.r10, .base(.rbp, -1024))
            asm.alu(.cmp, .r10, .base(.r12, ContextOffset.stackLow))
            asm.jump(.belowEqual, trap(.callDepth, .number(8)))
        }
        asm.alu(.xor, .r13, .r13, .w32)
        asm.alu(.xor, .r8, .r8, .w32)
        asm.bind(again)
        asm.mov(.rdi, .rbx)
        asm.mov(.rsi, .rsp)
        asm.mov(.rdx, isChecked ? 1 : 0)
        callRuntime(unsafe address(of: nextOfWalkEntry))
        checkHelper()
        asm.test(.rax, .rax)
        asm.jump(.equal, end)
        asm.jump(.sign, done)
        if number == 209 {
            asm.lea(.rdi, .base(.rbp, -1024))
            asm.mov(.rsi, .r14)
            clear([.rdx, .rcx, .r8])
        } else {
            asm.mov(.rdi, .rbx)
            asm.load(.rsi, .base(.rsp, 0))
            asm.load(.rdx, .base(.rsp, 8))
            asm.mov(.rcx, .r14)
            clear([.r8])
        }
        call(callback, frames: 2, kept: room)
        asm.alu(.add, .r13, 1)
        asm.mov(.r8, .rax)
        asm.jump(again)
        asm.bind(end)
        asm.mov(.rax, .r13)
        asm.bind(done)
        asm.alu(.sub, .rsp, -room)
        leaveLoop(callback)
    }
}
