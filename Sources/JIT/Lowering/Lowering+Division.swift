internal import ISA

// Division and remainder: x86 wants its operands in rax and rdx, and traps where BPF defines a result.

extension Lowering {
    /// What a division has to put back: rax is saved in r10, rdx in r11, where their registers are needed afterwards.
    private struct Saved {
        let dividend: GPR
        let savesRax: Bool
        let savesRdx: Bool
    }

    private mutating func save(_ register: Int, divisor: GPR? = nil) -> Saved {
        let own = machine(register)
        let savesRax = own != .rax && isLiveAfter(0)
        let savesRdx = own != .rdx && isLiveAfter(3)
        if savesRax || divisor == .rax { asm.mov(.r10, .rax) }
        if savesRdx || divisor == .rdx { asm.mov(.r11, .rdx) }
        return Saved(dividend: own, savesRax: savesRax, savesRdx: savesRdx)
    }

    private mutating func restore(_ saved: Saved) {
        if saved.savesRax { asm.mov(.rax, .r10) }
        if saved.savesRdx { asm.mov(.rdx, .r11) }
    }

    mutating func divide(_ register: Int, _ width: OperandWidth, by operand: Int, isSigned: Bool, wantsRemainder: Bool)
    {
        if let number = constant(operand), operand != register {
            return divide(register, width, by: number, isSigned: isSigned, wantsRemainder: wantsRemainder)
        }
        flush(layout.live[index])
        let own = machine(register)
        let divisor = machine(operand)
        let (done, zero, minusOne) = (asm.makeLabel(), asm.makeLabel(), asm.makeLabel())
        asm.test(divisor, divisor, width)
        asm.jumpShort(.equal, zero)
        if isSigned {
            asm.alu(.cmp, divisor, -1, width)
            asm.jumpShort(.equal, minusOne)
        }
        let saved = save(register, divisor: divisor)
        if own != .rax { asm.mov(.rax, own, width) }
        if isSigned { asm.signExtendAccumulator(width) } else { asm.alu(.xor, .rdx, .rdx, .w32) }
        asm.unary(isSigned ? .idiv : .div, divisor == .rax ? .r10 : divisor == .rdx ? .r11 : divisor, width)
        let result: GPR = wantsRemainder ? .rdx : .rax
        if own != result { asm.mov(own, result, width) }
        restore(saved)
        asm.jumpShort(done)
        asm.bind(minusOne)
        if isSigned {
            if wantsRemainder { asm.alu(.xor, own, own, .w32) } else { asm.unary(.neg, own, width) }
            asm.jumpShort(done)
        }
        asm.bind(zero)
        if !wantsRemainder { asm.alu(.xor, own, own, .w32) } else if width == .w32 { asm.mov(own, own, .w32) }
        asm.bind(done)
        defined(register, zeroUpper: width == .w32)
    }

    mutating func divide(
        _ register: Int,
        _ width: OperandWidth,
        by immediate: Int64,
        isSigned: Bool,
        wantsRemainder: Bool
    ) {
        let number = width == .w64 ? immediate : Int64(Int32(truncatingIfNeeded: immediate))
        if number == 0 {
            if !wantsRemainder { return set(register, .constant(0)) }
            if width == .w32 { arithmetic(.mov, .w32, UInt8(register), register: UInt8(register)) }
            return
        }
        if isSigned {
            signedDivide(register, width, by: number, wantsRemainder: wantsRemainder)
        } else {
            let divisor = width == .w64 ? UInt64(bitPattern: number) : UInt64(UInt32(truncatingIfNeeded: number))
            unsignedDivide(register, width, by: divisor, wantsRemainder: wantsRemainder)
        }
    }

    private mutating func signedDivide(
        _ register: Int,
        _ width: OperandWidth,
        by number: Int64,
        wantsRemainder: Bool
    ) {
        let own = update(register)
        if number == 1 || number == -1 {
            if wantsRemainder { return set(register, .constant(0)) }
            if number == -1 { asm.unary(.neg, own, width) } else if width == .w32 { asm.mov(own, own, .w32) }
            return defined(register, zeroUpper: width == .w32)
        }
        flush(layout.live[index])
        // Both scratch registers may be taken by what is saved, so the divisor goes to memory, in halves.
        let saved = save(register)
        if own != .rax { asm.mov(.rax, own, width) }
        asm.signExtendAccumulator(width)
        let place = ContextOffset.scratch
        asm.store(.base(.r12, place), immediate: Int32(truncatingIfNeeded: number), size: .b32)
        asm.store(.base(.r12, place + 4), immediate: Int32(truncatingIfNeeded: number >> 32), size: .b32)
        asm.divide(.base(.r12, ContextOffset.scratch), width)
        let result: GPR = wantsRemainder ? .rdx : .rax
        if own != result { asm.mov(own, result, width) }
        restore(saved)
        defined(register, zeroUpper: width == .w32)
    }

    private mutating func unsignedDivide(
        _ register: Int,
        _ width: OperandWidth,
        by divisor: UInt64,
        wantsRemainder: Bool
    ) {
        if divisor & (divisor - 1) == 0 {
            let bits = UInt8(truncatingIfNeeded: divisor.trailingZeroBitCount)
            if !wantsRemainder { return shift(register, width, .shr, count: bits) }
            let mask = Int64(bitPattern: divisor - 1)
            if let short = Int32(exactly: mask) {
                return arithmetic(.and, width, UInt8(register), immediate: Int64(short))
            }
            let own = update(register)
            asm.mov(.r11, UInt64(bitPattern: mask))
            asm.alu(.and, own, .r11, width)
            return defined(register, zeroUpper: width == .w32)
        }
        flush(layout.live[index] | 1 << UInt16(register))
        let own = machine(register)
        let saved = save(register)
        // The dividend is needed behind the multiplication, which changes rax and rdx.
        let dividend: GPR = own == .rax ? .r10 : own == .rdx ? .r11 : own
        if dividend != own || width == .w32 { asm.mov(dividend, own, width) }
        let magic = Reciprocal(divisor, width)
        asm.mov(.rax, magic.multiplier)
        asm.unary(.mul, dividend)
        if magic.adds {
            asm.mov(.rax, dividend)
            asm.alu(.sub, .rax, .rdx)
            asm.shift(.shr, .rax, 1)
            asm.alu(.add, .rdx, .rax)
        }
        if magic.shift != 0 { asm.shift(.shr, .rdx, magic.shift) }
        if wantsRemainder {
            if let short = Int32(exactly: Int64(bitPattern: divisor)) {
                asm.multiply(.rdx, .rdx, short)
            } else {
                asm.mov(.rax, divisor)
                asm.multiply(.rdx, .rax)
            }
            asm.mov(.rax, dividend)
            asm.alu(.sub, .rax, .rdx)
            if own != .rax { asm.mov(own, .rax) }
        } else if own != .rdx {
            asm.mov(own, .rdx)
        }
        restore(saved)
        defined(register, zeroUpper: width == .w32)
    }
}

/// Division by a constant as a multiplication: the quotient is the upper half of the product, shifted.
///
/// Source: Granlund and Montgomery, "Division by Invariant Integers using Multiplication", 1994; for 32 bits, Lemire,
/// "Faster Remainder by Direct Computation", 2019.
struct Reciprocal: Equatable {
    let multiplier: UInt64
    let shift: UInt8
    /// The multiplier lacks its 65th bit: half of the difference to the dividend is added before the shift.
    let adds: Bool

    /// The divisor must not be a power of two.
    init(_ divisor: UInt64, _ width: OperandWidth) {
        guard width == .w64 else {
            multiplier = UInt64.max / divisor + 1
            shift = 0
            adds = false
            return
        }
        let log = 63 - divisor.leadingZeroBitCount
        let (quotient, remainder) = divisor.dividingFullWidth((1 << UInt64(log), 0))
        shift = UInt8(log)
        if divisor - remainder < 1 << UInt64(log) {
            multiplier = quotient + 1
            adds = false
            return
        }
        let (twice, overflow) = remainder.addingReportingOverflow(remainder)
        multiplier = quotient &* 2 &+ (overflow || twice >= divisor ? 1 : 0) &+ 1
        adds = true
    }
}
