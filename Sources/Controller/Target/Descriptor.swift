import Glibc

/// Owns a file descriptor and closes it at the end of its life.
package struct Descriptor: ~Copyable, Sendable {
    package let number: Int32

    /// Takes over a descriptor from a call that returns -errno on failure.
    package init(_ result: Int32, _ what: String) throws(Failure) {
        guard result >= 0 else { throw Failure.socketFailed(what, errno: -result) }
        number = result
    }

    /// Takes over a descriptor that is known to be open.
    package init(adopting number: Int32) { self.number = number }

    deinit { _ = close(number) }
}

/// The bytes of a file, or the errno of what went wrong.
package func readFile(_ path: String, limit: Int = 1 << 30) -> Result<[UInt8], ErrnoError> {
    let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return .failure(ErrnoError(number: errno)) }
    defer { _ = close(fd) }
    var bytes: [UInt8] = []
    let chunk = 1 << 16
    while bytes.count < limit {
        let start = bytes.count
        bytes.append(contentsOf: repeatElement(0, count: chunk))
        let got = unsafe bytes.withUnsafeMutableBytes {
            unsafe Glibc.read(fd, $0.baseAddress?.advanced(by: start), chunk)
        }
        bytes.removeLast(chunk - max(0, got))
        if got < 0 {
            if errno == EINTR { continue }
            return .failure(ErrnoError(number: errno))
        }
        if got == 0 { break }
    }
    return .success(bytes)
}

/// An errno value as an error.
package struct ErrnoError: Error, Equatable { package let number: Int32 }

/// A variable of this process's environment.
package func environmentValue(_ name: String) -> String? {
    unsafe getenv(name).map { unsafe String(cString: $0) }
}

/// The whole environment, as `NAME=VALUE`.
package func environmentList() -> [String] {
    var list: [String] = []
    var next = unsafe environ
    while let entry = unsafe next.pointee {
        unsafe list.append(String(cString: entry))
        unsafe next += 1
    }
    return list
}
