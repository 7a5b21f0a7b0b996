import Testing

@testable import JIT

/// Division by a multiplication is exact for every divisor and dividend.
@Suite struct ReciprocalTests {
    private static let edges: [UInt64] = {
        var edges: [UInt64] = [0]
        for bit in UInt64(0)..<64 {
            let power: UInt64 = 1 << bit
            edges += [power, power &- 1, power &+ 1, UInt64.max - power]
        }
        return edges
    }()

    private func quotient(_ magic: Reciprocal, _ dividend: UInt64) -> UInt64 {
        let high = magic.multiplier.multipliedFullWidth(by: dividend).high
        if !magic.adds { return high >> UInt64(magic.shift) }
        return (high &+ (dividend &- high) >> 1) >> UInt64(magic.shift)
    }

    @Test func allDivisorsOfSixteenBitsAndManyOthers() {
        var random = SeededGenerator(seed: 3)
        var divisors = Array(UInt64(3)...65_537) + Self.edges
        for _ in 0..<20_000 { divisors.append(random.next() >> UInt64.random(in: 0..<62, using: &random)) }
        var wrong = 0
        for divisor in divisors where divisor > 2 && divisor & (divisor - 1) != 0 {
            let wide = Reciprocal(divisor, .w64)
            let multiple = UInt64.max / divisor * divisor
            let dividends = [
                0, 1, divisor - 1, divisor, divisor &+ 1, multiple, multiple - 1, UInt64.max, random.next(),
            ]
            for dividend in dividends where quotient(wide, dividend) != dividend / divisor { wrong += 1 }
            guard divisor <= UInt32.max else { continue }
            let narrow = Reciprocal(divisor, .w32)
            let most = UInt64(UInt32.max)
            for dividend in [0, 1, divisor - 1, divisor, most / divisor * divisor, most, random.next() & most]
            where quotient(narrow, dividend) != dividend / divisor { wrong += 1 }
        }
        #expect(wrong == 0)
    }

    @Test func everyEdgeByManyDivisors() {
        var wrong = 0
        let divisors: [UInt64] = [3, 5, 7, 10, 641, 1000, 1_000_000, 0xffff_fffb, 1 << 63 | 1, UInt64.max]
        for divisor in divisors {
            let magic = Reciprocal(divisor, .w64)
            for dividend in Self.edges where quotient(magic, dividend) != dividend / divisor { wrong += 1 }
        }
        #expect(wrong == 0)
    }
}
