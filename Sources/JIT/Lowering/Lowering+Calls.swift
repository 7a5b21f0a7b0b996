internal import CRuntime
internal import ISA
internal import Runtime

// Calls of functions of the program and of helpers; callbacks are in Lowering+Callbacks.swift.

extension Lowering {
    /// A call of a function of the same program.
    mutating func localCall(_ instruction: LinkedInstruction) {
        flush(layout.live[index])
        guard let callee = layout.function(at: Int(instruction.target)) else { return }
        checkDepth()
        // Without checks only functions that use their stack need one.
        let ownsFrame = isChecked || callee.needsFrame || callee.hasCalls
        if ownsFrame { asm.alu(.sub, .rbp, 512) }
        asm.call(callee.label)
        if ownsFrame { asm.alu(.sub, .rbp, -512) }
        called()
    }

    /// After a call: r0 is new, r1 to r5 hold nothing.
    mutating func called() {
        for register in 0...5 { markInRegister(register) }
        if isChecked { for register in 1...5 where isLiveAfter(register) { setConstant(machine(register), 0) } }
        let kept: UInt16 = 1 << UInt16(GPR.rbx.rawValue) | 0b111 << UInt16(GPR.r13.rawValue)
        zeroUpper &= kept
    }

    mutating func helperCall(_ instruction: LinkedInstruction) throws(CodeError) {
        let number = Int64(UInt32(truncatingIfNeeded: instruction.imm))
        // An embedder's numbers mean what it says; tests, which have a session, replace helpers that do not run programs.
        let isReplaced = unsafe options.externals != nil
        if !isReplaced || options.session != nil {
            switch number {
            case 12: return try tailCall()
            case 164, 209: return try forEach(number)
            case 181: return try loop()
            default: break
            }
        }
        if !isReplaced, inlineHelper(number) { return }
        flush(layout.live[index])
        guard let address = helperAddress(number) else {
            // Loaders leave calls of numbers that there are not where constants decide that nobody comes by.
            asm.jump(trap(.unknownHelper, .number(number)))
            return called()
        }
        callRuntime(address)
        checkHelper()
        called()
    }

    /// The function that a helper number means; nil for none.
    private mutating func helperAddress(_ number: Int64) -> UInt64? {
        guard let number = UInt32(exactly: number) else { return nil }
        if let externals = unsafe options.externals {
            let address = number < 256 ? unsafe externals[Int(number)] : 0
            return address == 0 ? nil : address
        }
        return unsafe helperEntry(number).map {
            unsafe UInt64(UInt(bitPattern: unsafeBitCast($0, to: UnsafeRawPointer.self)))
        }
    }

    /// Calls a C function with the arguments where they are, the context as the sixth; rax has its result.
    mutating func callRuntime(_ address: UInt64) {
        callsRuntime = true
        if isChecked { asm.store(.base(.r12, ContextOffset.budget), .r9) }
        asm.mov(.r9, .r12)
        let end = asm.buffer.address &+ UInt64(asm.buffer.count) &+ 5
        if Int32(exactly: Int64(bitPattern: address &- end)) != nil {
            do throws(CodeError) { try asm.call(absolute: address) } catch { asm.ud2() }
        } else {
            asm.mov(.r11, address)
            asm.call(.r11)
        }
        if isChecked { asm.load(.r9, .base(.r12, ContextOffset.budget)) }
    }

    /// `callx`: a function of the program by its handle, or a helper by its number.
    mutating func registerCall(_ instruction: LinkedInstruction) throws(CodeError) {
        flush(layout.live[index])
        asm.mov(.r11, machine(Int(instruction.dst)))
        let (helper, done) = (asm.makeLabel(), asm.makeLabel())
        asm.mov(.r10, .r11)
        asm.shift(.shr, .r10, 32)
        asm.alu(.cmp, .r10, Int32(bitPattern: UInt32(truncatingIfNeeded: FunctionHandle.make(0) >> 32)), .w32)
        asm.jump(.notEqual, helper)
        checkDepth()
        findFunction()
        asm.alu(.sub, .rbp, 512)
        asm.call(.r10)
        asm.alu(.sub, .rbp, -512)
        asm.jump(done)
        asm.bind(helper)
        asm.store(.base(.r12, ContextOffset.scratch), .r11)
        callRuntime(unsafe address(of: callAddressEntry))
        checkHelper()
        asm.bind(done)
        called()
    }

    /// r10 = the code of the function whose handle is in r11; ends the run where there is none.
    mutating func findFunction() {
        asm.call(shared.functionLookup(&asm))
        asm.test(.r10, .r10)
        asm.jump(.equal, trap(.badJump, .r11))
    }

    /// `bpf_tail_call`: leaves this frame for another program, or goes on.
    private mutating func tailCall() throws(CodeError) {
        guard options.session != nil else { throw .noSession(instruction: index) }
        flush(layout.live[index])
        let stay = asm.makeLabel()
        asm.store(.base(.r12, ContextOffset.scratch), .rdi)
        callRuntime(unsafe address(of: tailCallEntry))
        checkHelper()
        asm.test(.rax, .rax)
        asm.jump(.sign, stay)
        asm.load(.rdi, .base(.r12, ContextOffset.scratch))
        leaveFrame()
        asm.lea(.r11, .label(shared.programs))
        asm.load(.r11, .indexed(.r11, .rax, scale: 3, 0))
        // All that the other program is given is its context; C has used the other registers.
        for register in [GPR.rax, .rsi, .rdx, .rcx, .r8] { asm.alu(.xor, register, register, .w32) }
        asm.jump(.r11)
        asm.bind(stay)
        called()
    }

    // MARK: - Helpers without a call

    /// Emits a helper in place; false where it has to be called.
    private mutating func inlineHelper(_ number: Int64) -> Bool {
        switch number {
        case 1: return inlineArrayLookup()
        case 14:
            // bpf_get_current_pid_tgid
            settleAll(layout.live[index + 1] & ~0b11_1111)
            asm.load(.rax, .base(.r12, ContextOffset.pidTgid))
            called()
            return true
        default: return false
        }
    }

    /// rax += the run's per-CPU slot times `block`; r1 to r5 are lost where the slot is taken now.
    private mutating func addSlot(_ block: UInt64) {
        let (ready, owned) = (asm.makeLabel(), asm.makeLabel())
        asm.loadZero(.r11, .base(.r12, ContextOffset.cpuSlot), .b32)
        asm.test(.r11, .r11, .w32)
        asm.jumpShort(.notSign, owned)
        asm.store(.base(.r12, ContextOffset.scratch), .rax)
        unsafe callRuntime(address(of: cpuSlotEntry))
        asm.mov(.r11, .rax)
        asm.load(.rax, .base(.r12, ContextOffset.scratch))
        asm.jumpShort(ready)
        asm.bind(owned)
        // Without the mark of a slot that is shared.
        asm.alu(.and, .r11, 0xffff, .w32)
        asm.bind(ready)
        asm.multiply(.r11, .r11, Int32(truncatingIfNeeded: block))
        asm.alu(.add, .rax, .r11)
    }

    /// `bpf_map_lookup_elem` of an array that is known here: an index check and an addition, in a PERCPU_ARRAY two.
    private mutating func inlineArrayLookup() -> Bool {
        guard let session = options.session, let handle = constant(1),
            let map = session.map(handle: UInt64(bitPattern: handle)), case .array? = map.family
        else { return false }
        let values = map.elementsAddress
        let stride = map.elementStride
        let block = map.isPerCPU ? map.elementBlock : 0
        guard stride <= UInt64(Int32.max), block <= UInt64(Int32.max) else { return false }
        // First what goes on living; the key's address is made last, so that nothing moves under it.
        settleAll(layout.live[index + 1] & ~0b11_1111)
        let at = location(2, 0, .b32, isWrite: false)
        let (missing, done) = (asm.makeLabel(), asm.makeLabel())
        asm.loadZero(.rax, at, .b32)
        asm.alu(.cmp, .rax, Int32(bitPattern: map.maxEntries), .w32)
        asm.jumpShort(.aboveEqual, missing)
        if stride & (stride - 1) == 0 {
            asm.shift(.shl, .rax, UInt8(truncatingIfNeeded: stride.trailingZeroBitCount))
        } else {
            asm.multiply(.rax, .rax, Int32(truncatingIfNeeded: stride))
        }
        if map.isPerCPU { addSlot(block) }
        asm.mov(.r11, values)
        asm.alu(.add, .rax, .r11)
        asm.jumpShort(done)
        asm.bind(missing)
        asm.alu(.xor, .rax, .rax, .w32)
        asm.bind(done)
        called()
        return true
    }
}
