/// A word of which some bits are known ("tristate number", as in Linux `kernel/bpf/tnum.c`).
///
/// It stands for every word that agrees with `value` in the bits that are clear in `mask`. A bit set in `mask` is
/// unknown and always clear in `value`, so that equal sets are equal structs.
struct Tnum: Equatable, Sendable {
    var value: UInt64
    var mask: UInt64

    static let unknown = Tnum(value: 0, mask: .max)

    static func constant(_ value: UInt64) -> Tnum { Tnum(value: value, mask: 0) }

    /// The common leading bits of all words from `min` to `max`.
    static func range(_ min: UInt64, _ max: UInt64) -> Tnum {
        let free = lowBits(64 - (min ^ max).leadingZeroBitCount)
        return Tnum(value: min & ~free, mask: free)
    }

    var isConstant: Bool { mask == 0 }
    /// The largest unsigned word; `value` is the smallest.
    var max: UInt64 { value | mask }

    func contains(_ word: UInt64) -> Bool { word & ~mask == value }

    /// Whether every word of `other` is in here.
    func contains(_ other: Tnum) -> Bool { other.mask & ~mask == 0 && other.value & ~mask == value }

    /// Whether every word is a multiple of `size`, a power of two.
    func aligned(_ size: UInt64) -> Bool { size == 0 || max & (size &- 1) == 0 }

    /// The words that are in both; nil if there are none.
    func intersect(_ other: Tnum) -> Tnum? {
        let both = mask & other.mask
        guard (value ^ other.value) & ~mask & ~other.mask == 0 else { return nil }
        return Tnum(value: value | other.value, mask: both)
    }

    /// The smallest tnum that holds both.
    func union(_ other: Tnum) -> Tnum {
        let free = mask | other.mask | (value ^ other.value)
        return Tnum(value: value & ~free, mask: free)
    }

    /// The low `bytes` bytes; the rest becomes zero.
    func cast(_ bytes: Int) -> Tnum {
        guard bytes < 8 else { return self }
        let keep = Tnum.lowBits(8 * bytes)
        return Tnum(value: value & keep, mask: mask & keep)
    }

    /// The low half replaced.
    func withLow(_ low: Tnum) -> Tnum {
        Tnum(value: (value & ~0xffff_ffff) | low.value, mask: (mask & ~0xffff_ffff) | low.mask)
    }

    /// A word with the lowest `count` bits set.
    static func lowBits(_ count: Int) -> UInt64 { count == 0 ? 0 : .max >> UInt64(64 - count) }
}

// MARK: Arithmetic

extension Tnum {
    static let zero = Tnum.constant(0)

    /// Bits of a sum are unknown where an operand's are or where a carry may or may not arrive.
    ///
    /// The carries of any sum lie between those of the smallest and those of the largest one.
    func add(_ other: Tnum) -> Tnum {
        let smallest = value &+ other.value
        let largest = max &+ other.max
        return Tnum(free: (smallest ^ largest) | mask | other.mask, smallest)
    }

    func sub(_ other: Tnum) -> Tnum {
        let fewestBorrows = max &- other.value
        let mostBorrows = value &- other.max
        return Tnum(free: (fewestBorrows ^ mostBorrows) | mask | other.mask, value &- other.value)
    }

    func and(_ other: Tnum) -> Tnum {
        let ones = value & other.value
        return Tnum(value: ones, mask: max & other.max & ~ones)
    }

    func or(_ other: Tnum) -> Tnum {
        let ones = value | other.value
        return Tnum(value: ones, mask: (mask | other.mask) & ~ones)
    }

    func xor(_ other: Tnum) -> Tnum { Tnum(free: mask | other.mask, value ^ other.value) }

    func mul(_ other: Tnum) -> Tnum {
        let product = longProduct(other)
        // Neither order is better for all constants; both together are.
        return other.isConstant ? product.intersect(other.longProduct(self)) ?? product : product
    }

    /// Long multiplication; an unknown bit of this factor adds either nothing or the shifted other factor.
    private func longProduct(_ other: Tnum) -> Tnum {
        var (multiplier, addend) = (self, other)
        var product = Tnum.zero
        while multiplier.max != 0 {
            let skip = multiplier.max.trailingZeroBitCount
            multiplier = multiplier.shiftedRight(skip)
            addend = addend.shiftedLeft(skip)
            let sum = product.add(addend)
            product = multiplier.value & 1 != 0 ? sum : product.union(sum)
            // Nothing more to lose once every bit that later additions reach is unknown.
            let reach = UInt64.max << UInt64(addend.max.trailingZeroBitCount)
            if product.mask & reach == reach { break }
            multiplier.value &= ~1
            multiplier.mask &= ~1
        }
        return product
    }

    /// By a known count below 64.
    func shiftedLeft(_ count: Int) -> Tnum {
        Tnum(value: value &<< UInt64(count), mask: mask &<< UInt64(count))
    }

    func shiftedRight(_ count: Int) -> Tnum {
        Tnum(value: value &>> UInt64(count), mask: mask &>> UInt64(count))
    }

    /// Arithmetic right shift of the word; an unknown sign is copied as unknown bits.
    func shiftedRightSigned(_ count: Int) -> Tnum {
        Tnum(
            value: UInt64(bitPattern: Int64(bitPattern: value) &>> Int64(count)),
            mask: UInt64(bitPattern: Int64(bitPattern: mask) &>> Int64(count))
        )
    }

    /// Arithmetic right shift of the low half; the upper half of the result is zero.
    func shiftedRightSigned32(_ count: Int) -> Tnum {
        // With the half in the upper bits, the word's sign is the half's.
        shiftedLeft(32).shiftedRightSigned(count).shiftedRight(32)
    }

    private init(free: UInt64, _ word: UInt64) { self.init(value: word & ~free, mask: free) }
}
