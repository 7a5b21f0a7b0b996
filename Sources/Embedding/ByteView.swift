/// A part of an object's bytes; every access is checked against the file.
struct ByteView {
    private let bytes: [UInt8]
    private let range: Range<Int>

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        range = bytes.indices
    }

    private init(_ bytes: [UInt8], _ range: Range<Int>) {
        self.bytes = bytes
        self.range = range
    }

    var count: Int { range.count }

    /// `size` bytes at `offset`; nil where they do not lie inside.
    func part(_ offset: UInt64, _ size: UInt64) -> ByteView? {
        guard offset <= UInt64(count), size <= UInt64(count) - offset else { return nil }
        let start = range.lowerBound + Int(offset)
        return ByteView(bytes, start..<start + Int(size))
    }

    /// A little-endian number of `size` bytes; 0 outside, which callers exclude before.
    func number(_ offset: Int, _ size: Int) -> UInt64 {
        guard offset >= 0, offset <= count - size else { return 0 }
        var value: UInt64 = 0
        for index in 0..<size { value |= UInt64(bytes[range.lowerBound + offset + index]) << UInt64(8 * index) }
        return value
    }

    func u8(_ offset: Int) -> UInt8 { UInt8(truncatingIfNeeded: number(offset, 1)) }
    func u16(_ offset: Int) -> UInt16 { UInt16(truncatingIfNeeded: number(offset, 2)) }
    func u32(_ offset: Int) -> UInt32 { UInt32(truncatingIfNeeded: number(offset, 4)) }
    func u64(_ offset: Int) -> UInt64 { number(offset, 8) }

    /// The bytes of a NUL-terminated string, at most `limit`; empty where it starts outside.
    func string(_ offset: UInt32, limit: Int) -> ArraySlice<UInt8> {
        guard Int(offset) < count else { return [] }
        let rest = bytes[(range.lowerBound + Int(offset))..<range.upperBound].prefix(limit)
        return rest.prefix { $0 != 0 }
    }
}
