package import ISA

// What operations mean, written from RFC 9669 in 128-bit arithmetic that cannot overflow; shares nothing with the VM.

/// The low `bits` bits as an unsigned number.
private func unsigned(_ value: UInt64, _ bits: Int) -> Int128 {
    Int128(value) & ((Int128(1) << bits) - 1)
}

/// The low `bits` bits as a two's complement number.
private func signed(_ value: UInt64, _ bits: Int) -> Int128 {
    let low = unsigned(value, bits)
    return low >> (bits - 1) == 1 ? low - (Int128(1) << bits) : low
}

/// A number as register contents: the low `bits` bits, zero-extended.
private func register(_ value: Int128, _ bits: Int) -> UInt64 {
    UInt64(value & ((Int128(1) << bits) - 1))
}

/// `a op b` in a register (RFC 9669 section 4.1).
package func model(_ operation: Operator, _ width: Width, _ a: UInt64, _ b: UInt64) -> UInt64 {
    let bits = width == .w64 ? 64 : 32
    let (x, y) = (unsigned(a, bits), unsigned(b, bits))
    let (s, t) = (signed(a, bits), signed(b, bits))
    let shift = Int(y % Int128(bits))
    let result: Int128 =
        switch operation {
        case .add: x + y
        case .sub: x - y
        case .mul: Int128(truncatingIfNeeded: UInt128(x).multipliedFullWidth(by: UInt128(y)).low)
        case .div: y == 0 ? 0 : x / y
        case .sdiv: t == 0 ? 0 : s / t
        case .or: x | y
        case .and: x & y
        case .lsh: Int128(truncatingIfNeeded: UInt128(x) << UInt128(shift))
        case .rsh: x >> Int128(shift)
        case .mod: y == 0 ? x : x % y
        case .smod: t == 0 ? s : s % t
        case .xor: x ^ y
        case .mov: y
        case .arsh: s >> Int128(shift)
        }
    return register(result, bits)
}

/// `-a`.
package func modelNegate(_ width: Width, _ a: UInt64) -> UInt64 { model(.sub, width, 0, a) }

/// `(s8|s16|s32)a` in a register.
package func modelSignExtend(_ width: Width, from size: Size, _ a: UInt64) -> UInt64 {
    register(signed(a, size.bits), width == .w64 ? 64 : 32)
}

/// The low bytes of `a`, reversed unless already in order.
package func modelByteOrder(_ order: ByteOrder, _ size: Size, _ a: UInt64) -> UInt64 {
    let low = (0..<size.bytes).map { a >> UInt64(8 * $0) & 0xff }
    switch order {
    case .little: return low.enumerated().reduce(0) { $0 | $1.element << UInt64(8 * $1.offset) }
    case .big, .swap: return low.reduce(0) { $0 << 8 | $1 }
    }
}

/// Whether a conditional jump is taken (RFC 9669 section 4.3).
package func model(_ comparison: Comparison, _ width: Width, _ a: UInt64, _ b: UInt64) -> Bool {
    let bits = width == .w64 ? 64 : 32
    let (x, y) = (unsigned(a, bits), unsigned(b, bits))
    let (s, t) = (signed(a, bits), signed(b, bits))
    return switch comparison {
    case .equal: x == y
    case .notEqual: x != y
    case .greater: x > y
    case .greaterEqual: x >= y
    case .less: x < y
    case .lessEqual: x <= y
    case .set: x & y != 0
    case .signedGreater: s > t
    case .signedGreaterEqual: s >= t
    case .signedLess: s < t
    case .signedLessEqual: s <= t
    }
}
