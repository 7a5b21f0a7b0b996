internal import Conformance
internal import Glibc

/// Everything that comes from standard input.
private func readInput() -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let got = unsafe read(STDIN_FILENO, &chunk, chunk.count)
        if got < 0, errno == EINTR { continue }
        guard got > 0 else { return bytes }
        bytes += chunk[..<got]
    }
}

/// Writes all of `text`, which is at most a few lines.
private func put(_ text: String, _ descriptor: Int32) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
        let written = unsafe rest.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
        if written < 0, errno == EINTR { continue }
        guard written > 0 else { exit(74) }
        rest = rest.dropFirst(written)
    }
}

do {
    put(try conformanceResult(Array(CommandLine.arguments.dropFirst()), input: readInput), STDOUT_FILENO)
} catch {
    put("ubpf-conformance: \(error.message)\n", STDERR_FILENO)
    exit(error.status)
}
