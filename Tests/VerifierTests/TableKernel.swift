import Glibc
import ISA
import Testing

@testable import Kernel
@testable import Verifier

/// The verifier of the running kernel.
enum KernelVerifier {
    /// Its rules are those of the tables: Linux 6.18, as root.
    static let isOracle: Bool = {
        guard geteuid() == 0 else { return false }
        var name = utsname()
        guard unsafe uname(&name) == 0 else { return false }
        return unsafe withUnsafeBytes(of: &name.release) { unsafe $0.starts(with: "6.18.".utf8) }
    }()

    static let reason = Comment("asks the verifier of Linux 6.18, which takes that kernel and root")

    /// What it says: 0 or -errno, and the log.
    static func ask(
        _ instructions: [Instruction],
        _ type: ProgramType,
        attachType: UInt32 = 0,
        isSleepable: Bool = false,
        license: String = "GPL",
        logLevel: UInt32 = 1
    ) -> (status: Int64, log: String) {
        let code = encode(KernelFunctions.resolved(instructions))
        let license = Array(license.utf8) + [0]
        var log = [UInt8](repeating: 0, count: 1 << 14)
        var attributes = BPF.Attributes(size: 120)
        attributes.put(type.rawValue, at: 0)
        attributes.put(UInt32(code.count), at: 4)
        attributes.put(logLevel, at: 24)
        attributes.put(UInt32(log.count), at: 28)
        attributes.put(UInt32(isSleepable ? 16 : 0), at: 44)
        attributes.put(attachType, at: 68)
        let result = unsafe code.withUnsafeBytes { code in
            unsafe license.withUnsafeBytes { license in
                unsafe log.withUnsafeMutableBytes { log in
                    unsafe attributes.put(code.baseAddress, at: 8)
                    unsafe attributes.put(license.baseAddress, at: 16)
                    unsafe attributes.put(log.baseAddress, at: 32)
                    return BPF.call(.programLoad, &attributes)
                }
            }
        }
        if result >= 0 { _ = close(Int32(result)) }
        return (min(result, 0), String(decoding: log.prefix { $0 != 0 }, as: UTF8.self))
    }
}

/// A program type as the kernel distinguishes them.
struct Variant: CustomTestStringConvertible, Sendable {
    var type: ProgramType
    var attachType: UInt32 = 0
    var isSleepable = false

    var testDescription: String { "\(type.name)\(attachType == 0 ? "" : ", attach type \(attachType)")" }

    /// Every type that the tables know, and those of its variants that make a difference somewhere.
    static let all: [Variant] =
        ProgramType.allCases.filter { ProgramTypes.known.contains(ProgramTypes($0)) }.map { Variant(type: $0) } + [
            Variant(type: .kprobe, isSleepable: true),
            Variant(type: .kprobe, attachType: 42),
            Variant(type: .kprobe, attachType: 48, isSleepable: true),
            Variant(type: .kprobe, attachType: AttachType.kprobeSession),
            Variant(type: .kprobe, attachType: AttachType.uprobeSession),
            Variant(type: .cgroupSKB, attachType: AttachType.cgroupEgress),
            Variant(type: .skSKB, attachType: 5),
            Variant(type: .xdp, attachType: AttachType.devmap),
        ]
}
