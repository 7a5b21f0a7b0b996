import CRuntime
import Testing

/// Copying and clearing without vector instructions: every size near the borders between the ways it is done, at every
/// alignment.
@Suite struct MemoryTests {
    @Test func copiesAreExact() {
        var source = [UInt8](repeating: 0, count: 700)
        for index in source.indices { source[index] = UInt8(truncatingIfNeeded: index &* 7 &+ 1) }
        for size in Array(0...80) + [127, 128, 129, 504, 511, 512, 513, 600] {
            for start in 0..<9 {
                var target = [UInt8](repeating: 0xee, count: 700)
                target.withUnsafeMutableBytes { to in
                    source.withUnsafeBytes { from in
                        guard let to = to.baseAddress, let from = from.baseAddress else { return }
                        cruntime_copy(to + 16 + start, from + 3, UInt64(size))
                    }
                }
                #expect(Array(target[(16 + start)..<(16 + start + size)]) == Array(source[3..<(3 + size)]), "\(size)")
                let outside = target[..<(16 + start)] + target[(16 + start + size)...]
                #expect(outside.allSatisfy { $0 == 0xee }, "\(size)")
            }
        }
    }

    @Test func clearingIsExact() {
        for size in Array(0...80) + [127, 511, 512, 513, 600] {
            for start in 0..<9 {
                var target = [UInt8](repeating: 0xee, count: 700)
                target.withUnsafeMutableBytes { to in
                    guard let to = to.baseAddress else { return }
                    cruntime_zero(to + 16 + start, UInt64(size))
                }
                #expect(target[(16 + start)..<(16 + start + size)].allSatisfy { $0 == 0 }, "\(size)")
                let outside = target[..<(16 + start)] + target[(16 + start + size)...]
                #expect(outside.allSatisfy { $0 == 0xee }, "\(size)")
            }
        }
    }
}
