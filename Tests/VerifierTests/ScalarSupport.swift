import ISA
import Testing

@testable import Verifier

// MARK: What BPF does with words, written without the domain's code (RFC 9669 sections 4.1 and 4.3)

func concrete(_ op: Operator, _ width: Width, _ x: UInt64, _ y: UInt64) -> UInt64 {
    if width == .w32 { return UInt64(concrete32(op, UInt32(x & 0xffff_ffff), UInt32(y & 0xffff_ffff))) }
    let (left, right) = (Int64(bitPattern: x), Int64(bitPattern: y))
    switch op {
    case .add: return x &+ y
    case .sub: return x &- y
    case .mul: return x &* y
    case .div: return y == 0 ? 0 : x / y
    case .mod: return y == 0 ? x : x % y
    case .sdiv: return y == 0 ? 0 : right == -1 ? 0 &- x : UInt64(bitPattern: left / right)
    case .smod: return y == 0 ? x : right == -1 ? 0 : UInt64(bitPattern: left % right)
    case .or: return x | y
    case .and: return x & y
    case .xor: return x ^ y
    case .lsh: return x << (y % 64)
    case .rsh: return x >> (y % 64)
    case .arsh: return UInt64(bitPattern: left >> (y % 64))
    case .mov: return y
    }
}

private func concrete32(_ op: Operator, _ x: UInt32, _ y: UInt32) -> UInt32 {
    let (left, right) = (Int64(Int32(bitPattern: x)), Int64(Int32(bitPattern: y)))
    switch op {
    case .add: return x &+ y
    case .sub: return x &- y
    case .mul: return x &* y
    case .div: return y == 0 ? 0 : x / y
    case .mod: return y == 0 ? x : x % y
    case .sdiv: return y == 0 ? 0 : UInt32(truncatingIfNeeded: left / right)
    case .smod: return y == 0 ? x : UInt32(truncatingIfNeeded: left % right)
    case .or: return x | y
    case .and: return x & y
    case .xor: return x ^ y
    case .lsh: return x << (y % 32)
    case .rsh: return x >> (y % 32)
    case .arsh: return UInt32(truncatingIfNeeded: left >> Int64(y % 32))
    case .mov: return y
    }
}

func holds(_ comparison: Comparison, _ width: Width, _ x: UInt64, _ y: UInt64) -> Bool {
    // Halves in the upper bits compare as they would alone.
    let (a, b) = width == .w32 ? (x << 32, y << 32) : (x, y)
    let (left, right) = (Int64(bitPattern: a), Int64(bitPattern: b))
    switch comparison {
    case .equal: return a == b
    case .notEqual: return a != b
    case .set: return a & b != 0
    case .greater: return a > b
    case .greaterEqual: return a >= b
    case .less: return a < b
    case .lessEqual: return a <= b
    case .signedGreater: return left > right
    case .signedGreaterEqual: return left >= right
    case .signedLess: return left < right
    case .signedLessEqual: return left <= right
    }
}

let operators: [Operator] = [
    .add, .sub, .mul, .div, .sdiv, .or, .and, .lsh, .rsh, .mod, .smod, .xor, .mov, .arsh,
]
let comparisons: [Comparison] = [
    .equal, .notEqual, .set, .greater, .greaterEqual, .less, .lessEqual, .signedGreater, .signedGreaterEqual,
    .signedLess, .signedLessEqual,
]
let widths: [Width] = [.w32, .w64]

// MARK: All abstract values over a few bits

/// A scalar and the words of its universe that it stands for.
struct Sample {
    var scalar: Scalar
    var words: [UInt64]
}

/// The words of `bits` bits at bit `shift`, and every tnum and range over them.
struct Universe: Hashable, Sendable, CustomTestStringConvertible {
    var bits: Int
    var shift: Int

    var words: [UInt64] { (0..<(1 << UInt64(bits))).map { $0 << UInt64(shift) } }
    var testDescription: String { "\(bits)<<\(shift)" }

    var tnums: [Tnum] {
        let count: UInt64 = 1 << UInt64(bits)
        return (0..<count).flatMap { mask in
            (0..<count).filter { $0 & mask == 0 }
                .map { Tnum(value: $0 << UInt64(shift), mask: mask << UInt64(shift)) }
        }
    }

    /// Every unsigned and every signed range with two words of the universe as ends.
    var ranges: [Bounds<UInt64>] {
        let words = words
        let unsigned = words.flatMap { low in words.filter { low <= $0 }.map { Span(min: low, max: $0) } }
        let signed = words.flatMap { low in
            words.filter { Int64(bitPattern: low) <= Int64(bitPattern: $0) }
                .map { Bounds<UInt64>(smin: Int64(bitPattern: low), smax: Int64(bitPattern: $0)) }
        }
        return unsigned.map { Bounds(unsigned: $0) } + signed
    }

    /// Every tnum and range; ranges with and without knowledge of the bits outside.
    var samples: [Sample] {
        let universe = Scalar.bits(Tnum(value: 0, mask: Tnum.lowBits(bits) << UInt64(shift)))
        var scalars = tnums.map { Scalar.bits($0) }
        for (index, range) in ranges.enumerated() {
            let scalar = Scalar(bits: .unknown, whole: range, low: .all).normalized()
            scalars.append(index % 2 == 0 ? scalar : scalar.intersect(universe) ?? scalar)
        }
        let words = words
        return scalars.map { scalar in Sample(scalar: scalar, words: words.filter { scalar.contains($0) }) }
    }
}

// MARK: Checks

/// Looks for a pair of words whose result the abstract result lacks; every `stride`-th pair of samples.
func counterexample(
    _ left: [Sample],
    _ right: [Sample],
    stride: Int = 1,
    reference: (UInt64, UInt64) -> UInt64,
    abstract: (Scalar, Scalar) -> Scalar
) -> String? {
    var index = 0
    while index < left.count * right.count {
        let (a, b) = (left[index / right.count], right[index % right.count])
        let result = abstract(a.scalar, b.scalar)
        if result != .unknown {
            for x in a.words {
                for y in b.words where !result.contains(reference(x, y)) {
                    return
                        "\(hex(x)), \(hex(y)): \(hex(reference(x, y))) of \(a.scalar), \(b.scalar) is not in \(result)"
                }
            }
        }
        index += stride
    }
    return nil
}

/// Looks for a pair of words that a branch wrongly excludes.
func branchCounterexample(
    _ left: [Sample],
    _ right: [Sample],
    stride: Int = 1,
    reference: (UInt64, UInt64) -> Bool,
    decide: (Scalar, Scalar) -> Bool?,
    refine: (Scalar, Scalar, Bool) -> (Scalar, Scalar)?
) -> String? {
    var index = 0
    while index < left.count * right.count {
        let (a, b) = (left[index / right.count], right[index % right.count])
        let decided = decide(a.scalar, b.scalar)
        let (taken, passed) = (refine(a.scalar, b.scalar, true), refine(a.scalar, b.scalar, false))
        if let decided, (decided ? passed : taken) != nil {
            return "decided \(decided), but the other branch is open: \(a.scalar), \(b.scalar)"
        }
        for x in a.words {
            for y in b.words {
                let holds = reference(x, y)
                if decided == !holds { return "decided \(!holds) for \(hex(x)), \(hex(y))" }
                guard let (first, second) = holds ? taken : passed, first.contains(x), second.contains(y) else {
                    return "\(hex(x)), \(hex(y)) lost where \(holds): \(a.scalar), \(b.scalar)"
                }
            }
        }
        index += stride
    }
    return nil
}

func hex(_ word: UInt64) -> String { "0x" + String(word, radix: 16) }

/// SplitMix64.
struct Random: RandomNumberGenerator {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}
