internal import Glibc

/// Cuts what a descriptor gives into lines.
struct LineReader {
    private var bytes: [UInt8] = []
    /// Where the next line starts, and up to where there is no line end.
    private var start = 0
    private var searched = 0
    /// The line that is being read is too long: its bytes are dropped up to its end.
    private(set) var isOverlong = false

    /// Longer lines than this are no records.
    static var limit: Int { 64 << 20 }

    /// Reads some more; false at the end.
    mutating func fill(from descriptor: Int32) throws(CorpusError) -> Bool {
        if start > 0 {
            bytes.removeSubrange(..<start)
            searched -= start
            start = 0
        }
        if bytes.count > Self.limit {
            bytes.removeAll()
            searched = 0
            isOverlong = true
        }
        let room = 1 << 18
        let old = bytes.count
        var count = 0
        bytes.append(contentsOf: repeatElement(0, count: room))
        repeat {
            count = unsafe bytes.withUnsafeMutableBytes {
                unsafe read(descriptor, $0.baseAddress.map { unsafe $0 + old }, room)
            }
        } while count < 0 && errno == EINTR
        let failed = count < 0
        bytes.removeSubrange((old + max(count, 0))...)
        if failed { throw .failed("read") }
        return count > 0
    }

    /// The next whole line without its end.
    mutating func next() -> ArraySlice<UInt8>? {
        guard let end = bytes[searched...].firstIndex(of: UInt8(ascii: "\n")) else {
            searched = bytes.count
            return nil
        }
        defer {
            start = end + 1
            searched = start
        }
        return bytes[start..<end]
    }

    /// What is left behind the last line end.
    mutating func rest() -> ArraySlice<UInt8> {
        defer {
            start = bytes.count
            searched = start
        }
        return bytes[start...]
    }

    /// Whether the line just taken was the end of one that is too long.
    mutating func takeOverlong() -> Bool {
        defer { isOverlong = false }
        return isOverlong
    }
}

/// Writes everything; false where that cannot be done.
package func writeAll(_ bytes: some Collection<UInt8>, to descriptor: Int32) -> Bool {
    var rest = Array(bytes)[...]
    while !rest.isEmpty {
        let written = unsafe rest.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
        if written < 0, errno == EINTR { continue }
        guard written > 0 else { return false }
        rest = rest.dropFirst(written)
    }
    return true
}
