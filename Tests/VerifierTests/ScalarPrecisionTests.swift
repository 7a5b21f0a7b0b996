import ISA
import Testing

@testable import Verifier

private func scalar(_ range: ClosedRange<UInt64>) -> Scalar { .range(range) }
private func signed(_ range: ClosedRange<Int64>) -> Scalar { .signedRange(range) }
private func bits(_ value: UInt64, _ mask: UInt64) -> Scalar { .bits(Tnum(value: value, mask: mask)) }
private func number(_ value: Int64) -> Scalar { .constant(UInt64(bitPattern: value)) }
/// A 32-bit comparison of an unknown register with a constant.
private func half(_ comparison: Comparison, _ value: Int64, _ start: Scalar = .unknown) -> Scalar {
    refine(comparison, .w32, start, number(value), taken: true)?.0 ?? .unknown
}
private func whole(_ comparison: Comparison, _ value: Int64, _ start: Scalar = .unknown) -> Scalar {
    refine(comparison, .w64, start, number(value), taken: true)?.0 ?? .unknown
}

private let low32: UInt64 = 0xffff_ffff

/// An operation whose result is known exactly.
private struct Exact: CustomTestStringConvertible, Sendable {
    var testDescription: String
    var actual: Scalar
    var expected: Scalar

    init(_ name: String, _ actual: Scalar, _ expected: Scalar) {
        testDescription = name
        self.actual = actual
        self.expected = expected
    }
}

private func wide(_ op: Operator, _ a: Scalar, _ b: Scalar) -> Scalar { apply(op, .w64, a, b) }
private func narrow(_ op: Operator, _ a: Scalar, _ b: Scalar) -> Scalar { apply(op, .w32, a, b) }

private let arithmetic: [Exact] = [
    Exact("constants", wide(.add, number(3), number(-5)), number(-2)),
    Exact("constants, 32 bits", narrow(.sub, number(3), number(5)), .constant(0xffff_fffe)),
    Exact("mask of anything", wide(.and, .unknown, number(0x3f)), scalar(0...63)),
    Exact("mask with holes", wide(.and, .unknown, number(0xf0)), bits(0, 0xf0)),
    Exact("mask of a range", wide(.and, scalar(0...5), number(3)), scalar(0...3)),
    Exact("sign extended mask", wide(.and, .unknown, number(-8)), bits(0, ~7)),
    Exact("sign as mask", wide(.and, signed(-1...0), number(-13)), number(-13).union(number(0))),
    Exact("mask of nothing", wide(.and, .unknown, number(0)), number(0)),
    Exact("mask of all", wide(.and, scalar(3...9), number(-1)), scalar(3...9)),
    Exact("mask of what is set", wide(.and, scalar(3...200), number(255)), scalar(3...200)),
    Exact("32-bit mask of what is set", narrow(.and, scalar(3...200), number(-1)), scalar(3...200)),
    Exact("or of nothing", wide(.or, signed(-5...5), number(0)), signed(-5...5)),
    Exact("complement", wide(.xor, signed(-5...7), number(-1)), signed(-8...4)),
    Exact("32-bit complement", narrow(.xor, scalar(3...9), number(-1)), scalar(low32 - 9...low32 - 3)),
    Exact("or", wide(.or, bits(0, 0xf0), number(1)), bits(1, 0xf0)),
    Exact("xor of like constants", wide(.xor, number(7), number(7)), number(0)),
    Exact("xor flips", wide(.xor, scalar(0...15), number(15)), scalar(0...15)),
    Exact("and of small signed numbers", wide(.and, signed(-8...7), signed(-8...7)), signed(-8...7)),
    Exact("or of small signed numbers", wide(.or, signed(-8...7), signed(-8...7)), signed(-8...7)),
    Exact("xor of small signed numbers", wide(.xor, signed(-8...7), signed(-8...7)), signed(-8...7)),
    Exact("sum", wide(.add, scalar(0...10), scalar(5...7)), scalar(5...17)),
    Exact("signed sum", wide(.add, signed(-10...10), number(-5)), signed(-15...5)),
    Exact("sum back over zero", wide(.add, wide(.add, scalar(0...9), number(-20)), number(20)), scalar(0...9)),
    Exact("sum of large words wraps", wide(.add, scalar(UInt64.max - 3...UInt64.max), number(10)), scalar(6...9)),
    Exact("difference", wide(.sub, scalar(10...20), scalar(0...10)), scalar(0...20)),
    Exact("difference below zero", wide(.sub, scalar(0...5), scalar(0...5)), signed(-5...5)),
    Exact("32-bit sum wraps", narrow(.add, scalar(low32 - 1...low32), number(2)), scalar(0...1)),
    Exact("aligned sum", wide(.add, bits(0, 0xff00), number(0x10)), bits(0x10, 0xff00)),
    Exact("product", wide(.mul, scalar(2...10), scalar(3...5)), scalar(6...50)),
    Exact("signed product", wide(.mul, signed(-3...2), signed(-4...5)), signed(-15...12)),
    Exact("product with a power of two", wide(.mul, scalar(0...3), number(16)), bits(0, 0x30)),
    Exact("product of bits with a constant", wide(.mul, bits(1, 0x110), number(3)), bits(3, 0x330)),
    Exact("product with zero", wide(.mul, .unknown, number(0)), number(0)),
    Exact("32-bit product", narrow(.mul, scalar(2...10), scalar(3...5)), scalar(6...50)),
    Exact("quotient", wide(.div, scalar(10...100), scalar(2...5)), scalar(2...50)),
    Exact("quotient of anything", wide(.div, .unknown, number(16)), scalar(0...UInt64.max / 16)),
    Exact("quotient by zero", wide(.div, .unknown, number(0)), number(0)),
    Exact("signed quotient", wide(.sdiv, signed(-100...50), number(10)), signed(-10...5)),
    Exact("signed quotient by a range", wide(.sdiv, signed(10...20), signed(-2...5)), signed(-20...20)),
    Exact("minimum by -1", wide(.sdiv, number(.min), number(-1)), number(.min)),
    Exact("remainder", wide(.mod, .unknown, number(10)), scalar(0...9)),
    Exact("remainder by a power of two", wide(.mod, bits(1, ~1), number(8)), bits(1, 6)),
    Exact("remainder of less", wide(.mod, scalar(3...7), number(8)), scalar(3...7)),
    Exact("remainder by zero", wide(.mod, scalar(3...7), number(0)), scalar(3...7)),
    Exact("32-bit remainder by zero", narrow(.mod, .unknown, number(0)), scalar(0...low32)),
    Exact("signed remainder", wide(.smod, .unknown, number(10)), signed(-9...9)),
    Exact("signed remainder of nonnegative", wide(.smod, scalar(0...99), number(-10)), scalar(0...9)),
    Exact("negation", signed(-5...3).negated(.w64), signed(-3...5)),
    Exact("32-bit negation", number(1).negated(.w32), .constant(low32)),
    Exact("move", narrow(.mov, .unknown, number(-1)), .constant(low32)),
]

private let shifts: [Exact] = [
    Exact("left", wide(.lsh, scalar(0...3), number(4)), bits(0, 0x30)),
    Exact("left, signed", wide(.lsh, signed(-4...3), number(2)), wide(.mul, signed(-4...3), number(4))),
    Exact("left by 32, right by 32", wide(.rsh, wide(.lsh, .unknown, number(32)), number(32)), scalar(0...low32)),
    Exact(
        "sign extension by shifts",
        wide(.arsh, wide(.lsh, half(.signedLess, 5, half(.signedGreater, -5)), number(32)), number(32)),
        signed(-4...4)
    ),
    Exact("right by nothing", wide(.rsh, signed(-5...5), number(0)), signed(-5...5)),
    Exact("right", wide(.rsh, scalar(16...255), number(4)), scalar(1...15)),
    Exact("right, anything", wide(.rsh, .unknown, number(60)), scalar(0...15)),
    Exact("right by a range", wide(.rsh, scalar(16...255), scalar(1...2)), scalar(4...127)),
    Exact("left by a range", wide(.lsh, number(1), scalar(0...3)), scalar(1...8)),
    Exact("signed right", wide(.arsh, signed(-64...63), number(3)), signed(-8...7)),
    Exact("signed right by a range", wide(.arsh, signed(-64...63), scalar(1...3)), signed(-32...31)),
    Exact("sign", wide(.arsh, .unknown, number(63)), signed(-1...0)),
    Exact("32-bit sign", narrow(.arsh, .unknown, number(31)), number(0).union(.constant(low32))),
    Exact("count is masked", wide(.rsh, scalar(16...255), number(68)), scalar(1...15)),
    Exact("32-bit count is masked", narrow(.lsh, scalar(1...1), number(33)), number(2)),
    Exact("32-bit left drops", narrow(.lsh, bits(0, 0xf000_0000), number(4)), number(0)),
]

private let extensions: [Exact] = [
    Exact("byte", Scalar.unknown.zeroExtended(from: .b8), scalar(0...255)),
    Exact("byte of less", scalar(3...200).zeroExtended(from: .b8), scalar(3...200)),
    Exact("half-word of a window", scalar(0x1_0010...0x1_0020).zeroExtended(from: .b16), scalar(0x10...0x20)),
    Exact("word", Scalar.unknown.truncated32, scalar(0...low32)),
    Exact("word of negatives", signed(-4 ... -1).truncated32, scalar(low32 - 3...low32)),
    Exact("signed byte", Scalar.unknown.signExtended(.w64, from: .b8), signed(-128...127)),
    Exact("signed byte of less", signed(-3...5).signExtended(.w64, from: .b8), signed(-3...5)),
    Exact("signed byte of a window", scalar(0xf0...0xf7).signExtended(.w64, from: .b8), signed(-16 ... -9)),
    Exact(
        "signed word",
        half(.signedLessEqual, -1, half(.signedGreaterEqual, -9)).signExtended(.w64, from: .b32),
        signed(-9 ... -1)
    ),
    Exact("signed half-word in 32 bits", number(0x8000).signExtended(.w32, from: .b16), .constant(0xffff_8000)),
    Exact("swap", bits(0, 0xff).byteSwapped(.b16), bits(0, 0xff00)),
    Exact("swap of a constant", number(0x1234).byteSwapped(.b32), .constant(0x3412_0000)),
]

private let deductions: [Exact] = [
    Exact("unsigned below gives signed", whole(.less, 10), scalar(0...9)),
    Exact("signed and not negative", whole(.signedGreaterEqual, 0, whole(.signedLess, 10)), scalar(0...9)),
    Exact("set bit", whole(.set, 8), bits(8, ~8)),
    Exact("one end removed", whole(.notEqual, 0, scalar(0...9)), scalar(1...9)),
    Exact("both ends removed", whole(.notEqual, 9, whole(.notEqual, 0, scalar(0...9))), scalar(1...8)),
    Exact("end removed with bits", whole(.notEqual, 0, bits(0, 0x30)), wide(.mul, scalar(1...3), number(16))),
    Exact("equal", whole(.equal, 7), number(7)),
    Exact("equal halves of a zero extended word", half(.equal, 7, .unknown.truncated32), number(7)),
    Exact("32-bit check of a zero extended word", half(.lessEqual, 9, .unknown.truncated32), scalar(0...9)),
    Exact(
        "32-bit signed check of a zero extended word",
        half(.signedGreater, 5, half(.signedLess, 9, .unknown.truncated32)),
        scalar(6...8)
    ),
    // A 64-bit range that spans several halves takes ends with halves that are possible.
    Exact(
        "ends from halves",
        half(.signedGreater, 0, scalar(0x1_0000_0000...0x3_8000_0000)),
        half(.signedGreater, 0, scalar(0x1_0000_0001...0x3_7fff_ffff))
    ),
    // The signed range crosses the sign; only its lower part is among the unsigned ones, and the reverse.
    Exact("crossing, above", whole(.greater, 100, signed(-10...50)), signed(-10 ... -1)),
    Exact("crossing, below", whole(.less, 1 << 62, signed(-10...50)), scalar(0...50)),
    Exact("halves of a range of words", scalar(0x7_0000_0010...0x7_0000_0020).truncated32, scalar(0x10...0x20)),
    Exact(
        "sign extended and not negative",
        half(.signedGreaterEqual, 0, signed(-0x8000_0000...0x7fff_ffff)),
        scalar(0...0x7fff_ffff)
    ),
]

@Suite struct ScalarPrecisionTests {
    @Test(arguments: arithmetic + shifts + extensions + deductions) private func exact(exact: Exact) {
        #expect(exact.actual == exact.expected)
    }

    @Test func namedRanges() {
        let value = half(.signedGreater, 5)
        #expect((value.s32min, value.s32max, value.u32min, value.u32max) == (6, .max, 6, 0x7fff_ffff))
        #expect((value.umin, value.umax) == (6, 0xffff_ffff_7fff_ffff))
        #expect((value.smin, value.smax) == (.min + 6, 0x7fff_ffff_7fff_ffff))
        #expect(value.bits == Tnum(value: 0, mask: ~0x8000_0000))
        var other = Scalar.unknown
        (other.umin, other.umax) = (4, .max)
        (other.smin, other.smax) = (.min, 9)
        (other.u32min, other.u32max, other.s32min, other.s32max) = (0, .max, -3, 8)
        let isPossible = other.normalize()
        #expect(isPossible)
        #expect((other.smin, other.smax) == (.min, 8))
    }

    /// Bits take precedence where a range has no end of its own.
    @Test func rangesSnapToBits() {
        let value = bits(1, 0xf0)
        #expect(whole(.greater, 0x12, value).umin == 0x21)
        #expect(whole(.less, 0x80, value).umax == 0x71)
        #expect(refine(.less, .w64, value, number(1), taken: true) == nil)
        #expect(refine(.equal, .w64, value, number(2), taken: true) == nil)
    }

    @Test func undecidedAndDecided() {
        #expect(decide(.less, .w64, scalar(0...9), number(10)) == true)
        #expect(decide(.less, .w64, scalar(0...9), number(9)) == nil)
        #expect(decide(.signedLess, .w64, signed(-9 ... -1), scalar(0...5)) == true)
        #expect(decide(.less, .w64, signed(-9 ... -1), scalar(0...5)) == false)
        #expect(decide(.signedGreater, .w32, scalar(0x8000_0000...low32), number(-1)) == false)
        #expect(decide(.set, .w64, bits(4, 3), number(4)) == true)
        #expect(decide(.set, .w64, bits(4, 3), number(8)) == false)
        #expect(decide(.set, .w64, bits(4, 3), number(1)) == nil)
        #expect(decide(.equal, .w64, bits(1, ~1), bits(0, ~1)) == false)
        #expect(decide(.notEqual, .w64, half(.less, 5), half(.greater, 7)) == true)
        #expect(decide(.equal, .w32, number(1), .constant(0x1_0000_0001)) == true)
        #expect(decide(.equal, .w64, number(1), .constant(0x1_0000_0001)) == false)
    }

    /// Comparisons of two registers narrow both.
    @Test func bothOperands() {
        let less = refine(.less, .w64, scalar(5...100), scalar(0...50), taken: true)
        #expect(less?.0 == scalar(5...49))
        #expect(less?.1 == scalar(6...50))
        let equal = refine(.equal, .w64, scalar(5...100), signed(-4...50), taken: true)
        #expect(equal?.0 == scalar(5...50))
        #expect(equal?.1 == scalar(5...50))
        let apart = refine(.notEqual, .w64, number(0), scalar(0...50), taken: true)
        #expect(apart?.1 == scalar(1...50))
        let unset = refine(.set, .w64, scalar(0...15), number(3), taken: false)
        #expect(unset?.0 == bits(0, 12))
    }

    @Test func subsets() {
        #expect(scalar(0...9).contains(scalar(3...5)))
        #expect(!scalar(3...5).contains(scalar(0...9)))
        #expect(Scalar.unknown.contains(.unknown))
        #expect(!bits(0, 0x30).contains(scalar(0...0x30)))
        #expect(scalar(1...2).union(scalar(5...9)) == scalar(1...9))
        #expect(signed(-1 ... -1).union(number(0)) == signed(-1...0))
    }
}
