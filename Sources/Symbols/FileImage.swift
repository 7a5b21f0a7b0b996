internal import Glibc

/// The text of an errno value.
func errnoText(_ code: Int32) -> String {
    guard let text = unsafe strerror(code) else { return "error \(code)" }
    return unsafe String(cString: text)
}

/// A whole file mapped read-only; every access is checked against its end.
@safe
final class FileImage {
    let path: String
    let device: UInt64
    let inode: UInt64
    let mode: UInt32
    private let bytes: UnsafeRawBufferPointer

    init(path: String) throws(SymbolsError) {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else {
            throw .cannotOpen(path, missing: errno == ENOENT || errno == ENOTDIR, reason: errnoText(errno))
        }
        defer { close(file) }
        var status = stat()
        guard unsafe fstat(file, &status) == 0 else {
            throw .cannotOpen(path, missing: false, reason: errnoText(errno))
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .cannotOpen(path, missing: false, reason: "it is not a regular file")
        }
        self.path = path
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        mode = status.st_mode
        guard status.st_size > 0 else {
            unsafe bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            return
        }
        // The kernel writes the breakpoints of its uprobes into private mappings, ours included.
        guard let start = unsafe mmap(nil, Int(status.st_size), PROT_READ, MAP_SHARED, file, 0),
            unsafe start != MAP_FAILED
        else {
            throw .cannotOpen(path, missing: false, reason: errnoText(errno))
        }
        unsafe bytes = UnsafeRawBufferPointer(start: start, count: Int(status.st_size))
    }

    deinit {
        if let base = unsafe bytes.baseAddress {
            unsafe munmap(UnsafeMutableRawPointer(mutating: base), bytes.count)
        }
    }

    var count: Int { unsafe bytes.count }

    /// Whether `size` bytes at `offset` lie inside the file.
    func contains(_ offset: UInt64, _ size: UInt64) -> Bool {
        let (end, overflow) = offset.addingReportingOverflow(size)
        return !overflow && end <= UInt64(count)
    }

    /// A value of a plain C type at `offset`, or nil beyond the end.
    func load<Value: BitwiseCopyable>(_ offset: UInt64, as type: Value.Type) -> Value? {
        guard contains(offset, UInt64(MemoryLayout<Value>.size)) else { return nil }
        return unsafe bytes.loadUnaligned(fromByteOffset: Int(offset), as: type)
    }

    /// A copy of a byte range, or nil when it does not lie inside the file.
    func array(_ offset: UInt64, _ size: UInt64) -> [UInt8]? {
        guard contains(offset, size) else { return nil }
        return unsafe [UInt8](bytes[Int(offset)..<Int(offset + size)])
    }

    /// The NUL-terminated string at `offset`, which must end before `limit`.
    func string(_ offset: UInt64, limit: UInt64) -> String? {
        guard let length = stringLength(offset, limit: limit) else { return nil }
        return unsafe String(decoding: bytes[Int(offset)..<Int(offset) + length], as: UTF8.self)
    }

    private func stringLength(_ offset: UInt64, limit: UInt64) -> Int? {
        let end = min(limit, UInt64(count))
        guard offset < end, let base = unsafe bytes.baseAddress else { return nil }
        guard let nul = unsafe memchr(base + Int(offset), 0, Int(end - offset)) else { return nil }
        return unsafe UnsafeRawPointer(nul) - (base + Int(offset))
    }

    /// Runs `body` on a byte range; nil when it does not lie inside the file.
    func withBytes<Result>(_ offset: UInt64, _ size: UInt64, _ body: (UnsafeRawBufferPointer) -> Result) -> Result? {
        guard contains(offset, size) else { return nil }
        return unsafe body(UnsafeRawBufferPointer(rebasing: bytes[Int(offset)..<Int(offset + size)]))
    }
}
