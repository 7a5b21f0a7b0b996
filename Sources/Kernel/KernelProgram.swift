import Glibc
package import ISA

/// A program that the kernel has verified and compiled.
package struct KernelProgram: ~Copyable {
    package let descriptor: Int32

    /// Loads a program; a refusal carries the verifier's log.
    ///
    /// Needs CAP_BPF and, for tracing types, CAP_PERFMON. Maps are descriptors in `loadMap` (see `KernelMap`).
    /// `attachFunction` is the BTF id of what a tracing program is for, `externs` the object's names of kernel symbols,
    /// `functions` what programs with callbacks must have.
    package init(
        _ instructions: [Instruction],
        type: ProgramType,
        flags: UInt32 = 0,
        license: String = "GPL",
        attachType: UInt32 = 0,
        attachFunction: UInt32 = 0,
        name: String = "",
        externs: [String] = [],
        functions: FunctionTypes? = nil
    ) throws(KernelError) {
        let code = encode(KernelFunctions.resolved(instructions, externs: externs))
        var request = BPF.Attributes(size: 120)
        request.put(type.rawValue, at: 0)
        request.put(flags, at: 44)
        BPF.put(name: name, at: 48, in: &request)
        request.put(attachType, at: 68)
        request.put(attachFunction, at: 108)
        if let functions { request.put(UInt32(bitPattern: functions.descriptor), at: 72) }
        let records = functions?.bytes ?? []
        var log: [UInt8] = []
        var result = Self.load(code, request, license, records, &log)
        if result < 0, result != -Int64(EPERM) {
            // Again for the reason; a log costs time, so not at first.
            log = [UInt8](repeating: 0, count: 1 << 20)
            result = Self.load(code, request, license, records, &log)
        }
        guard result >= 0 else {
            let text = String(decoding: log.prefix { $0 != 0 }, as: UTF8.self)
            throw KernelError(call: "bpf(PROG_LOAD)", errno: Int32(-result), log: text)
        }
        descriptor = Int32(result)
    }

    /// The flag `BPF_F_SLEEPABLE`.
    package static let sleepable: UInt32 = 16

    deinit { _ = close(descriptor) }

    private static func load(
        _ code: [RawInstruction],
        _ request: BPF.Attributes,
        _ license: String,
        _ functions: [UInt8],
        _ log: inout [UInt8]
    ) -> Int64 {
        let license = Array(license.utf8) + [0]
        var attributes = request
        attributes.put(UInt32(code.count), at: 4)
        return unsafe code.withUnsafeBytes { instructions in
            unsafe license.withUnsafeBytes { license in
                unsafe functions.withUnsafeBytes { functions in
                    unsafe log.withUnsafeMutableBytes { log in
                        unsafe attributes.put(instructions.baseAddress, at: 8)
                        unsafe attributes.put(license.baseAddress, at: 16)
                        if functions.count > 0 {
                            attributes.put(UInt32(8), at: 76)
                            unsafe attributes.put(functions.baseAddress, at: 80)
                            attributes.put(UInt32(functions.count / 8), at: 88)
                        }
                        if log.count > 0 {
                            attributes.put(UInt32(1), at: 24)
                            attributes.put(UInt32(log.count), at: 28)
                            unsafe attributes.put(log.baseAddress, at: 32)
                        }
                        return BPF.call(.programLoad, &attributes)
                    }
                }
            }
        }
    }

    /// Runs the program once on `context` (BPF_PROG_TEST_RUN), as types SYSCALL and RAW_TRACEPOINT take it.
    ///
    /// Returns r0 and the context as the program left it.
    package borrowing func run(context: [UInt8]) throws(KernelError) -> (result: UInt32, context: [UInt8]) {
        var memory = context
        var attributes = BPF.Attributes(size: 80)
        attributes.put(UInt32(descriptor), at: 0)
        attributes.put(UInt32(memory.count), at: 40)
        let status = unsafe memory.withUnsafeMutableBytes { raw in
            unsafe attributes.put(raw.baseAddress, at: 48)
            return BPF.call(.programTestRun, &attributes)
        }
        guard status >= 0 else { throw KernelError(call: "bpf(PROG_TEST_RUN)", errno: Int32(-status)) }
        return (attributes.word(at: 4), memory)
    }

    /// Runs the program `count` times on packet data, as socket filters, XDP and TC programs take it.
    ///
    /// Returns r0, the data, and the mean time of a run in nanoseconds.
    package borrowing func run(packet: [UInt8], count: Int = 1) throws(KernelError) -> (
        result: UInt32, packet: [UInt8], nanoseconds: UInt32
    ) {
        let input = packet
        var output = [UInt8](repeating: 0, count: packet.count + 256)
        var attributes = BPF.Attributes(size: 80)
        attributes.put(UInt32(descriptor), at: 0)
        attributes.put(UInt32(input.count), at: 8)
        attributes.put(UInt32(output.count), at: 12)
        attributes.put(UInt32(count), at: 32)
        let status = unsafe input.withUnsafeBytes { input in
            unsafe output.withUnsafeMutableBytes { output in
                unsafe attributes.put(input.baseAddress, at: 16)
                unsafe attributes.put(output.baseAddress, at: 24)
                return BPF.call(.programTestRun, &attributes)
            }
        }
        guard status >= 0 else { throw KernelError(call: "bpf(PROG_TEST_RUN)", errno: Int32(-status)) }
        let size = min(output.count, Int(attributes.word(at: 12)))
        return (attributes.word(at: 4), Array(output[..<size]), attributes.word(at: 36))
    }

    /// Runs the program once on a packet and with a context (`xdp_md`, `__sk_buff`), both as it left them.
    ///
    /// Fields of the context that the kernel sets itself have to be 0 (net/bpf/test_run.c).
    package borrowing func run(packet: [UInt8], context: [UInt8]) throws(KernelError) -> (
        result: UInt32, packet: [UInt8], context: [UInt8]
    ) {
        var output = [UInt8](repeating: 0, count: packet.count + 4096)
        var left = [UInt8](repeating: 0, count: context.count)
        var attributes = BPF.Attributes(size: 80)
        attributes.put(UInt32(descriptor), at: 0)
        attributes.put(UInt32(packet.count), at: 8)
        attributes.put(UInt32(output.count), at: 12)
        attributes.put(UInt32(1), at: 32)
        attributes.put(UInt32(context.count), at: 40)
        attributes.put(UInt32(left.count), at: 44)
        let status = unsafe packet.withUnsafeBytes { packet in
            unsafe output.withUnsafeMutableBytes { output in
                unsafe context.withUnsafeBytes { context in
                    unsafe left.withUnsafeMutableBytes { left in
                        unsafe attributes.put(packet.baseAddress, at: 16)
                        unsafe attributes.put(output.baseAddress, at: 24)
                        unsafe attributes.put(context.baseAddress, at: 48)
                        unsafe attributes.put(left.baseAddress, at: 56)
                        return BPF.call(.programTestRun, &attributes)
                    }
                }
            }
        }
        guard status >= 0 else { throw KernelError(call: "bpf(PROG_TEST_RUN)", errno: Int32(-status)) }
        let size = min(output.count, Int(attributes.word(at: 12)))
        return (attributes.word(at: 4), Array(output[..<size]), left)
    }
}
