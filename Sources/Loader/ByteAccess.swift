/// Little-endian reads that answer nil outside of the bytes; every number from a file goes through these.
extension [UInt8] {
    func u8(at offset: Int) -> UInt8? {
        offset >= 0 && offset < count ? self[offset] : nil
    }

    func u16(at offset: Int) -> UInt16? {
        guard offset >= 0, offset <= count - 2 else { return nil }
        return unsafe span.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self)
    }

    func u32(at offset: Int) -> UInt32? {
        guard offset >= 0, offset <= count - 4 else { return nil }
        return unsafe span.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self)
    }

    func u64(at offset: Int) -> UInt64? {
        guard offset >= 0, offset <= count - 8 else { return nil }
        return unsafe span.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }

    /// The zero-terminated string at `offset`; nil if it has no end before `limit`.
    func cString(at offset: Int, limit: Int? = nil) -> String? {
        let limit = limit ?? count
        guard offset >= 0, offset < limit, limit <= count else { return nil }
        var end = offset
        while end < limit, self[end] != 0 { end += 1 }
        return end < limit ? String(decoding: self[offset..<end], as: UTF8.self) : nil
    }

    /// `size` bytes at `offset`; nil if they are not all there.
    func slice(at offset: UInt64, size: UInt64) -> [UInt8]? {
        let (end, overflow) = offset.addingReportingOverflow(size)
        guard !overflow, end <= UInt64(count) else { return nil }
        return [UInt8](self[Int(offset)..<Int(end)])
    }
}
