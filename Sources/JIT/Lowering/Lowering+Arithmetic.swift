internal import ISA

// Arithmetic but division; see RFC 9669 section 4.1.

extension Lowering {
    mutating func arithmetic(_ operation: Operator, _ width: OperandWidth, _ dst: UInt8, immediate: Int64) {
        let register = Int(dst)
        let short = Int32(truncatingIfNeeded: immediate)
        switch operation {
        case .mov:
            set(register, .constant(width == .w64 ? immediate : Int64(UInt32(truncatingIfNeeded: immediate))))
        case .add: add(register, width, short)
        case .sub:
            if short == .min { operate(.sub, width, register, short) } else { add(register, width, -short) }
        case .mul: multiply(register, width, short)
        case .and: and(register, width, short)
        case .or: operate(.or, width, register, short)
        case .xor: operate(.xor, width, register, short)
        case .lsh: shift(register, width, .shl, count: UInt8(truncatingIfNeeded: immediate))
        case .rsh: shift(register, width, .shr, count: UInt8(truncatingIfNeeded: immediate))
        case .arsh: shift(register, width, .sar, count: UInt8(truncatingIfNeeded: immediate))
        case .div: divide(register, width, by: immediate, isSigned: false, wantsRemainder: false)
        case .mod: divide(register, width, by: immediate, isSigned: false, wantsRemainder: true)
        case .sdiv: divide(register, width, by: immediate, isSigned: true, wantsRemainder: false)
        case .smod: divide(register, width, by: immediate, isSigned: true, wantsRemainder: true)
        }
    }

    mutating func arithmetic(_ operation: Operator, _ width: OperandWidth, _ dst: UInt8, register src: UInt8) {
        let (register, operand) = (Int(dst), Int(src))
        switch operation {
        case .mov: move(register, width, operand)
        case .add: add(register, width, from: operand)
        case .sub: operate(.sub, width, register, from: operand)
        case .and: operate(.and, width, register, from: operand)
        case .or: if !rotate(register, operand) { operate(.or, width, register, from: operand) }
        case .xor: operate(.xor, width, register, from: operand)
        case .mul:
            let own = update(register)
            asm.multiply(own, source(operand), width)
            defined(register, zeroUpper: width == .w32)
        case .lsh: shift(register, width, .shl, by: operand)
        case .rsh: shift(register, width, .shr, by: operand)
        case .arsh: shift(register, width, .sar, by: operand)
        case .div: divide(register, width, by: operand, isSigned: false, wantsRemainder: false)
        case .mod: divide(register, width, by: operand, isSigned: false, wantsRemainder: true)
        case .sdiv: divide(register, width, by: operand, isSigned: true, wantsRemainder: false)
        case .smod: divide(register, width, by: operand, isSigned: true, wantsRemainder: true)
        }
    }

    private mutating func move(_ register: Int, _ width: OperandWidth, _ operand: Int) {
        if case .constant(let number) = values[operand] {
            set(register, .constant(width == .w64 ? number : Int64(UInt32(truncatingIfNeeded: number))))
        } else if width == .w64 || hasZeroUpper(operand) {
            if register == operand { return }
            // What stays alive is computed once, not in both places.
            if isLiveAfter(operand), copySource(operand) == nil { settle(operand) }
            if let sum = term(operand) { set(register, .sum(sum)) } else { set(register, .copy(source(operand))) }
        } else {
            set(register, .low32(low(operand)))
        }
    }

    /// A machine register whose low half is that of a BPF register.
    private mutating func low(_ register: Int) -> GPR {
        if case .low32(let source) = values[register] { return source }
        return source(register)
    }

    // MARK: - Addition

    private mutating func add(_ register: Int, _ width: OperandWidth, _ number: Int32) {
        if width == .w32 {
            let from = low(register)
            let own = define(register, reading: register)
            if from == own { asm.alu(.add, own, number, .w32) } else { asm.lea(own, .base(from, number), .w32) }
            defined(register, zeroUpper: true)
        } else if let sum = sum(register)?.adding(Value.Sum(displacement: number)) {
            set(register, .sum(sum))
        } else {
            settle(register)
            set(register, .sum(Value.Sum(base: machine(register), displacement: number)))
        }
    }

    private mutating func add(_ register: Int, _ width: OperandWidth, from operand: Int) {
        if width == .w32 {
            let own = update(register)
            asm.alu(.add, own, low(operand), .w32)
            defined(register, zeroUpper: true)
            return
        }
        if let b = term(operand), let a = sum(register), let sum = a.adding(b) {
            set(register, .sum(sum))
        } else {
            operate(.add, width, register, from: operand)
        }
    }

    // MARK: - The rest

    private mutating func operate(_ operation: ALUOperation, _ width: OperandWidth, _ register: Int, _ number: Int32) {
        let own = update(register)
        let wasZero = isZeroUpper(own)
        asm.alu(operation, own, number, width)
        defined(register, zeroUpper: width == .w32 || wasZero && number >= 0 && operation != .sub && operation != .add)
    }

    private mutating func operate(
        _ operation: ALUOperation,
        _ width: OperandWidth,
        _ register: Int,
        from operand: Int
    ) {
        if width == .w64, let number = constant(operand), let short = Int32(exactly: number), operand != register {
            return operate(operation, .w64, register, short)
        }
        let own = update(register)
        let other = width == .w64 ? source(operand) : low(operand)
        let (first, second) = (isZeroUpper(own), isZeroUpper(other))
        asm.alu(operation, own, other, width)
        let isZero =
            switch operation {
            case .and: first || second
            case .or, .xor: first && second
            case .add, .sub, .cmp: false
            }
        defined(register, zeroUpper: width == .w32 || isZero)
    }

    private mutating func and(_ register: Int, _ width: OperandWidth, _ number: Int32) {
        if number == 0xff || number == 0xffff {
            let from = low(register)
            let own = define(register, reading: register)
            asm.zeroExtend(own, from, number == 0xff ? .b8 : .b16)
            return defined(register, zeroUpper: true)
        }
        // A mask without sign clears the upper half like a 32-bit operation does.
        let own = update(register)
        asm.alu(.and, own, number, number >= 0 ? .w32 : width)
        defined(register, zeroUpper: width == .w32 || number >= 0)
    }

    private mutating func multiply(_ register: Int, _ width: OperandWidth, _ number: Int32) {
        if number > 0, number & (number - 1) == 0 {
            return shift(register, width, .shl, count: UInt8(truncatingIfNeeded: number.trailingZeroBitCount))
        }
        let from = width == .w64 ? source(register) : low(register)
        // x * 3, 5 and 9 are sums.
        if number == 3 || number == 5 || number == 9 {
            let sum = Value.Sum(base: from, index: from, scale: number == 3 ? 1 : number == 5 ? 2 : 3)
            if width == .w64 { return set(register, .sum(sum)) }
            let own = define(register, reading: register)
            asm.lea(own, .indexed(from, from, scale: sum.scale, 0), .w32)
            return defined(register, zeroUpper: true)
        }
        let own = define(register, reading: register)
        if number > 2, (number - 1) & (number - 2) == 0 {
            // x * (2^n + 1): a shift and an addition are faster than a multiplication.
            asm.mov(.r10, from, width)
            asm.shift(.shl, .r10, UInt8(truncatingIfNeeded: (number - 1).trailingZeroBitCount), width)
            if own != from { asm.mov(own, from, width) }
            asm.alu(.add, own, .r10, width)
        } else {
            asm.multiply(own, from, number, width)
        }
        defined(register, zeroUpper: width == .w32)
    }

    mutating func signExtend(_ instruction: LinkedInstruction, _ width: OperandWidth, _ size: Size) {
        let (register, operand) = (Int(instruction.dst), Int(instruction.src))
        let own = define(register, reading: operand)
        asm.signExtend(own, low(operand), AccessSize(size), width)
        defined(register, zeroUpper: width == .w32)
    }

    mutating func byteOrder(_ instruction: LinkedInstruction, _ order: ByteOrder, _ size: Size) {
        let register = Int(instruction.dst)
        if order == .little, size == .b64 { return }
        let own = update(register)
        switch (order, size) {
        case (.little, _): asm.zeroExtend(own, own, AccessSize(size))
        case (_, .b16):
            asm.shift16(.rol, own, 8)
            asm.zeroExtend(own, own, .b16)
        case (_, .b32): asm.byteSwap(own, .w32)
        case (_, .b64), (_, .b8): asm.byteSwap(own, .w64)
        }
        defined(register, zeroUpper: size != .b64)
    }
}
