import Glibc
import ISA

/// What the running kernel can do; asked by doing it, as versions and configurations do not tell.
package enum KernelFeatures {
    package enum Answer: Equatable, Sendable {
        case yes
        case no
        /// Privileges are missing, or something else was in the way.
        case unknown(String)
    }

    /// Links on many functions of the kernel at once.
    package static let kprobeMulti = answer { () throws(KernelError) in
        let program = try nothing(AttachType.kprobeMulti)
        _ = try KernelLink.kprobes(program, functions: ["__x64_sys_getpgid"], isReturn: false)
    }

    /// Links on many places of a file at once, for all threads of a process.
    package static let uprobeMulti = answer { () throws(KernelError) in
        let program = try nothing(AttachType.uprobeMulti)
        // A directory, which only kernels that have such links find out (bpf_uprobe_multi_link_attach).
        try refusal(of: program, pid: nil, is: EBADF)
        // The first of them took a process's number for one thread's (fixed in 6.10); they did not look at numbers that no
        // process can have before they looked at the path.
        try refusal(of: program, pid: -1, is: EINVAL)
    }

    private static func refusal(
        of program: borrowing KernelProgram,
        pid: Int32?,
        is expected: Int32
    ) throws(KernelError) {
        do throws(KernelError) {
            _ = try KernelLink.uprobes(
                program,
                path: "/",
                places: [KernelLink.FilePlace(offset: 0)],
                isReturn: false,
                pid: pid
            )
        } catch {
            if error.errno == expected { return }
            throw error.errno == EBADF ? KernelError(call: error.call, errno: ENOENT) : error
        }
    }

    private static func nothing(_ attachType: UInt32) throws(KernelError) -> KernelProgram {
        try KernelProgram(
            [Instruction(.mov64Imm, dst: .r0, imm: 0), Instruction(.exit)],
            type: .kprobe,
            attachType: attachType
        )
    }

    private static func answer(_ body: () throws(KernelError) -> Void) -> Answer {
        do throws(KernelError) {
            try body()
            return .yes
        } catch {
            switch error.errno {
            case EOPNOTSUPP, EINVAL, ENOENT, ENOSYS: return .no
            default: return .unknown(error.description)
            }
        }
    }
}
