import CLinux

/// A system call that failed: which, with what, and why.
package struct KernelError: Error, Equatable, Sendable, CustomStringConvertible {
    package var call: String
    package var errno: Int32
    /// What the verifier said, where it said anything.
    package var log = ""

    package init(call: String, errno: Int32, log: String = "") {
        self.call = call
        self.errno = errno
        self.log = log
    }

    package var description: String {
        let reason = unsafe String(cString: clinux_error_text(errno))
        return log.isEmpty ? "\(call): \(reason)" : "\(call): \(reason)\n\(log)"
    }
}

/// bpf(2) and its attribute block; every call of this module goes through here.
enum BPF {
    /// Commands (`enum bpf_cmd`, include/uapi/linux/bpf.h).
    enum Command: Int64 {
        case mapCreate = 0
        case mapLookup = 1
        case mapUpdate = 2
        case mapDelete = 3
        case mapNextKey = 4
        case programLoad = 5
        case objectPin = 6
        case objectGet = 7
        case programTestRun = 10
        case objectInfo = 15
        case rawTracepointOpen = 17
        case typesLoad = 18
        case mapFreeze = 22
        case mapLookupBatch = 24
        case linkCreate = 28
        case iteratorCreate = 33
    }

    /// `union bpf_attr`: fields at byte offsets, unused ones zero.
    struct Attributes {
        fileprivate(set) var bytes: [UInt8]

        init(size: Int) { bytes = [UInt8](repeating: 0, count: size) }

        mutating func put(_ value: some FixedWidthInteger, at offset: Int) {
            for index in 0..<value.bitWidth / 8 {
                bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
            }
        }

        mutating func put(_ pointer: UnsafeRawPointer?, at offset: Int) {
            put(UInt64(UInt(bitPattern: pointer)), at: offset)
        }

        /// The address of the block, for calls other than bpf(2).
        func withAddress<R>(_ body: (Int64) -> R) -> R {
            unsafe bytes.withUnsafeBytes { body(Int64(Int(bitPattern: $0.baseAddress))) }
        }

        func word(at offset: Int) -> UInt32 {
            (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32(8 * $1) }
        }
    }

    /// An object's name as the kernel takes it: 15 characters of `[A-Za-z0-9_.]`.
    static func put(name: String, at offset: Int, in attributes: inout Attributes) {
        for (index, byte) in name.utf8.prefix(15).enumerated() {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."):
                attributes.put(byte, at: offset + index)
            default: attributes.put(UInt8(ascii: "_"), at: offset + index)
            }
        }
    }

    /// Returns the kernel's value, -errno on failure.
    @inline(never)
    static func call(_ command: Command, _ attributes: inout Attributes) -> Int64 {
        let size = Int64(attributes.bytes.count)
        let number: Int64 = 321
        return unsafe attributes.bytes.withUnsafeMutableBytes { raw in
            clinux_syscall(number, command.rawValue, Int64(Int(bitPattern: raw.baseAddress)), size, 0, 0, 0)
        }
    }
}
