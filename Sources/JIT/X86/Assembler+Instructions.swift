// Moves, loads, stores, calls and jumps.

extension Assembler {
    @inline(never)
    package mutating func push(_ register: GPR) { emit(Form.push.encoding, register: register) }
    /// Pushes a sign-extended immediate.
    package mutating func push(_ immediate: Int32) { emit(Form.pushImmediate.encoding, immediate: Int64(immediate)) }
    @inline(never)
    package mutating func pop(_ register: GPR) { emit(Form.pop.encoding, register: register) }

    /// `mov dst, immediate` in the shortest form.
    @inline(never)
    package mutating func mov(_ dst: GPR, _ immediate: UInt64) {
        if immediate <= UInt64(UInt32.max) {
            emit(Form.moveImmediate32.encoding, register: dst, immediate: Int64(immediate))
        } else if let short = Int32(exactly: Int64(bitPattern: immediate)) {
            emit(Form.moveSignExtended.encoding, isWide: true, target: .register(dst), immediate: Int64(short))
        } else {
            emit(
                Form.moveImmediate64.encoding,
                isWide: true,
                register: dst,
                immediate: Int64(bitPattern: immediate)
            )
        }
    }
    @inline(never)
    package mutating func mov(_ dst: GPR, _ src: GPR, _ width: OperandWidth = .w64) {
        emit(Form.move.encoding, isWide: width == .w64, register: src, target: .register(dst))
    }
    @inline(never)
    package mutating func load(_ dst: GPR, _ address: Address, _ width: OperandWidth = .w64) {
        emit(Form.load.encoding, isWide: width == .w64, register: dst, target: .memory(address))
    }
    @inline(never)
    package mutating func store(_ address: Address, _ src: GPR, _ width: OperandWidth = .w64) {
        emit(Form.store.encoding, isWide: width == .w64, register: src, target: .memory(address))
    }
    @inline(never)
    package mutating func lea(_ dst: GPR, _ address: Address, _ width: OperandWidth = .w64) {
        emit(Form.lea.encoding, isWide: width == .w64, register: dst, target: .memory(address))
    }

    /// Loads `size` bytes, zero-extended.
    package mutating func loadZero(_ dst: GPR, _ address: Address, _ size: AccessSize) {
        switch size {
        case .b8: emit(Form.loadZero8.encoding, register: dst, target: .memory(address))
        case .b16: emit(Form.loadZero16.encoding, register: dst, target: .memory(address))
        case .b32: load(dst, address, .w32)
        case .b64: load(dst, address, .w64)
        }
    }
    /// Loads `size` bytes, sign-extended to 64 bits.
    package mutating func loadSigned(_ dst: GPR, _ address: Address, _ size: AccessSize) {
        switch size {
        case .b8: emit(Form.loadSigned8.encoding, isWide: true, register: dst, target: .memory(address))
        case .b16: emit(Form.loadSigned16.encoding, isWide: true, register: dst, target: .memory(address))
        case .b32: emit(Form.loadSigned32.encoding, isWide: true, register: dst, target: .memory(address))
        case .b64: load(dst, address, .w64)
        }
    }
    /// Stores the low `size` bytes of a register.
    package mutating func store(_ address: Address, _ src: GPR, size: AccessSize) {
        switch size {
        case .b8: emit(Form.store8.encoding, isByte: true, register: src, target: .memory(address))
        case .b16: emit(Form.store16.encoding, register: src, target: .memory(address))
        case .b32: store(address, src, .w32)
        case .b64: store(address, src, .w64)
        }
    }
    /// Stores the low `size` bytes of a number, which is sign-extended for 8 bytes.
    package mutating func store(_ address: Address, immediate: Int32, size: AccessSize) {
        let target = Target.memory(address)
        let value = Int64(immediate)
        switch size {
        case .b8: emit(Form.storeImmediate8.encoding, target: target, immediate: value)
        case .b16: emit(Form.storeImmediate16.encoding, target: target, immediate: value)
        case .b32: emit(Form.storeImmediate32.encoding, target: target, immediate: value)
        case .b64: emit(Form.storeImmediate32.encoding, isWide: true, target: target, immediate: value)
        }
    }
    /// The low `size` bytes of a register, zero-extended to 64 bits.
    package mutating func zeroExtend(_ dst: GPR, _ src: GPR, _ size: AccessSize) {
        switch size {
        case .b8: emit(Form.loadZero8.encoding, isByte: true, register: dst, target: .register(src))
        case .b16: emit(Form.loadZero16.encoding, register: dst, target: .register(src))
        case .b32: mov(dst, src, .w32)
        case .b64: mov(dst, src, .w64)
        }
    }
    /// The low `size` bytes of a register, sign-extended to `width`.
    package mutating func signExtend(_ dst: GPR, _ src: GPR, _ size: AccessSize, _ width: OperandWidth = .w64) {
        let isWide = width == .w64
        switch size {
        case .b8: emit(Form.loadSigned8.encoding, isWide: isWide, isByte: true, register: dst, target: .register(src))
        case .b16: emit(Form.loadSigned16.encoding, isWide: isWide, register: dst, target: .register(src))
        case .b32:
            if isWide {
                emit(Form.loadSigned32.encoding, isWide: true, register: dst, target: .register(src))
            } else {
                mov(dst, src, .w32)
            }
        case .b64: mov(dst, src, .w64)
        }
    }

    // MARK: - Control flow

    package mutating func jump(_ label: Label) { branch(Form.jump.encoding, label) }
    /// A jump of two bytes; the label must be near.
    package mutating func jumpShort(_ label: Label) { branch(Form.jumpShort.encoding, label) }
    @inline(never)
    package mutating func jump(_ condition: Condition, _ label: Label) {
        branch(Form.jumpIf(condition).encoding, label)
    }
    /// A conditional jump of two bytes; the label must be near.
    package mutating func jumpShort(_ condition: Condition, _ label: Label) {
        branch(Form.jumpIfShort(condition).encoding, label)
    }
    /// A jump to the address that a memory word holds.
    package mutating func jump(_ address: Address) { emit(Form.jumpIndirect.encoding, target: .memory(address)) }
    package mutating func jump(_ register: GPR) { emit(Form.jumpIndirect.encoding, target: .register(register)) }
    package mutating func call(_ label: Label) { branch(Form.call.encoding, label) }
    /// A call of the address that a memory word holds.
    package mutating func call(_ address: Address) { emit(Form.callIndirect.encoding, target: .memory(address)) }
    package mutating func call(_ register: GPR) { emit(Form.callIndirect.encoding, target: .register(register)) }
    @inline(never)
    package mutating func ret() { emit(Form.ret.encoding) }
    package mutating func ud2() { emit(Form.ud2.encoding) }

    /// A jump to an absolute address, which must be within 2 GiB of the code.
    package mutating func jump(absolute target: UInt64) throws(CodeError) { try direct(Form.jump.encoding, target) }
    /// A call of an absolute address, which must be within 2 GiB of the code.
    package mutating func call(absolute target: UInt64) throws(CodeError) { try direct(Form.call.encoding, target) }

    private mutating func direct(_ form: FormEncoding, _ target: UInt64) throws(CodeError) {
        let end = buffer.address &+ UInt64(buffer.count + 5)
        guard let distance = Int32(exactly: Int64(bitPattern: target &- end)) else {
            throw .tooFar(offset: buffer.count, bytes: 4)
        }
        emit(form, immediate: Int64(distance))
    }

    /// `count` bytes that do nothing, in the instructions that the Intel SDM recommends (volume 2, NOP).
    package mutating func nop(_ count: Int = 1) {
        var rest = count
        while rest > 0 {
            let length = min(rest, 9)
            switch length {
            case 1: bytes(0x90)
            case 2: bytes(0x66, 0x90)
            case 3: bytes(0x0f, 0x1f, 0x00)
            case 4: bytes(0x0f, 0x1f, 0x40, 0x00)
            case 5: bytes(0x0f, 0x1f, 0x44, 0x00, 0x00)
            case 6: bytes(0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00)
            case 7: bytes(0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00)
            case 8: bytes(0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00)
            default: bytes(0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00)
            }
            rest -= length
        }
    }

    /// Fills up with nops to a multiple of `boundary` bytes.
    package mutating func align(_ boundary: Int) {
        let rest = buffer.count & (boundary - 1)
        if rest != 0 { nop(boundary - rest) }
    }
}
