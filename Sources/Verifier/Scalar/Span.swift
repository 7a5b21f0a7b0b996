/// An unsigned machine word that the domain computes with: the whole register or its low half.
protocol Word: FixedWidthInteger, UnsignedInteger, Sendable where Magnitude == Self {
    associatedtype Signed: FixedWidthInteger, SignedInteger
    init(signed: Signed)
    /// The low bits of a register.
    init(low: UInt64)
    var signed: Signed { get }
    /// Zero-extended.
    var wide: UInt64 { get }
    static var sign: Self { get }
}

extension UInt64: Word {
    init(signed: Int64) { self.init(bitPattern: signed) }
    init(low: UInt64) { self = low }
    var signed: Int64 { Int64(bitPattern: self) }
    var wide: UInt64 { self }
    static var sign: UInt64 { 1 << 63 }
}

extension UInt32: Word {
    init(signed: Int32) { self.init(bitPattern: signed) }
    init(low: UInt64) { self.init(truncatingIfNeeded: low) }
    var signed: Int32 { Int32(bitPattern: self) }
    var wide: UInt64 { UInt64(self) }
    static var sign: UInt32 { 1 << 31 }
}

/// The words from `min` up to `max`; as an arc it may run over the largest word to the smallest one.
struct Span<W: Word>: Equatable, Sendable {
    var min: W
    var max: W

    static var all: Span { Span(min: 0, max: .max) }
    static func constant(_ word: W) -> Span { Span(min: word, max: word) }

    var isEmpty: Bool { min > max }
    var isConstant: Bool { min == max }
    /// Words in it, less one; right for arcs too.
    var width: W { max &- min }

    func contains(_ word: W) -> Bool { min <= word && word <= max }
    func contains(_ other: Span) -> Bool { min <= other.min && other.max <= max }
    func union(_ other: Span) -> Span { Span(min: Swift.min(min, other.min), max: Swift.max(max, other.max)) }

    /// Turns signed order into unsigned order and back.
    var flipped: Span { Span(min: min ^ W.sign, max: max ^ W.sign) }

    mutating func intersect(_ other: Span) {
        if other.min > min { min = other.min }
        if other.max < max { max = other.max }
    }

    /// Keeps the hull of what is also in `arc`.
    mutating func clamp(_ arc: Span) {
        if arc.min <= arc.max {
            intersect(arc)
        } else {
            // The arc is [0, arc.max] and [arc.min, max]; an end that lies in the gap moves to its far side.
            if min > arc.max, min < arc.min { min = arc.min }
            if max < arc.min, max > arc.max { max = arc.max }
        }
    }

    /// The arc of all sums; nil if it is the whole circle.
    func adding(_ other: Span) -> Span? {
        width.addingReportingOverflow(other.width).overflow ? nil : Span(min: min &+ other.min, max: max &+ other.max)
    }

    /// The arc of all differences; nil if it is the whole circle.
    func subtracting(_ other: Span) -> Span? {
        width.addingReportingOverflow(other.width).overflow ? nil : Span(min: min &- other.max, max: max &- other.min)
    }

    /// Removes a word where it is an end.
    mutating func remove(_ word: W) {
        if isConstant {
            if min == word { (min, max) = (1, 0) }
        } else if min == word {
            min &+= 1
        } else if max == word {
            max &-= 1
        }
    }

    /// Keeps `left < right`, or `left <= right` where `orEqual`; false if that leaves nothing.
    static func order(_ left: inout Span, _ right: inout Span, orEqual: Bool) -> Bool {
        var (high, low) = (right.max, left.min)
        if !orEqual {
            if high == 0 || low == .max { return false }
            high &-= 1
            low &+= 1
        }
        if high < left.max { left.max = high }
        if low > right.min { right.min = low }
        return !left.isEmpty && !right.isEmpty
    }

    /// Moves the ends to words of the tnum with these bits; false if there are none between them.
    mutating func snap(value: W, mask: W) -> Bool {
        if (min ^ value) & ~mask != 0 {
            guard let raised = Span.member(from: min, value, mask) else { return false }
            min = raised
        }
        if (max ^ value) & ~mask != 0 {
            // Downwards is upwards in the complement.
            guard let raised = Span.member(from: ~max, ~value & ~mask, mask) else { return false }
            max = ~raised
        }
        return min <= max
    }

    /// The smallest word of a tnum that is greater than `start`, which is none of it; nil if there is none.
    private static func member(from start: W, _ value: W, _ mask: W) -> W? {
        let highest = W.bitWidth - 1 - ((start ^ value) & ~mask).leadingZeroBitCount
        // Bits below the highest wrong one may be the smallest possible.
        let below = ((1 as W) << highest) &- 1
        if value & (below &+ 1) != 0 { return (start & ~below & mask) | value }
        // A one where zero is required: count up in the unknown bits above it.
        let (sum, overflow) = (start | ~mask | below).addingReportingOverflow(1)
        return overflow ? nil : (sum & mask) | value
    }
}
