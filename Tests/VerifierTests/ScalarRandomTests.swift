import ISA
import Testing

@testable import Verifier

extension Random {
    fileprivate mutating func pick<T>(_ values: [T]) -> T { values[Int(next() % UInt64(values.count))] }

    /// A word near a place where views change: small, around a power of two, negative, or anything.
    fileprivate mutating func word() -> UInt64 {
        let near = next() % 33 &- 16
        switch next() % 6 {
        case 0: return near
        case 1: return (1 << (next() % 64)) &+ near
        case 2: return 0 &- ((1 << (next() % 64)) &+ near)
        case 3: return next() & 0xffff_ffff
        case 4: return UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: next())))
        default: return next() >> (next() % 64)
        }
    }
}

/// A register as a run sees it, and as the domain does.
private struct Tracked {
    var word: UInt64
    var scalar: Scalar

    var isSound: Bool { scalar.contains(word) }

    static func constant(_ word: UInt64) -> Tracked { Tracked(word: word, scalar: .constant(word)) }

    /// Something unknown, of which bits or ranges then become known.
    init(random: inout Random) {
        word = random.word()
        scalar = .unknown
        for _ in 0..<(random.next() % 4) { learn(&random) }
    }

    init(word: UInt64, scalar: Scalar) {
        self.word = word
        self.scalar = scalar
    }

    /// Takes in a fact that is true of the word.
    mutating func learn(_ random: inout Random) {
        let free = random.next() & random.next()
        switch random.next() % 3 {
        case 0:
            guard let both = scalar.intersect(.bits(Tnum(value: word & ~free, mask: free))) else {
                scalar = .constant(~word)
                return
            }
            scalar = both
        case 1: scalar = scalar.union(.constant(random.word()))
        default:
            let other = random.next() % 2 == 0 ? random.word() : word &+ random.next() % 9 &- 4
            var operand = Tracked.constant(other)
            branch(&operand, random.pick(comparisons), random.pick(widths))
        }
    }

    /// Goes the way that the word goes.
    mutating func branch(_ other: inout Tracked, _ comparison: Comparison, _ width: Width) {
        let taken = holds(comparison, width, word, other.word)
        let decided = decide(comparison, width, scalar, other.scalar)
        let refined = refine(comparison, width, scalar, other.scalar, taken: taken)
        #expect(decided != !taken, "\(comparison) \(width) \(self) \(other)")
        #expect(refined != nil, "\(comparison) \(width) \(self) \(other)")
        guard let refined else { return }
        #expect(
            scalar.contains(refined.0) && other.scalar.contains(refined.1),
            "\(comparison) \(width) \(self) \(other)"
        )
        (scalar, other.scalar) = refined
    }
}

/// How many steps a test makes.
private let steps: Int = {
    #if DEBUG
    10_000
    #else
    500_000
    #endif
}()

@Suite struct ScalarRandomTests {
    @Test(arguments: [UInt64(1), 2, 3]) func operations(seed: UInt64) {
        var random = Random(seed: seed)
        for _ in 0..<steps {
            let (a, b) = (Tracked(random: &random), Tracked(random: &random))
            let (op, width) = (random.pick(operators), random.pick(widths))
            let result = Tracked(
                word: concrete(op, width, a.word, b.word),
                scalar: apply(op, width, a.scalar, b.scalar)
            )
            #expect(result.isSound, "\(op) \(width) \(a) \(b) -> \(result)")
            // Shifts by, and operations with, what a program has as immediate.
            let count = random.next() % 64
            let shifted = apply(op, width, a.scalar, .constant(count))
            #expect(shifted.contains(concrete(op, width, a.word, count)), "\(op) \(width) \(a) \(count) -> \(shifted)")
        }
    }

    @Test(arguments: [UInt64(4), 5]) func branches(seed: UInt64) {
        var random = Random(seed: seed)
        for _ in 0..<steps {
            var (a, b) = (Tracked(random: &random), Tracked(random: &random))
            a.branch(&b, random.pick(comparisons), random.pick(widths))
            #expect(a.isSound && b.isSound, "\(a) \(b)")
        }
    }

    /// Long straight runs of everything on a few registers, as a program would make them.
    @Test(arguments: [UInt64(6), 7]) func runs(seed: UInt64) {
        var random = Random(seed: seed)
        var registers = (0..<4).map { _ in Tracked(random: &random) }
        for _ in 0..<steps {
            let (first, second) = (Int(random.next() % 4), Int(random.next() % 4))
            var (a, b) = (registers[first], registers[second])
            let width = random.pick(widths)
            switch random.next() % 8 {
            case 0, 1, 2:
                let op = random.pick(operators)
                a = Tracked(word: concrete(op, width, a.word, b.word), scalar: apply(op, width, a.scalar, b.scalar))
            case 3, 4:
                a.branch(&b, random.pick(comparisons), width)
                if first != second { registers[second] = b }
            case 5:
                let size = random.pick(Size.allCases)
                let unused = UInt64(64 - size.bits)
                if width == .w32 {
                    a = Tracked(word: (a.word << unused) >> unused, scalar: a.scalar.zeroExtended(from: size))
                } else {
                    let word = Int64(bitPattern: a.word << unused) >> unused
                    a = Tracked(word: UInt64(bitPattern: word), scalar: a.scalar.signExtended(.w64, from: size))
                }
            case 6: a.learn(&random)
            default: a = Tracked(random: &random)
            }
            #expect(a.isSound, "\(a)")
            var again = a.scalar
            let isPossible = again.normalize()
            #expect(isPossible, "\(a)")
            registers[first] = a
        }
    }
}
