import CLinux
import Glibc

/// Where results go: standard output, or a file of its own; one write per line or report.
package final class OutputSink {
    package let format: OutputFormat
    private let descriptor: Int32
    private let name: String
    private let owns: Bool
    /// The map whose columns were named last.
    var lastHeader = ""

    /// `path` may hold `%p` (pid), `%h` (host name), `%t` (seconds since 1970) and `%%`.
    package init(format: OutputFormat, path: String?, pid: Int32) throws(Failure) {
        self.format = format
        guard let path else {
            descriptor = 1
            name = "standard output"
            owns = false
            return
        }
        name = Self.expand(path, pid: pid)
        descriptor = unsafe open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        owns = true
        if descriptor < 0 { throw Failure.outputFailed(name, errno: clinux_errno()) }
    }

    /// For tests: an open descriptor that stays the caller's.
    package init(format: OutputFormat, descriptor: Int32) {
        self.format = format
        self.descriptor = descriptor
        name = "descriptor \(descriptor)"
        owns = false
    }

    deinit { if owns { _ = close(descriptor) } }

    /// One line or several; a reader that has gone (EPIPE) is no error of ours and ends the output quietly.
    package func line(_ text: String) throws(Failure) {
        let error = writeAll(descriptor, text + "\n")
        if error != 0, error != EPIPE { throw Failure.outputFailed(name, errno: error) }
    }

    static func expand(_ path: String, pid: Int32) -> String {
        var result = ""
        var escaped = false
        for character in path {
            if !escaped {
                if character == "%" { escaped = true } else { result.append(character) }
                continue
            }
            escaped = false
            switch character {
            case "p": result += String(pid)
            case "h": result += hostName()
            case "t": result += String(time(nil))
            case "%": result += "%"
            default: result += "%\(character)"
            }
        }
        return escaped ? result + "%" : result
    }

    private static func hostName() -> String {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            guard let base = buffer.baseAddress, unsafe gethostname(base, 255) == 0 else { return "localhost" }
            unsafe base[255] = 0
            return unsafe String(cString: base)
        }
    }
}

/// How results are written.
package enum OutputFormat: String, CaseIterable, Sendable { case text, json }

/// Writes everything; 0 or an errno value.
func writeAll(_ descriptor: Int32, _ text: String) -> Int32 {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
        let written = unsafe bytes.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
        if written < 0 {
            let error = clinux_errno()
            if error == EINTR { continue }
            return error
        }
        bytes = bytes.dropFirst(written)
    }
    return 0
}

/// Messages about the run, on standard error only.
package struct Messages: Sendable {
    package var isQuiet: Bool
    package var isVerbose: Bool
    /// In JSON runs, errors and warnings are records of the data stream too.
    package init(isQuiet: Bool, isVerbose: Bool) {
        self.isQuiet = isQuiet
        self.isVerbose = isVerbose
    }

    package func status(_ text: String) {
        if !isQuiet { _ = writeAll(2, "ubpfrun: \(text)\n") }
    }

    package func detail(_ text: String) {
        if isVerbose { _ = writeAll(2, "ubpfrun: \(text)\n") }
    }

    package func warning(_ warning: Failure) {
        if !isQuiet { _ = writeAll(2, warning.text(as: "warning") + "\n") }
    }

    package static func error(_ failure: Failure) { _ = writeAll(2, failure.text() + "\n") }
}

/// `HH:MM:SS`, local.
package func clockText() -> String { unsafe cText(16) { unsafe clinux_clock_text($0, $1) } }

/// RFC 3339, UTC.
package func timeText() -> String { unsafe cText(40) { unsafe clinux_time_text($0, $1) } }

private func cText(_ size: Int, _ fill: (UnsafeMutablePointer<CChar>, UInt64) -> Void) -> String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: size) { buffer in
        guard let base = buffer.baseAddress else { return "" }
        unsafe base.initialize(repeating: 0, count: size)
        unsafe fill(base, UInt64(size))
        return unsafe String(cString: base)
    }
}
