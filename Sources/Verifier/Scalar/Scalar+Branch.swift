import ISA

/// Whether a conditional jump (RFC 9669 section 4.3) is always or never taken; nil where that is open.
func decide(_ comparison: Comparison, _ width: Width, _ a: Scalar, _ b: Scalar) -> Bool? {
    switch width {
    case .w64:
        if comparison == .equal || comparison == .notEqual {
            // The low halves may differ where the words' ranges do not tell.
            guard let equal = equal(a.whole, b.whole, a.bits, b.bits) ?? different(a.low, b.low) else { return nil }
            return equal == (comparison == .equal)
        }
        return decide(comparison, a.whole, b.whole, a.bits, b.bits)
    case .w32: return decide(comparison, a.low, b.low, a.bits.cast(4), b.bits.cast(4))
    }
}

private func decide<W>(_ comparison: Comparison, _ a: Bounds<W>, _ b: Bounds<W>, _ x: Tnum, _ y: Tnum) -> Bool? {
    switch comparison {
    case .equal: equal(a, b, x, y)
    case .notEqual: equal(a, b, x, y).map { !$0 }
    case .set: x.value & y.value != 0 ? true : x.max & y.max == 0 ? false : nil
    case .greater: less(b.unsigned, a.unsigned)
    case .less: less(a.unsigned, b.unsigned)
    case .greaterEqual: less(a.unsigned, b.unsigned).map { !$0 }
    case .lessEqual: less(b.unsigned, a.unsigned).map { !$0 }
    case .signedGreater: less(b.flipped, a.flipped)
    case .signedLess: less(a.flipped, b.flipped)
    case .signedGreaterEqual: less(a.flipped, b.flipped).map { !$0 }
    case .signedLessEqual: less(b.flipped, a.flipped).map { !$0 }
    }
}

private func less<W>(_ a: Span<W>, _ b: Span<W>) -> Bool? {
    if a.max < b.min { return true }
    return a.min >= b.max ? false : nil
}

private func equal<W>(_ a: Bounds<W>, _ b: Bounds<W>, _ x: Tnum, _ y: Tnum) -> Bool? {
    if a.unsigned.isConstant, a.unsigned == b.unsigned { return true }
    return x.intersect(y) == nil ? false : different(a, b)
}

/// False where no word is in both, nil where one may be.
private func different<W>(_ a: Bounds<W>, _ b: Bounds<W>) -> Bool? {
    let isApart =
        a.unsigned.max < b.unsigned.min || b.unsigned.max < a.unsigned.min
        || a.flipped.max < b.flipped.min || b.flipped.max < a.flipped.min
    return isApart ? false : nil
}

/// The operands where a conditional jump is taken, or is not; nil if that cannot happen.
///
/// At least as precise as Linux `regs_refine_cond_op`.
func refine(_ comparison: Comparison, _ width: Width, _ a: Scalar, _ b: Scalar, taken: Bool) -> (Scalar, Scalar)? {
    if let x = a.constant, let y = b.constant {
        return decide(comparison, width, .constant(x), .constant(y)) == taken ? (a, b) : nil
    }
    var (left, right) = (a, b)
    switch width {
    case .w64:
        if comparison == (taken ? .equal : .notEqual) { return a.intersect(b).map { ($0, $0) } }
        guard narrow(comparison, &left.whole, &right.whole, taken) else { return nil }
    case .w32:
        guard narrow(comparison, &left.low, &right.low, taken) else { return nil }
        if comparison == (taken ? .equal : .notEqual) {
            guard let bits = a.bits.cast(4).intersect(b.bits.cast(4)) else { return nil }
            left.bits = a.bits.withLow(bits)
            right.bits = b.bits.withLow(bits)
        }
    }
    if comparison == .set {
        let bytes = width == .w64 ? 8 : 4
        guard left.bits.meet(b.bits.cast(bytes), taken), right.bits.meet(a.bits.cast(bytes), taken) else { return nil }
    }
    guard left.normalize(), right.normalize() else { return nil }
    return (left, right)
}

/// Narrows the ranges to where the comparison comes out as `taken`; false if that is nowhere.
private func narrow<W>(_ comparison: Comparison, _ a: inout Bounds<W>, _ b: inout Bounds<W>, _ taken: Bool) -> Bool {
    switch comparison {
    case .equal, .notEqual:
        if (comparison == .equal) == taken {
            a.intersect(b)
            b = a
        } else {
            let (first, second) = (a.unsigned, b.unsigned)
            if second.isConstant { a.remove(second.min) }
            if first.isConstant { b.remove(first.min) }
        }
        return !a.isEmpty && !b.isEmpty
    case .set:
        if taken {
            a.remove(0)
            b.remove(0)
        }
        return !a.isEmpty && !b.isEmpty
    case .less: return order(&a.unsigned, &b.unsigned, less: taken, orEqual: !taken)
    case .lessEqual: return order(&a.unsigned, &b.unsigned, less: taken, orEqual: taken)
    case .greater: return order(&a.unsigned, &b.unsigned, less: !taken, orEqual: !taken)
    case .greaterEqual: return order(&a.unsigned, &b.unsigned, less: !taken, orEqual: taken)
    case .signedLess: return order(&a.flipped, &b.flipped, less: taken, orEqual: !taken)
    case .signedLessEqual: return order(&a.flipped, &b.flipped, less: taken, orEqual: taken)
    case .signedGreater: return order(&a.flipped, &b.flipped, less: !taken, orEqual: !taken)
    case .signedGreaterEqual: return order(&a.flipped, &b.flipped, less: !taken, orEqual: taken)
    }
}

private func order<W>(_ a: inout Span<W>, _ b: inout Span<W>, less: Bool, orEqual: Bool) -> Bool {
    less ? Span.order(&a, &b, orEqual: orEqual) : Span.order(&b, &a, orEqual: orEqual)
}

extension Tnum {
    /// Keeps words that have a set bit in common with some word of `other`, or with none of them if not `taken`.
    fileprivate mutating func meet(_ other: Tnum, _ taken: Bool) -> Bool {
        if !taken {
            // What is one in every word there has to be zero here.
            mask &= ~other.value
            return value & other.value == 0
        }
        let common = max & other.max
        if common.nonzeroBitCount == 1 {
            value |= common
            mask &= ~common
        }
        return common != 0
    }
}
