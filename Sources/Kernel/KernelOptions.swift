internal import CZlib
import Glibc

/// An option that a kernel was built with.
package enum KernelOption: Equatable, Sendable {
    /// y is 1, m is 2 (libbpf's `TRI_YES`, `TRI_MODULE`), numbers are themselves.
    case number(UInt64)
    case text(String)
}

/// The options that the running kernel was built with, from where libbpf looks for them.
package enum KernelOptions {
    /// By name, `CONFIG_…`; empty where the kernel does not say.
    package static let shared: [String: KernelOption] = {
        for path in ["/boot/config-\(release)", "/proc/config.gz"] {
            if let text = read(path) { return parse(text) }
        }
        return [:]
    }()

    /// `uname -r`.
    package static var release: String {
        var name = utsname()
        guard unsafe uname(&name) == 0 else { return "" }
        return unsafe withUnsafeBytes(of: name.release) { raw in
            unsafe String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    static func parse(_ text: String) -> [String: KernelOption] {
        var result: [String: KernelOption] = [:]
        for line in text.split(separator: "\n") where line.hasPrefix("CONFIG_") {
            let parts = line.split(separator: "=", maxSplits: 1)
            guard parts.count == 2 else { continue }
            result[String(parts[0])] = value(parts[1])
        }
        return result
    }

    private static func value(_ text: Substring) -> KernelOption? {
        switch text {
        case "y": return .number(1)
        case "m": return .number(2)
        default: break
        }
        if text.count >= 2, text.first == "\"", text.last == "\"" { return .text(String(text.dropFirst().dropLast())) }
        if text.hasPrefix("0x") { return UInt64(text.dropFirst(2), radix: 16).map { .number($0) } }
        return Int64(text).map { .number(UInt64(bitPattern: $0)) } ?? UInt64(text).map { .number($0) }
    }

    /// A file's text, unpacked where it is packed; nil where it cannot be read.
    static func read(_ path: String) -> String? {
        guard let file = unsafe gzopen(path, "rbe") else { return nil }
        defer { unsafe _ = gzclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = unsafe chunk.withUnsafeMutableBytes { unsafe gzread(file, $0.baseAddress, UInt32($0.count)) }
            if count < 0 { return nil }
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += chunk[..<Int(count)]
        }
    }
}
