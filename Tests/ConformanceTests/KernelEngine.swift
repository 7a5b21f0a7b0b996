import CLinux
import Glibc
import ISA

/// The kernel of this machine: verifier, JIT and `BPF_PROG_TEST_RUN`; needs root.
///
/// Programs are of type SYSCALL, whose context is plain memory that is copied back.
final class KernelEngine: Engine {
    static let name = "kernel"
    private let descriptor: Int32

    struct Rejected: Error {
        let errno: Int64
        let log: String
    }

    init(_ program: [Instruction]) throws {
        let code = encode(program)
        var noLog: [UInt8] = []
        var result = Self.load(code, log: &noLog)
        if result < 0 {
            // Again, for the reason; programs that fill this log walk very many paths.
            var log = [UInt8](repeating: 0, count: 16 << 20)
            result = Self.load(code, log: &log)
            if result < 0 {
                throw Rejected(errno: -result, log: String(decoding: log.prefix { $0 != 0 }.suffix(900), as: UTF8.self))
            }
        }
        descriptor = Int32(result)
    }

    /// BPF_PROG_LOAD; fields of `union bpf_attr` in include/uapi/linux/bpf.h.
    private static func load(_ code: [RawInstruction], log: inout [UInt8]) -> Int64 {
        let license = Array("GPL".utf8) + [0]
        var attributes = [UInt8](repeating: 0, count: 128)
        func put<T: FixedWidthInteger>(_ value: T, at offset: Int) {
            withUnsafeBytes(of: value.littleEndian) { attributes.replaceSubrange(offset..<offset + $0.count, with: $0) }
        }
        return code.withUnsafeBytes { instructions in
            license.withUnsafeBytes { license in
                log.withUnsafeMutableBytes { log in
                    put(UInt32(31), at: 0)  // BPF_PROG_TYPE_SYSCALL
                    put(UInt32(code.count), at: 4)
                    put(UInt64(UInt(bitPattern: instructions.baseAddress)), at: 8)
                    put(UInt64(UInt(bitPattern: license.baseAddress)), at: 16)
                    put(UInt32(log.isEmpty ? 0 : 1), at: 24)
                    put(UInt32(log.count), at: 28)
                    put(log.isEmpty ? 0 : UInt64(UInt(bitPattern: log.baseAddress)), at: 32)
                    put(UInt32(1 << 4), at: 44)  // BPF_F_SLEEPABLE
                    return bpf(5, &attributes)
                }
            }
        }
    }

    deinit { close(descriptor) }

    func run(_ context: [UInt8]) throws -> Outcome {
        var memory = context
        var attributes = [UInt8](repeating: 0, count: 80)
        func put<T: FixedWidthInteger>(_ value: T, at offset: Int) {
            withUnsafeBytes(of: value.littleEndian) { attributes.replaceSubrange(offset..<offset + $0.count, with: $0) }
        }
        let result = memory.withUnsafeMutableBytes { memory in
            put(UInt32(descriptor), at: 0)
            put(UInt32(memory.count), at: 40)  // ctx_size_in
            put(UInt64(UInt(bitPattern: memory.baseAddress)), at: 48)  // ctx_in, also written back
            return Self.bpf(10, &attributes)
        }
        guard result >= 0 else { throw Rejected(errno: -result, log: "BPF_PROG_TEST_RUN") }
        let value = (0..<4).reduce(UInt32(0)) { $0 | UInt32(attributes[4 + $1]) << UInt32(8 * $1) }
        return Outcome(result: value, context: memory)
    }

    private static func bpf(_ command: Int64, _ attributes: inout [UInt8]) -> Int64 {
        let size = Int64(attributes.count)
        return attributes.withUnsafeMutableBytes {
            clinux_syscall(321, command, Int64(Int(bitPattern: $0.baseAddress)), size, 0, 0, 0)
        }
    }
}
