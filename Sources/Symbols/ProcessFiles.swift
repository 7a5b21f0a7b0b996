internal import Glibc

/// An errno value as an error.
struct SystemFailure: Error {
    var code: Int32
}

/// Reads a file whose size is not known before (`/proc`).
func readProcFile(_ path: String) -> Result<[UInt8], SystemFailure> {
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return .failure(SystemFailure(code: errno)) }
    defer { close(file) }
    var content: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
        let count = unsafe chunk.withUnsafeMutableBytes { unsafe Glibc.read(file, $0.baseAddress, $0.count) }
        if count < 0 {
            if errno == EINTR { continue }
            return .failure(SystemFailure(code: errno))
        }
        if count == 0 { return .success(content) }
        content += chunk[..<count]
    }
}

/// What makes two paths the same file.
struct FileIdentity: Equatable {
    var device: UInt64
    var inode: UInt64
}

func fileIdentity(_ path: String) -> FileIdentity? {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return nil }
    return FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
}

/// Whether two paths lead to one file, as `/bin/bash` and `/usr/bin/bash` do after the usrmerge.
package func isSameFile(_ first: String, _ second: String) -> Bool {
    guard let identity = fileIdentity(first) else { return false }
    return identity == fileIdentity(second)
}

/// Reads the memory of a process through `/proc/PID/mem`.
package func readMemory(pid: Int32, address: UInt64, count: Int) throws(SymbolsError) -> [UInt8] {
    let file = unsafe open("/proc/\(pid)/mem", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else {
        if errno == ENOENT { throw .noProcess(pid) }
        throw .processUnreadable(pid, "memory", reason: errnoText(errno))
    }
    defer { close(file) }
    var content = [UInt8](repeating: 0, count: count)
    let got = unsafe content.withUnsafeMutableBytes { buffer in
        unsafe pread(file, buffer.baseAddress, buffer.count, off_t(truncatingIfNeeded: address))
    }
    guard got == count else {
        throw .processUnreadable(
            pid,
            "memory at 0x\(String(address, radix: 16))",
            reason: got < 0 ? errnoText(errno) : "only \(got) of \(count) bytes are mapped"
        )
    }
    return content
}

/// The ids of a process's threads.
package func threadNumbers(_ pid: Int32) -> [Int32] {
    guard let directory = unsafe opendir("/proc/\(pid)/task") else { return [] }
    defer { unsafe closedir(directory) }
    var numbers: [Int32] = []
    while let entry = unsafe readdir(directory) {
        let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { raw in
            unsafe String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
        if let number = Int32(name) { numbers.append(number) }
    }
    return numbers
}
