/// A histogram by powers of two, as programs count one in an array called `slots`: slot N holds what has N + 1 digits in binary.
package struct Log2Histogram: Equatable, Sendable {
    package struct Bucket: Equatable, Sendable {
        package var min: UInt64
        package var max: UInt64
        package var count: UInt64
    }

    /// From the first to the last one that holds anything.
    package let buckets: [Bucket]

    package init(slots: [UInt64]) {
        let used = slots.prefix(64)
        guard let first = used.firstIndex(where: { $0 != 0 }), let last = used.lastIndex(where: { $0 != 0 }) else {
            buckets = []
            return
        }
        buckets = (first...last).map { index in
            let low: UInt64 = index == 0 ? 0 : 1 << UInt64(index)
            // 2 << 63 is 0, and one less is the largest number.
            let high: UInt64 = (2 << UInt64(index)) &- 1
            return Bucket(min: low, max: high, count: used[index])
        }
    }

    /// Lines in the form of bpftrace: `[4, 8)      3 |@@@@      |`.
    package var lines: [String] {
        let width = 52
        let most = buckets.map(\.count).max() ?? 0
        return buckets.map { bucket in
            let bar = most == 0 ? 0 : Int(Double(bucket.count) / Double(most) * Double(width))
            let range = "[\(Self.scaled(bucket.min)), \(Self.scaled(bucket.max &+ 1)))"
            let marks = aligned(String(repeating: "@", count: bar), to: width)
            return "\(aligned(range, to: 16)) \(padded(String(bucket.count), to: 8)) |\(marks)|"
        }
    }

    /// `4K` for 4096.
    private static func scaled(_ value: UInt64) -> String {
        guard value > 0 else { return "0" }
        let units = ["", "K", "M", "G", "T", "P", "E"]
        let unit = value.trailingZeroBitCount / 10
        return "\(value >> UInt64(10 * unit))\(units[unit])"
    }
}
