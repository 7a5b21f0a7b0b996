/// The general registers of x86-64, with their encoding.
package enum GPR: UInt8, CaseIterable, Sendable {
    case rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi
    case r8, r9, r10, r11, r12, r13, r14, r15

    /// The three bits that stand in an opcode or ModRM byte.
    var low: UInt8 { rawValue & 7 }
    /// The bit that goes into a REX prefix.
    var isExtended: Bool { rawValue >= 8 }
    /// Without a REX prefix the number of the low byte of this register means ah, ch, dh or bh.
    var needsPrefixAsByte: Bool { rawValue >= 4 }
}

/// Width of an operation; results of 32 bits clear the upper half.
package enum OperandWidth: Sendable {
    case w32, w64
}

/// Bytes of a memory access or of a part of a register.
package enum AccessSize: UInt8, CaseIterable, Sendable {
    case b8, b16, b32, b64
}

/// An operand in memory.
package enum Address: Equatable, Sendable {
    /// `[base + displacement]`
    case base(GPR, Int32)
    /// `[base + index << scale + displacement]`; rsp cannot be an index.
    case indexed(GPR, GPR, scale: UInt8, Int32)
    /// `[index << scale + displacement]`
    case scaled(GPR, scale: UInt8, Int32)
    /// `[rip + distance of the label]`
    case label(Label)
}

/// A place in the code, bound now or later.
package struct Label: Equatable, Sendable {
    let index: Int
}

/// Condition codes of jumps, with their encoding (Intel SDM volume 1, appendix B).
package enum Condition: UInt8, CaseIterable, Sendable {
    case overflow, notOverflow, below, aboveEqual, equal, notEqual, belowEqual, above
    case sign, notSign, parity, notParity, less, greaterEqual, lessEqual, greater

    /// The condition that holds where this one does not: the encodings differ in the lowest bit.
    var inverted: Condition { Condition(rawValue: rawValue ^ 1) ?? self }
}

/// Two-operand arithmetic; the raw value is the digit of the immediate forms and bits 3 to 5 of the register ones.
package enum ALUOperation: UInt8, CaseIterable, Sendable {
    case add = 0
    case or = 1
    case and = 4
    case sub = 5
    case xor = 6
    case cmp = 7
}

/// Shifts and rotations; the raw value is the digit of their forms.
package enum ShiftOperation: UInt8, CaseIterable, Sendable {
    case rol = 0
    case ror = 1
    case shl = 4
    case shr = 5
    case sar = 7
}

/// One-operand arithmetic; the raw value is the digit of the form.
package enum UnaryOperation: UInt8, CaseIterable, Sendable {
    case not = 2
    case neg = 3
    /// rdx:rax = rax * operand
    case mul = 4
    /// rax, rdx = rdx:rax / operand, unsigned
    case div = 6
    /// rax, rdx = rdx:rax / operand, signed
    case idiv = 7
}

/// Read-modify-write operations on memory that are atomic with a lock prefix and return the old value.
package enum ExchangeOperation: UInt8, CaseIterable, Sendable {
    /// Adds the register and loads it with the old value.
    case xadd
    /// Stores the register where memory equals rax; rax = the old value.
    case cmpxchg
    /// Swaps; atomic without a prefix.
    case xchg
}
