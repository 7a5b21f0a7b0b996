import ISA

/// What `dst op operand` can be (RFC 9669 section 4.1); a 32-bit result has a zero upper half.
func apply(_ op: Operator, _ width: Width, _ a: Scalar, _ b: Scalar) -> Scalar {
    if op == .mov { return width == .w64 ? b : b.truncated32 }
    switch width {
    case .w64:
        if let x = a.constant, let y = b.constant { return .constant(evaluate(op, x, y)) }
        if let shortcut = shortcut(op, a.whole, b.whole, a.bits, b.bits) { return shortcut.result(a, b) }
        let counts = b.whole.unsigned.counts
        return Scalar(
            bits: combine(op, a.bits, b.bits, counts),
            whole: op == .lsh ? shiftedLeft(a, b, counts) : a.whole.combined(op, b.whole),
            low: lowHalf(op, a.low, b.low, counts)
        )
        .normalized()
    case .w32:
        if let x = a.constant32, let y = b.constant32 { return .constant(UInt64(evaluate(op, x, y))) }
        if let shortcut = shortcut(op, a.low, b.low, a.bits.cast(4), b.bits.cast(4)) {
            return shortcut.result(a, b).truncated32
        }
        let low = a.low.combined(op, b.low)
        let counts = b.low.unsigned.counts
        let wideCounts = Span(min: UInt64(counts.min), max: UInt64(counts.max))
        // The sign of a half is not that of a word.
        let bits =
            op == .arsh && counts.isConstant
            ? a.bits.cast(4).shiftedRightSigned32(Int(counts.min))
            : combine(op, a.bits.cast(4), b.bits.cast(4), wideCounts).cast(4)
        return Scalar(bits: bits, whole: Bounds(zeroExtending: low), low: low).normalized()
    }
}

/// Cases in which an operand passes through, with all that is known of it.
private enum Shortcut {
    case left, right
    case zeroOrLeft, zeroOrRight
    /// `~left`
    case complement

    func result(_ a: Scalar, _ b: Scalar) -> Scalar {
        switch self {
        case .left: a
        case .right: b
        case .zeroOrLeft: a.union(.constant(0))
        case .zeroOrRight: b.union(.constant(0))
        // -1 - x keeps ranges, which a combination of bits does not.
        case .complement: apply(.sub, .w64, .constant(.max), a)
        }
    }
}

/// Here `x` and `y` are the bits of `a` and `b`.
private func shortcut<W>(_ op: Operator, _ a: Bounds<W>, _ b: Bounds<W>, _ x: Tnum, _ y: Tnum) -> Shortcut? {
    switch op {
    case .and:
        // A mask of everything that may be set, as after a load of that size.
        if x.max & ~y.value == 0 { return .left }
        if y.max & ~x.value == 0 { return .right }
        // A copied sign as mask, which compilers make of `x < 0 ? y : 0`.
        if a.smin == -1, a.smax == 0 { return .zeroOrRight }
        return b.smin == -1 && b.smax == 0 ? .zeroOrLeft : nil
    case .or:
        if y.max == 0 { return .left }
        return x.max == 0 ? .right : nil
    case .xor:
        if y.max == 0 { return .left }
        if x.max == 0 { return .right }
        return b.unsigned.min == .max ? .complement : nil
    case .lsh, .rsh, .arsh: return b.unsigned.counts.max == 0 ? .left : nil
    case .mod: return a.isRemainder(by: b) ? .left : nil
    case .smod: return a.isRemainderSigned(by: b) ? .left : nil
    case .add, .sub, .mul, .div, .sdiv, .mov: return nil
    }
}

/// What of the low half follows from low halves alone.
private func lowHalf(
    _ op: Operator,
    _ a: Bounds<UInt32>,
    _ b: Bounds<UInt32>,
    _ counts: Span<UInt64>
) -> Bounds<UInt32> {
    switch op {
    case .add, .sub, .mul, .or, .and, .xor, .mov: a.combined(op, b)
    case .lsh where counts.isConstant && counts.max < 32: a.shiftedLeft(.constant(UInt32(low: counts.max)))
    case .lsh, .rsh, .arsh, .div, .sdiv, .mod, .smod: .all
    }
}

/// A left shift by half the width or more has only low bits left, whose range may be tighter.
private func shiftedLeft(_ a: Scalar, _ b: Scalar, _ counts: Span<UInt64>) -> Bounds<UInt64> {
    var result = a.whole.shiftedLeft(counts)
    if counts.isConstant, counts.min >= 32 {
        let (unsigned, signed) = (a.low.unsigned, a.low.signedArc)
        let count = Int(counts.min)
        if let arc = Span(min: unsigned.min.wide, max: unsigned.max.wide).shiftedLeft(count) { result.clamp(arc) }
        let words = Span(min: UInt64(signed: Int64(signed.min.signed)), max: UInt64(signed: Int64(signed.max.signed)))
        if let arc = words.shiftedLeft(count) { result.clamp(arc) }
    }
    return result
}

/// What is known of a result's bits; for halves, whose upper bits are zero, everything but `arsh`.
private func combine(_ op: Operator, _ a: Tnum, _ b: Tnum, _ counts: Span<UInt64>) -> Tnum {
    switch op {
    case .add: return a.add(b)
    case .sub: return a.sub(b)
    case .mul: return a.mul(b)
    case .or: return a.or(b)
    case .and: return a.and(b)
    case .xor: return a.xor(b)
    case .lsh:
        if counts.isConstant { return a.shiftedLeft(Int(counts.min)) }
        return Tnum.unknown.shiftedLeft(min(63, a.max.trailingZeroBitCount + Int(counts.min)))
    case .rsh: return counts.isConstant ? a.shiftedRight(Int(counts.min)) : .unknown
    case .arsh: return counts.isConstant ? a.shiftedRightSigned(Int(counts.min)) : .unknown
    case .div:
        return b.powerOfTwo.map { a.shiftedRight($0) } ?? .unknown
    case .mod:
        if let power = b.powerOfTwo { return a.and(.constant(Tnum.lowBits(power))) }
        return remainder(a, b)
    case .smod: return remainder(a, b)
    case .sdiv: return .unknown
    case .mov: return b
    }
}

/// A power of two that divides both operands divides the remainder.
private func remainder(_ a: Tnum, _ b: Tnum) -> Tnum {
    Tnum.unknown.shiftedLeft(min(63, min(a.max.trailingZeroBitCount, b.max.trailingZeroBitCount)))
}

extension Tnum {
    /// The exponent of the only word.
    fileprivate var powerOfTwo: Int? {
        isConstant && value.nonzeroBitCount == 1 ? value.trailingZeroBitCount : nil
    }
}

/// The operation on known words.
func evaluate<W: Word>(_ op: Operator, _ x: W, _ y: W) -> W {
    switch op {
    case .add: x &+ y
    case .sub: x &- y
    case .mul: x &* y
    case .or: x | y
    case .and: x & y
    case .xor: x ^ y
    case .mov: y
    case .lsh: x &<< y
    case .rsh: x &>> y
    case .arsh: W(signed: x.signed &>> y.signed)
    case .div: y == 0 ? 0 : x / y
    case .mod: y == 0 ? x : x % y
    case .sdiv: y == 0 ? 0 : W(signed: x.signed.dividedReportingOverflow(by: y.signed).partialValue)
    case .smod: y == 0 ? x : W(signed: x.signed.remainderReportingOverflow(dividingBy: y.signed).partialValue)
    }
}
