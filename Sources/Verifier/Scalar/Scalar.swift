/// What is known of a 64-bit number: its bits, its unsigned and signed ranges, and those of its low half.
///
/// A scalar stands for every word that all five views hold; each view alone may hold more. Operations may lose
/// precision, but never drop a word that can occur.
struct Scalar: Equatable, Sendable {
    var bits: Tnum
    /// The ranges of the whole word.
    var whole: Bounds<UInt64>
    /// The ranges of the low half.
    var low: Bounds<UInt32>

    static let unknown = Scalar(bits: .unknown, whole: .all, low: .all)

    static func constant(_ value: UInt64) -> Scalar {
        Scalar(bits: .constant(value), whole: .constant(value), low: .constant(UInt32(low: value)))
    }

    static func range(_ range: ClosedRange<UInt64>) -> Scalar {
        var result = Scalar.unknown
        result.whole.unsigned = Span(min: range.lowerBound, max: range.upperBound)
        return result.normalized()
    }

    static func signedRange(_ range: ClosedRange<Int64>) -> Scalar {
        var result = Scalar.unknown
        result.whole = Bounds(smin: range.lowerBound, smax: range.upperBound)
        return result.normalized()
    }

    /// Whatever has these bits.
    static func bits(_ bits: Tnum) -> Scalar { Scalar(bits: bits, whole: .all, low: .all).normalized() }

    /// The only word, if there is just one.
    var constant: UInt64? { bits.isConstant ? bits.value : nil }
    /// The only low half, if there is just one.
    var constant32: UInt32? { low.unsigned.isConstant ? low.unsigned.min : nil }

    func contains(_ value: UInt64) -> Bool {
        bits.contains(value) && whole.contains(value) && low.contains(UInt32(low: value))
    }

    /// Whether every view of `other` is within the same view here, so that what holds for this scalar holds for `other`.
    func contains(_ other: Scalar) -> Bool {
        bits.contains(other.bits) && whole.contains(other.whole) && low.contains(other.low)
    }

    /// The hull of both.
    func union(_ other: Scalar) -> Scalar {
        if self == other { return self }
        return Scalar(bits: bits.union(other.bits), whole: whole.union(other.whole), low: low.union(other.low))
            .normalized()
    }

    /// What is in both; nil if nothing is.
    func intersect(_ other: Scalar) -> Scalar? {
        guard let bits = bits.intersect(other.bits) else { return nil }
        var result = Scalar(bits: bits, whole: whole, low: low)
        result.whole.intersect(other.whole)
        result.low.intersect(other.low)
        return result.normalize() ? result : nil
    }
}

// MARK: Ranges by name

extension Scalar {
    var umin: UInt64 {
        get { whole.unsigned.min }
        set { whole.unsigned.min = newValue }
    }
    var umax: UInt64 {
        get { whole.unsigned.max }
        set { whole.unsigned.max = newValue }
    }
    var smin: Int64 {
        get { whole.smin }
        set { whole.flipped.min = UInt64(signed: newValue) ^ UInt64.sign }
    }
    var smax: Int64 {
        get { whole.smax }
        set { whole.flipped.max = UInt64(signed: newValue) ^ UInt64.sign }
    }
    var u32min: UInt32 {
        get { low.unsigned.min }
        set { low.unsigned.min = newValue }
    }
    var u32max: UInt32 {
        get { low.unsigned.max }
        set { low.unsigned.max = newValue }
    }
    var s32min: Int32 {
        get { low.smin }
        set { low.flipped.min = UInt32(signed: newValue) ^ UInt32.sign }
    }
    var s32max: Int32 {
        get { low.smax }
        set { low.flipped.max = UInt32(signed: newValue) ^ UInt32.sign }
    }
}

// MARK: Deduction

extension Scalar {
    /// Deduces every view from the others; false if they contradict each other, so that no word is left.
    ///
    /// Each step is exact for the two views that it relates; at least as precise as Linux `reg_bounds_sync`.
    mutating func normalize() -> Bool {
        // In practice two rounds do; the limit is for views that approach each other in small steps.
        for _ in 0..<4 {
            if bits.isConstant {
                guard contains(bits.value) else { return false }
                self = .constant(bits.value)
                return true
            }
            let before = self
            guard whole.meet() else { return false }
            low.narrow(whole)
            guard low.meet(), whole.widen(low), deduceBits(), snap() else { return false }
            if self == before { return true }
        }
        return true
    }

    /// This scalar with everything deduced, where it is known not to be empty.
    func normalized() -> Scalar {
        var result = self
        // Only code that no run reaches has empty operands; there anything is right.
        return result.normalize() ? result : .unknown
    }

    /// The leading bits that all words of the ranges share; false if they contradict known bits.
    private mutating func deduceBits() -> Bool {
        let (words, halves) = (whole.unsigned, low.unsigned)
        guard let fromWords = bits.intersect(.range(words.min, words.max)),
            let fromHalves = fromWords.cast(4).intersect(.range(UInt64(halves.min), UInt64(halves.max)))
        else { return false }
        bits = fromWords.withLow(fromHalves)
        return true
    }

    /// Moves the ends of all ranges to words that have the known bits.
    private mutating func snap() -> Bool {
        if bits.mask == .max { return true }
        return whole.snap(value: bits.value, mask: bits.mask)
            && low.snap(value: UInt32(low: bits.value), mask: UInt32(low: bits.mask))
    }
}
