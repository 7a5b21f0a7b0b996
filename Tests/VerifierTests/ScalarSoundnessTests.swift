import ISA
import Testing

@testable import Verifier

/// Two universes whose words meet in an operation.
private struct Meeting: CustomTestStringConvertible, Sendable {
    var left: Universe
    var right: Universe

    init(_ left: Int, _ right: Int, bits: Int = 4) {
        self.left = Universe(bits: bits, shift: left)
        self.right = Universe(bits: bits, shift: right)
    }

    var testDescription: String { "\(left.testDescription), \(right.testDescription)" }
}

/// At the bottom, at both tops (so that results wrap around), over the middle, and mixed.
private let meetings = [
    Meeting(0, 0), Meeting(60, 60), Meeting(28, 28), Meeting(30, 30), Meeting(60, 0), Meeting(30, 0), Meeting(0, 28),
    // Counts of 0, 4, ..., 60.
    Meeting(60, 2), Meeting(30, 2), Meeting(0, 2),
    // Smaller ones, of which debug builds too look at all pairs.
    Meeting(0, 0, bits: 2), Meeting(62, 62, bits: 2), Meeting(31, 31, bits: 2), Meeting(30, 62, bits: 2),
    Meeting(62, 4, bits: 2), Meeting(30, 4, bits: 2),
]

extension Meeting {
    /// Debug builds look at a part of all pairs, a different one for each operation; release builds at all.
    fileprivate func stride(_ salt: Int) -> Int {
        #if DEBUG
        left.bits == 2 ? 1 : 211 + 2 * salt
        #else
        1
        #endif
    }
}

@Suite struct ScalarSoundnessTests {
    @Test(arguments: meetings) private func operations(meeting: Meeting) {
        let (left, right) = (meeting.left.samples, meeting.right.samples)
        for (index, op) in operators.enumerated() {
            for width in widths {
                let failure = counterexample(left, right, stride: meeting.stride(index)) {
                    concrete(op, width, $0, $1)
                } abstract: {
                    apply(op, width, $0, $1)
                }
                #expect(failure == nil, "\(op) \(width)")
            }
        }
    }

    @Test(arguments: meetings) private func branches(meeting: Meeting) {
        let (left, right) = (meeting.left.samples, meeting.right.samples)
        for (index, comparison) in comparisons.enumerated() {
            for width in widths {
                let failure = branchCounterexample(left, right, stride: meeting.stride(index)) {
                    holds(comparison, width, $0, $1)
                } decide: {
                    decide(comparison, width, $0, $1)
                } refine: {
                    refine(comparison, width, $0, $1, taken: $2)
                }
                #expect(failure == nil, "\(comparison) \(width)")
            }
        }
    }

    @Test(arguments: meetings) private func sets(meeting: Meeting) {
        let (left, right) = (meeting.left.samples, meeting.right.samples)
        var index = 0
        while index < left.count * right.count {
            let (a, b) = (left[index / right.count], right[index % right.count])
            let union = a.scalar.union(b.scalar)
            #expect(union.contains(a.scalar) && union.contains(b.scalar))
            #expect((a.words + b.words).allSatisfy { union.contains($0) })
            let both = a.scalar.intersect(b.scalar)
            #expect(a.words.allSatisfy { !b.scalar.contains($0) || both?.contains($0) == true })
            if a.scalar.contains(b.scalar) { #expect(b.words.allSatisfy { a.scalar.contains($0) }) }
            index += meeting.stride(0)
        }
    }

    @Test(arguments: [0, 4, 6, 13, 14, 28, 30, 45, 60]) func oneOperand(shift: Int) {
        for sample in Universe(bits: 4, shift: shift).samples {
            for (name, abstract, word) in oneOperandCases(sample.scalar) {
                let lost = sample.words.first { !abstract.contains(word($0)) }
                #expect(lost == nil, "\(name) of \(sample.scalar) is \(abstract)")
            }
        }
    }

    /// Every combination of bits, unsigned and signed range.
    @Test(arguments: [0, 29, 30, 61]) func normalization(shift: Int) {
        let universe = Universe(bits: 3, shift: shift)
        let (tnums, ranges, words) = (universe.tnums, universe.ranges, universe.words)
        var random = Random(seed: 5)
        for bits in tnums {
            for (index, range) in ranges.enumerated() {
                let other = ranges[Int(random.next() % UInt64(ranges.count))]
                var raw = Scalar(bits: bits, whole: range, low: .all)
                raw.whole.intersect(other)
                if index % 2 == 0 {
                    let ends = (UInt32(low: words[index % words.count]), UInt32(low: words[index / 5 % words.count]))
                    raw.low.unsigned = Span(min: min(ends.0, ends.1), max: max(ends.0, ends.1))
                }
                if index % 3 == 0 { raw.bits.mask |= ~universe.mask }
                var result = raw
                let isPossible = result.normalize()
                let kept = words.filter { raw.contains($0) }
                if isPossible {
                    #expect(kept.allSatisfy { result.contains($0) }, "\(raw)")
                    #expect(raw.contains(result), "\(raw)")
                } else {
                    #expect(kept.isEmpty, "\(raw)")
                }
            }
        }
    }

    /// The check finds mistakes: each of these is one that a domain can have.
    @Test(arguments: mistakes) private func plantedMistake(mistake: Mistake) {
        let left = Universe(bits: 4, shift: mistake.shift).samples
        let right = Universe(bits: 4, shift: mistake.rightShift ?? mistake.shift).samples
        let failure = counterexample(left, right, stride: 7) {
            concrete(mistake.op, mistake.width, $0, $1)
        } abstract: {
            mistake.abstract($0, $1)
        }
        #expect(failure != nil)
    }

    @Test(arguments: branchMistakes) private func plantedBranchMistake(mistake: BranchMistake) {
        let samples = Universe(bits: 4, shift: 0).samples
        let failure = branchCounterexample(samples, samples, stride: 7) {
            holds(mistake.comparison, .w64, $0, $1)
        } decide: {
            mistake.decide($0, $1)
        } refine: {
            mistake.refine($0, $1, $2)
        }
        #expect(failure != nil)
    }
}

extension Universe {
    fileprivate var mask: UInt64 { Tnum.lowBits(bits) << UInt64(shift) }
}

/// Each conversion's name, abstract result and effect on a word.
private func oneOperandCases(_ scalar: Scalar) -> [(String, Scalar, (UInt64) -> UInt64)] {
    [
        ("u8", scalar.zeroExtended(from: .b8), { $0 & 0xff }),
        ("u16", scalar.zeroExtended(from: .b16), { $0 & 0xffff }),
        ("u32", scalar.zeroExtended(from: .b32), { $0 & 0xffff_ffff }),
        ("u64", scalar.zeroExtended(from: .b64), { $0 }),
        ("s8", scalar.signExtended(.w64, from: .b8), { UInt64(bitPattern: Int64(Int8(truncatingIfNeeded: $0))) }),
        ("s16", scalar.signExtended(.w64, from: .b16), { UInt64(bitPattern: Int64(Int16(truncatingIfNeeded: $0))) }),
        ("s32", scalar.signExtended(.w64, from: .b32), { UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: $0))) }),
        (
            "w s8", scalar.signExtended(.w32, from: .b8),
            { UInt64(UInt32(bitPattern: Int32(Int8(truncatingIfNeeded: $0)))) }
        ),
        (
            "w s16", scalar.signExtended(.w32, from: .b16),
            { UInt64(UInt32(bitPattern: Int32(Int16(truncatingIfNeeded: $0)))) }
        ),
        ("w", scalar.truncated32, { $0 & 0xffff_ffff }),
        ("neg", scalar.negated(.w64), { 0 &- $0 }),
        ("w neg", scalar.negated(.w32), { (0 &- $0) & 0xffff_ffff }),
        ("le16", scalar.ordered(.little, .b16), { $0 & 0xffff }),
        ("be16", scalar.ordered(.big, .b16), { ($0 & 0xff) << 8 | ($0 >> 8) & 0xff }),
        ("swap32", scalar.ordered(.swap, .b32), { UInt64(UInt32($0 & 0xffff_ffff).byteSwapped) }),
        ("swap64", scalar.ordered(.swap, .b64), { $0.byteSwapped }),
    ]
}

// MARK: Planted mistakes

private struct Mistake: CustomTestStringConvertible, Sendable {
    var testDescription: String
    var op: Operator
    var width = Width.w64
    var shift = 0
    var rightShift: Int?
    var abstract: @Sendable (Scalar, Scalar) -> Scalar
}

private let mistakes = [
    Mistake(testDescription: "carries forgotten", op: .add) {
        .bits(
            Tnum(
                value: ($0.bits.value &+ $1.bits.value) & ~($0.bits.mask | $1.bits.mask),
                mask: $0.bits.mask | $1.bits.mask
            )
        )
    },
    Mistake(testDescription: "overflow of a sum forgotten", op: .add, shift: 60) { a, b in
        let (first, last) = (a.umin &+ b.umin, a.umax &+ b.umax)
        return first <= last ? .range(first...last) : apply(.add, .w64, a, b)
    },
    Mistake(testDescription: "difference of like ends", op: .sub) {
        var result = apply(.sub, .w64, $0, $1)
        result.umax = $0.umax &- $1.umax
        return result
    },
    Mistake(testDescription: "signed product from two corners", op: .mul, shift: 60) {
        var result = apply(.mul, .w64, $0, $1)
        result.smax = $0.smax.multipliedReportingOverflow(by: $1.smax).partialValue
        return result
    },
    Mistake(testDescription: "union of bits below its largest word", op: .or) {
        var result = apply(.or, .w64, $0, $1)
        result.umax = max($0.umax, $1.umax)
        return result
    },
    Mistake(testDescription: "intersection above the larger end", op: .and) {
        var result = apply(.and, .w64, $0, $1)
        result.umin = min($0.umin, $1.umin)
        return result
    },
    Mistake(testDescription: "count not masked", op: .lsh, width: .w32, shift: 28, rightShift: 2) { a, b in
        b.umin >= 32 ? .constant(0) : apply(.lsh, .w32, a, b)
    },
    Mistake(testDescription: "sign of a half taken for zero", op: .arsh, width: .w32, shift: 28, rightShift: 0) {
        apply(.rsh, .w32, $0, $1)
    },
    Mistake(testDescription: "32-bit sum not cut", op: .add, width: .w32, shift: 30) { apply(.add, .w64, $0, $1) },
    Mistake(testDescription: "division by zero", op: .div) { a, b in
        var result = apply(.div, .w64, a, b)
        if b.umin == 0 { result.umin = a.umin }
        return result
    },
    Mistake(testDescription: "minimum / -1", op: .sdiv, shift: 60) { a, b in
        a.smin == .min ? .signedRange(0...(.max)) : apply(.sdiv, .w64, a, b)
    },
    Mistake(testDescription: "remainder by zero", op: .mod) { a, b in
        var result = apply(.mod, .w64, a, b)
        if b.umax > 0 { result.umax = min(result.umax, b.umax - 1) }
        return result
    },
]

private struct BranchMistake: CustomTestStringConvertible, Sendable {
    var testDescription: String
    var comparison: Comparison
    var decide: @Sendable (Scalar, Scalar) -> Bool? = { _, _ in nil }
    var refine: @Sendable (Scalar, Scalar, Bool) -> (Scalar, Scalar)?
}

private let branchMistakes = [
    BranchMistake(testDescription: "end excluded", comparison: .lessEqual) {
        Verifier.refine(.less, .w64, $0, $1, taken: $2)
    },
    BranchMistake(testDescription: "signed for unsigned", comparison: .notEqual) { a, b, taken in
        taken ? Verifier.refine(.signedGreater, .w64, a, b, taken: true) : (a, b)
    },
    BranchMistake(
        testDescription: "decided by the lower ends",
        comparison: .less,
        decide: { $0.umin < $1.umin ? true : nil },
        refine: { Verifier.refine(.less, .w64, $0, $1, taken: $2) }
    ),
    BranchMistake(testDescription: "every possible bit set", comparison: .set) { a, b, taken in
        guard taken, let both = a.intersect(.bits(Tnum(value: b.bits.max, mask: ~b.bits.max))) else {
            return Verifier.refine(.set, .w64, a, b, taken: taken)
        }
        return (both, b)
    },
]
