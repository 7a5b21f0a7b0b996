/// The general registers of x86-64, with their encoding.
package enum GPR: UInt8, CaseIterable, Sendable {
    case rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi
    case r8, r9, r10, r11, r12, r13, r14, r15

    /// The three bits that stand in an opcode or ModRM byte.
    var low: UInt8 { rawValue & 7 }
    /// The bit that goes into the REX prefix.
    var isExtended: Bool { rawValue >= 8 }
}

/// Width of an operation; results of 32 bits clear the upper half.
package enum OperandWidth: Sendable {
    case w32, w64
}

/// An operand in memory.
package enum Address: Sendable {
    /// `[base + displacement]`
    case base(GPR, Int32)
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

/// Shifts by a constant; the raw value is the digit of their form.
package enum ShiftOperation: UInt8, CaseIterable, Sendable {
    case shl = 4
    case shr = 5
    case sar = 7
}
