// Shifts, and the rotations and extensions that compilers make of them.

extension Lowering {
    /// A shift by a constant, of which only the bits that the width allows count.
    mutating func shift(_ register: Int, _ width: OperandWidth, _ operation: ShiftOperation, count whole: UInt8) {
        let count = whole & (width == .w64 ? 63 : 31)
        if count == 0 {
            if width == .w32, !hasZeroUpper(register) { set(register, .low32(source(register))) }
            return
        }
        if width == .w64, case .shifted(let from, isLeft: true, let before, .w64) = values[register], operation != .shl
        {
            if extend(register, from, isSigned: operation == .sar, up: before, down: count) { return }
        }
        if operation == .sar {
            let own = update(register)
            asm.shift(.sar, own, count, width)
            return defined(register, zeroUpper: width == .w32)
        }
        let from: GPR
        if width == .w32, case .low32(let source) = values[register] {
            from = source
        } else if let copied = copySource(register) {
            from = copied
        } else {
            settle(register)
            from = machine(register)
        }
        set(register, .shifted(from, isLeft: operation == .shl, count, width))
    }

    /// A shift left and right again: part of a register, extended to all of it; false where there is nothing better.
    private mutating func extend(_ register: Int, _ from: GPR, isSigned: Bool, up: UInt8, down: UInt8) -> Bool {
        let size: AccessSize
        switch up {
        case 32: size = .b32
        case 48: size = .b16
        case 56: size = .b8
        default: return false
        }
        if !isSigned, size == .b32 {
            if down == 32 {
                set(register, isZeroUpper(from) ? .copy(from) : .low32(from))
                return true
            }
            guard down < 32 else { return false }
            if isZeroUpper(from) {
                set(register, .shifted(from, isLeft: true, 32 - down, .w64))
                return true
            }
            let own = define(register, reading: register)
            asm.mov(own, from, .w32)
            defined(register, zeroUpper: true)
            set(register, .shifted(own, isLeft: true, 32 - down, .w64))
            return true
        }
        guard down == up else { return false }
        let own = define(register, reading: register)
        if isSigned { asm.signExtend(own, from, size) } else { asm.zeroExtend(own, from, size) }
        defined(register, zeroUpper: !isSigned)
        return true
    }

    /// `x << n | x >> (width - n)` as one rotation; false where the two operands are no such pair.
    mutating func rotate(_ register: Int, _ operand: Int) -> Bool {
        guard case .shifted(let first, isLeft: let isLeft, let count, let width) = values[register],
            case .shifted(let second, isLeft: let other, let rest, let otherWidth) = values[operand],
            register != operand, first == second, isLeft != other, width == otherWidth,
            count + rest == (width == .w64 ? 64 : 32)
        else { return false }
        let left = isLeft ? count : rest
        let bits: UInt8 = width == .w64 ? 64 : 32
        let own = define(register, reading: operand)
        if first == own {
            asm.shift(.rol, own, left, width)
        } else if options.features.hasBMI2 {
            asm.rotateCopy(own, first, bits - left, width)
        } else {
            asm.mov(own, first, width)
            asm.shift(.rol, own, left, width)
        }
        // The operand still waits for the old value unless it is dead, in which case it is forgotten here.
        if !isLiveAfter(operand) { markInRegister(operand) }
        defined(register, zeroUpper: width == .w32)
        return true
    }

    /// A shift by a register.
    mutating func shift(_ register: Int, _ width: OperandWidth, _ operation: ShiftOperation, by operand: Int) {
        if let number = constant(operand), operand != register {
            return shift(register, width, operation, count: UInt8(truncatingIfNeeded: number))
        }
        let own = update(register)
        let count = source(operand)
        if options.features.hasBMI2 {
            asm.shiftByRegister(operation, own, own, count: count, width)
        } else if count == .rcx {
            if own == .rcx {
                asm.mov(.r11, .rcx, width)
                asm.shiftByCL(operation, .r11, width)
                asm.mov(.rcx, .r11, width)
            } else {
                asm.shiftByCL(operation, own, width)
            }
        } else if own == .rcx {
            asm.mov(.r11, .rcx)
            asm.mov(.rcx, count)
            asm.shiftByCL(operation, .r11, width)
            asm.mov(.rcx, .r11, width)
        } else {
            asm.mov(.r11, .rcx)
            asm.mov(.rcx, count)
            asm.shiftByCL(operation, own, width)
            asm.mov(.rcx, .r11)
        }
        defined(register, zeroUpper: width == .w32)
    }
}
