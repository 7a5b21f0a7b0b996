/// An unsigned and a signed range of the same word.
struct Bounds<W: Word>: Equatable, Sendable {
    var unsigned: Span<W>
    /// Both ends with the sign bit flipped, so that unsigned comparisons order them as signed numbers.
    var flipped: Span<W>

    static var all: Bounds { Bounds(unsigned: .all, flipped: .all) }
    static func constant(_ word: W) -> Bounds {
        Bounds(unsigned: .constant(word), flipped: .constant(word ^ W.sign))
    }

    var isEmpty: Bool { unsigned.isEmpty || flipped.isEmpty }
    /// The signed range as an arc of words.
    var signedArc: Span<W> { flipped.flipped }
    var smin: W.Signed { (flipped.min ^ W.sign).signed }
    var smax: W.Signed { (flipped.max ^ W.sign).signed }

    init(unsigned: Span<W>, flipped: Span<W>) {
        self.unsigned = unsigned
        self.flipped = flipped
    }

    init(unsigned: Span<W>) { self.init(unsigned: unsigned, flipped: .all) }

    init(smin: W.Signed, smax: W.Signed) {
        self.init(unsigned: .all, flipped: Span(min: W(signed: smin), max: W(signed: smax)).flipped)
    }

    func contains(_ word: W) -> Bool { unsigned.contains(word) && flipped.contains(word ^ W.sign) }
    func contains(_ other: Bounds) -> Bool {
        unsigned.contains(other.unsigned) && flipped.contains(other.flipped)
    }
    func union(_ other: Bounds) -> Bounds {
        Bounds(unsigned: unsigned.union(other.unsigned), flipped: flipped.union(other.flipped))
    }

    mutating func intersect(_ other: Bounds) {
        unsigned.intersect(other.unsigned)
        flipped.intersect(other.flipped)
    }

    /// Keeps what is also in an arc.
    mutating func clamp(_ arc: Span<W>) {
        unsigned.clamp(arc)
        flipped.clamp(arc.flipped)
    }

    mutating func remove(_ word: W) {
        unsigned.remove(word)
        flipped.remove(word ^ W.sign)
    }

    /// Deduces each range from the other; false if nothing is left.
    ///
    /// A range that crosses the other's boundary is an arc there, so all cases of Linux `__reg64_deduce_bounds` are two
    /// clamps.
    mutating func meet() -> Bool {
        if isEmpty { return false }
        unsigned.clamp(signedArc)
        if unsigned.isEmpty { return false }
        flipped.clamp(unsigned.flipped)
        return !flipped.isEmpty
    }

    /// Moves all four ends to words of the tnum with these bits; false if nothing is left.
    mutating func snap(value: W, mask: W) -> Bool {
        unsigned.snap(value: value, mask: mask) && flipped.snap(value: (value ^ W.sign) & ~mask, mask: mask)
    }
}

// MARK: Halves

extension Bounds<UInt32> {
    /// Deduces the low half from the whole word; a range shorter than 2^32 is an arc of low halves.
    mutating func narrow(_ whole: Bounds<UInt64>) {
        if whole.unsigned.width <= 0xffff_ffff { clamp(whole.unsigned.low) }
        if whole.flipped.width <= 0xffff_ffff { clamp(whole.signedArc.low) }
    }
}

extension Bounds<UInt64> {
    /// The word that has `low` as low half and zero above.
    init(zeroExtending low: Bounds<UInt32>) {
        let words = Span(min: UInt64(low.unsigned.min), max: UInt64(low.unsigned.max))
        self.init(unsigned: words, flipped: words.flipped)
    }

    /// Moves the ends to words whose low half is within `low`; false if there are none.
    mutating func widen(_ low: Bounds<UInt32>) -> Bool {
        if low.unsigned != .all {
            guard unsigned.fit(low.unsigned), flipped.fit(low.unsigned) else { return false }
        }
        if low.flipped != .all {
            guard unsigned.fit(low.signedArc), flipped.fit(low.signedArc) else { return false }
        }
        return true
    }
}

extension Span<UInt64> {
    fileprivate var low: Span<UInt32> { Span<UInt32>(min: UInt32(low: min), max: UInt32(low: max)) }

    /// Moves the ends to words with a low half in `arc`; the sign bit is in the upper half, so flipped ends work too.
    fileprivate mutating func fit(_ arc: Span<UInt32>) -> Bool {
        let (first, last) = (UInt32(low: min), UInt32(low: max))
        if first &- arc.min > arc.width {
            var upper = min >> 32
            if first > arc.min {
                if upper == 0xffff_ffff { return false }
                upper += 1
            }
            min = upper << 32 | UInt64(arc.min)
        }
        if last &- arc.min > arc.width {
            var upper = max >> 32
            if last < arc.max {
                if upper == 0 { return false }
                upper -= 1
            }
            max = upper << 32 | UInt64(arc.max)
        }
        return min <= max
    }
}
