import ISA

extension Bounds {
    /// The ranges of `self op other`.
    func combined(_ op: Operator, _ other: Bounds) -> Bounds {
        switch op {
        case .add: adding(other)
        case .sub: subtracting(other)
        case .mul: multiplied(by: other)
        case .div: divided(by: other)
        case .sdiv: dividedSigned(by: other)
        case .mod: remainder(by: other)
        case .smod: remainderSigned(by: other)
        case .or: oring(other)
        case .and: anding(other)
        case .xor: xoring(other)
        case .lsh: shiftedLeft(other.unsigned.counts)
        case .rsh: shiftedRight(other.unsigned.counts)
        case .arsh: shiftedRightSigned(other.unsigned.counts)
        case .mov: other
        }
    }

    func adding(_ other: Bounds) -> Bounds {
        var result = Bounds.all
        if let arc = unsigned.adding(other.unsigned) { result.clamp(arc) }
        if let arc = signedArc.adding(other.signedArc) { result.clamp(arc) }
        return result
    }

    func subtracting(_ other: Bounds) -> Bounds {
        var result = Bounds.all
        if let arc = unsigned.subtracting(other.unsigned) { result.clamp(arc) }
        if let arc = signedArc.subtracting(other.signedArc) { result.clamp(arc) }
        return result
    }

    func multiplied(by other: Bounds) -> Bounds {
        var result = Bounds.all
        let (umax, overflow) = unsigned.max.multipliedReportingOverflow(by: other.unsigned.max)
        if !overflow { result.unsigned = Span(min: unsigned.min &* other.unsigned.min, max: umax) }
        // The extremes of a product are at the corners.
        let corners = (
            smin.multipliedReportingOverflow(by: other.smin), smin.multipliedReportingOverflow(by: other.smax),
            smax.multipliedReportingOverflow(by: other.smin), smax.multipliedReportingOverflow(by: other.smax)
        )
        if !corners.0.overflow, !corners.1.overflow, !corners.2.overflow, !corners.3.overflow {
            result.flipped = Bounds.hull(
                corners.0.partialValue,
                corners.1.partialValue,
                corners.2.partialValue,
                corners.3.partialValue
            )
        }
        return result
    }

    // MARK: Bitwise; the bits themselves are the tnum's part

    func anding(_ other: Bounds) -> Bounds {
        var result = signCopies(other)
        result.unsigned.max = Swift.min(unsigned.max, other.unsigned.max)
        // Less than each operand that is not negative, and than both negative ones.
        result.flipped.max = Swift.min(result.flipped.max, Swift.max(flipped.max, other.flipped.max))
        return result
    }

    func oring(_ other: Bounds) -> Bounds {
        var result = signCopies(other)
        result.unsigned.min = Swift.max(unsigned.min, other.unsigned.min)
        result.flipped.min = Swift.max(result.flipped.min, Swift.min(flipped.min, other.flipped.min))
        return result
    }

    func xoring(_ other: Bounds) -> Bounds { signCopies(other) }

    /// Leading bits that are copies of the sign in both operands are so in the result.
    private func signCopies(_ other: Bounds) -> Bounds {
        let magnitudes = magnitudeBits | other.magnitudeBits
        // All words from -2^k to 2^k - 1, where k counts the other bits.
        let largest = magnitudes == 0 ? 0 : W.max >> magnitudes.leadingZeroBitCount
        return Bounds(unsigned: .all, flipped: Span(min: ~largest, max: largest).flipped)
    }

    /// Has every bit that differs from the sign in some word of the signed range.
    private var magnitudeBits: W {
        let (first, last) = (smin, smax)
        return W(signed: first ^ (first >> (W.bitWidth - 1))) | W(signed: last ^ (last >> (W.bitWidth - 1)))
    }

    // MARK: Shifts, by counts below the width

    func shiftedLeft(_ counts: Span<W>) -> Bounds {
        var result = Bounds.all
        if counts.isConstant {
            if let arc = unsigned.shiftedLeft(Int(counts.min)) { result.clamp(arc) }
            if let arc = signedArc.shiftedLeft(Int(counts.min)) { result.clamp(arc) }
        } else if unsigned.max.leadingZeroBitCount >= Int(counts.max) {
            result.unsigned = Span(min: unsigned.min &<< counts.min, max: unsigned.max &<< counts.max)
        }
        return result
    }

    func shiftedRight(_ counts: Span<W>) -> Bounds {
        Bounds(unsigned: Span(min: unsigned.min &>> counts.max, max: unsigned.max &>> counts.min))
    }

    /// A negative number grows with the count, another one shrinks.
    func shiftedRightSigned(_ counts: Span<W>) -> Bounds {
        let (least, most) = (Int(counts.min), Int(counts.max))
        return Bounds(smin: smin >> (smin < 0 ? least : most), smax: smax >> (smax < 0 ? most : least))
    }

    // MARK: Division (RFC 9669 section 4.1: x / 0 = 0, x % 0 = x)

    func divided(by other: Bounds) -> Bounds {
        let (least, most) = (other.unsigned.min, other.unsigned.max)
        if most == 0 { return .constant(0) }
        return Bounds(
            unsigned: Span(min: least == 0 ? 0 : unsigned.min / most, max: unsigned.max / Swift.max(least, 1))
        )
    }

    /// Where the dividend does not stay as it is.
    func remainder(by other: Bounds) -> Bounds {
        let (least, most) = (other.unsigned.min, other.unsigned.max)
        return Bounds(unsigned: Span(min: 0, max: least == 0 ? unsigned.max : Swift.min(unsigned.max, most &- 1)))
    }

    func dividedSigned(by other: Bounds) -> Bounds {
        let wraps = smin == .min && other.smin <= -1 && other.smax >= -1
        // Minimum / -1 is the minimum.
        if wraps { return smin == smax && other.smin == other.smax ? self : .all }
        var result: Span<W>?
        if other.smin <= 0, other.smax >= 0 { result = Span.constant(0).flipped }
        if other.smax > 0 { result = corners(Swift.max(other.smin, 1), other.smax, result) }
        if other.smin < 0 { result = corners(other.smin, Swift.min(other.smax, -1), result) }
        return Bounds(unsigned: .all, flipped: result ?? .all)
    }

    /// The quotients by divisors of one sign; their extremes are at the corners.
    private func corners(_ first: W.Signed, _ last: W.Signed, _ other: Span<W>?) -> Span<W> {
        let result = Bounds.hull(smin / first, smin / last, smax / first, smax / last)
        return other.map { result.union($0) } ?? result
    }

    /// Where the dividend does not stay as it is.
    func remainderSigned(by other: Bounds) -> Bounds {
        // The remainder has the dividend's sign and is no farther from zero than it.
        var (first, last) = (Swift.min(smin, 0), Swift.max(smax, 0))
        if other.smin > 0 || other.smax < 0 {
            // The largest magnitude less one fits even for the minimum.
            let most = W.Signed(Swift.max(other.smin.magnitude, other.smax.magnitude) - 1)
            first = Swift.max(first, -most)
            last = Swift.min(last, most)
        }
        return Bounds(smin: first, smax: last)
    }

    /// Whether every dividend is below every divisor, or the divisor 0, so that the remainder is the dividend.
    func isRemainder(by other: Bounds) -> Bool {
        other.unsigned.max == 0 || unsigned.max < other.unsigned.min
    }

    /// The same with signs, which leaves magnitudes to compare.
    func isRemainderSigned(by other: Bounds) -> Bool {
        if other.smin <= 0, other.smax >= 0 { return other.smin == other.smax }
        let least = Swift.min(other.smin.magnitude, other.smax.magnitude)
        return Swift.max(smin.magnitude, smax.magnitude) < least
    }

    private static func hull(_ a: W.Signed, _ b: W.Signed, _ c: W.Signed, _ d: W.Signed) -> Span<W> {
        let (first, last) = (
            Swift.min(Swift.min(a, b), Swift.min(c, d)), Swift.max(Swift.max(a, b), Swift.max(c, d))
        )
        return Span(min: W(signed: first), max: W(signed: last)).flipped
    }
}

extension Span {
    /// Shift counts as the machine takes them: modulo the width.
    var counts: Span {
        let mask = W(low: UInt64(W.bitWidth - 1))
        if isConstant { return .constant(min & mask) }
        return max <= mask ? self : Span(min: 0, max: mask)
    }

    /// The arc of all words times 2^count; nil if it is the whole circle.
    func shiftedLeft(_ count: Int) -> Span? {
        width.leadingZeroBitCount < count ? nil : Span(min: min << count, max: max << count)
    }
}
