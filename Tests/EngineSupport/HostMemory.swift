internal import Glibc

/// What is mapped into this process: values that a program could use against it.
package struct HostMemory {
    private var mappings: [Range<UInt64>] = []

    /// The mappings as they are now (man 5 proc_pid_maps).
    package init() {
        let descriptor = open("/proc/self/maps", O_RDONLY)
        precondition(descriptor >= 0, "/proc/self/maps cannot be opened")
        defer { close(descriptor) }
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = read(descriptor, &buffer, buffer.count), count > 0 { text += buffer[..<count] }
        for line in text.split(separator: UInt8(ascii: "\n")) {
            let range = line.prefix { $0 != UInt8(ascii: " ") }.split(separator: UInt8(ascii: "-"))
            let bounds = range.compactMap { UInt64(String(decoding: $0, as: UTF8.self), radix: 16) }
            if bounds.count == 2 { mappings.append(bounds[0]..<bounds[1]) }
        }
        precondition(!mappings.isEmpty, "/proc/self/maps says nothing")
    }

    /// Whether a value points into memory of this process.
    package func holds(_ value: UInt64) -> Bool { mappings.contains { $0.contains(value) } }
}
