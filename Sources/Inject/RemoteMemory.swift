internal import CLinux
internal import Glibc

/// The memory of another process, read and written without stopping it.
struct RemoteMemory {
    /// Any of its living threads.
    var thread: Int32

    func load<Value: BitwiseCopyable>(_ address: UInt64, as type: Value.Type) -> Value? {
        unsafe withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { buffer -> Value? in
            guard let start = buffer.baseAddress,
                unsafe clinux_read_memory(thread, address, start, UInt64(MemoryLayout<Value>.size)) == 0
            else { return nil }
            return unsafe start.pointee
        }
    }

    /// Fills a buffer; false when not all of it is mapped.
    func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        guard let start = buffer.baseAddress, unsafe !buffer.isEmpty else { return true }
        return unsafe clinux_read_memory(thread, address, start, UInt64(buffer.count)) == 0
    }

    func words(_ address: UInt64, count: Int) -> [UInt64]? {
        var words = [UInt64](repeating: 0, count: count)
        let done = unsafe words.withUnsafeMutableBytes { unsafe read(address, into: $0) }
        return done ? words : nil
    }

    /// A C string of at most `limit` bytes.
    func string(_ address: UInt64, limit: Int = 512) -> String? {
        guard address != 0 else { return nil }
        var bytes: [UInt8] = []
        while bytes.count < limit {
            // In pieces that end at a boundary: what comes after the string may not be mapped.
            let count = 64 - Int((address &+ UInt64(bytes.count)) & 63)
            var piece = [UInt8](repeating: 0, count: count)
            let done = unsafe piece.withUnsafeMutableBytes { unsafe read(address &+ UInt64(bytes.count), into: $0) }
            guard done else { return nil }
            if let end = piece.firstIndex(of: 0) { return String(decoding: bytes + piece[..<end], as: UTF8.self) }
            bytes += piece
        }
        return nil
    }

    func write(_ address: UInt64, _ bytes: UnsafeRawBufferPointer) -> Int32 {
        guard let start = bytes.baseAddress else { return 0 }
        return unsafe clinux_write_memory(thread, address, start, UInt64(bytes.count))
    }
}

/// The text of an errno value.
func errorText(_ number: Int32) -> String { unsafe String(cString: clinux_error_text(abs(number))) }
