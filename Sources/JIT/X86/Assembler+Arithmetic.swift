// Arithmetic, comparison and atomic instructions.

extension Assembler {
    @inline(never)
    package mutating func alu(_ operation: ALUOperation, _ dst: GPR, _ src: GPR, _ width: OperandWidth = .w64) {
        emit(Form.alu(operation).encoding, isWide: width == .w64, register: src, target: .register(dst))
    }
    /// Arithmetic with a sign-extended immediate.
    @inline(never)
    package mutating func alu(
        _ operation: ALUOperation,
        _ dst: GPR,
        _ immediate: Int32,
        _ width: OperandWidth = .w64
    ) { aluImmediate(operation, .register(dst), immediate, width) }
    /// `register = register op memory`; for `cmp` only the flags.
    @inline(never)
    package mutating func alu(
        _ operation: ALUOperation,
        _ dst: GPR,
        _ address: Address,
        _ width: OperandWidth = .w64
    ) { emit(Form.aluLoad(operation).encoding, isWide: width == .w64, register: dst, target: .memory(address)) }
    /// `memory = memory op immediate`; for `cmp` only the flags.
    @inline(never)
    package mutating func alu(
        _ operation: ALUOperation,
        _ address: Address,
        _ immediate: Int32,
        _ width: OperandWidth = .w64
    ) { aluImmediate(operation, .memory(address), immediate, width) }
    /// `lock op memory, register`.
    package mutating func atomic(
        _ operation: ALUOperation,
        _ address: Address,
        _ src: GPR,
        _ width: OperandWidth = .w64
    ) {
        emit(
            Form.alu(operation).encoding.with(.lock),
            isWide: width == .w64,
            register: src,
            target: .memory(address)
        )
    }

    private mutating func aluImmediate(
        _ operation: ALUOperation,
        _ target: Target,
        _ immediate: Int32,
        _ width: OperandWidth
    ) {
        let isWide = width == .w64
        if immediate >= -128, immediate <= 127 {
            emit(Form.aluImmediate8(operation).encoding, isWide: isWide, target: target, immediate: Int64(immediate))
        } else {
            emit(Form.aluImmediate32(operation).encoding, isWide: isWide, target: target, immediate: Int64(immediate))
        }
    }

    package mutating func multiply(_ dst: GPR, _ src: GPR, _ width: OperandWidth = .w64) {
        emit(Form.multiply.encoding, isWide: width == .w64, register: dst, target: .register(src))
    }
    /// `dst = src * immediate`.
    package mutating func multiply(_ dst: GPR, _ src: GPR, _ immediate: Int32, _ width: OperandWidth = .w64) {
        let form: Form = immediate >= -128 && immediate <= 127 ? .multiplyImmediate8 : .multiplyImmediate32
        emit(
            form.encoding,
            isWide: width == .w64,
            register: dst,
            target: .register(src),
            immediate: Int64(immediate)
        )
    }
    package mutating func unary(_ operation: UnaryOperation, _ register: GPR, _ width: OperandWidth = .w64) {
        emit(Form.unary(operation).encoding, isWide: width == .w64, target: .register(register))
    }
    /// rdx (edx) = the sign of rax (eax): cqo, cdq.
    package mutating func signExtendAccumulator(_ width: OperandWidth = .w64) {
        emit(Form.signExtendAccumulator.encoding, isWide: width == .w64)
    }

    package mutating func shift(
        _ operation: ShiftOperation,
        _ dst: GPR,
        _ count: UInt8,
        _ width: OperandWidth = .w64
    ) {
        emit(
            Form.shift(operation).encoding,
            isWide: width == .w64,
            target: .register(dst),
            immediate: Int64(count)
        )
    }
    /// A shift of the low 16 bits.
    package mutating func shift16(_ operation: ShiftOperation, _ dst: GPR, _ count: UInt8) {
        emit(Form.shift16(operation).encoding, target: .register(dst), immediate: Int64(count))
    }
    /// A shift by cl.
    package mutating func shiftByCL(_ operation: ShiftOperation, _ dst: GPR, _ width: OperandWidth = .w64) {
        emit(Form.shiftByCL(operation).encoding, isWide: width == .w64, target: .register(dst))
    }
    /// `dst = src op count` without flags: shlx, shrx, sarx; needs BMI2.
    package mutating func shiftByRegister(
        _ operation: ShiftOperation,
        _ dst: GPR,
        _ src: GPR,
        count: GPR,
        _ width: OperandWidth = .w64
    ) {
        emitVEX(
            Form.shiftByRegister(operation).encoding,
            isWide: width == .w64,
            register: dst,
            third: count,
            target: src
        )
    }
    /// `dst = src` rotated right by a constant: rorx; needs BMI2.
    package mutating func rotateCopy(_ dst: GPR, _ src: GPR, _ count: UInt8, _ width: OperandWidth = .w64) {
        emitVEX(
            Form.rotateCopy.encoding,
            isWide: width == .w64,
            register: dst,
            third: nil,
            target: src,
            immediate: Int64(count)
        )
    }
    package mutating func byteSwap(_ register: GPR, _ width: OperandWidth = .w64) {
        emit(Form.byteSwap.encoding, isWide: width == .w64, register: register)
    }

    package mutating func test(_ a: GPR, _ b: GPR, _ width: OperandWidth = .w64) {
        emit(Form.test.encoding, isWide: width == .w64, register: b, target: .register(a))
    }
    /// `test` with a sign-extended immediate.
    package mutating func test(_ a: GPR, _ immediate: Int32, _ width: OperandWidth = .w64) {
        emit(
            Form.testImmediate.encoding,
            isWide: width == .w64,
            target: .register(a),
            immediate: Int64(immediate)
        )
    }

    /// An atomic operation that returns the old value.
    package mutating func exchange(
        _ operation: ExchangeOperation,
        _ address: Address,
        _ register: GPR,
        _ width: OperandWidth = .w64
    ) {
        emit(
            Form.exchange(operation).encoding,
            isWide: width == .w64,
            register: register,
            target: .memory(address)
        )
    }
}

extension Assembler {
    /// rax, rdx = rdx:rax / memory, signed.
    package mutating func divide(_ address: Address, _ width: OperandWidth = .w64) {
        emit(Form.unary(.idiv).encoding, isWide: width == .w64, target: .memory(address))
    }
}
