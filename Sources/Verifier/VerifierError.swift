package import ISA

/// Why a program is refused, before a target is touched; the same program gives the same error on every machine.
package struct VerifierError: Error, Equatable, Sendable {
    package var kind: Kind
    /// Index of the offending instruction.
    package var instruction: Int
    /// Its text, as the disassembler prints it.
    package var text: String

    package enum Kind: Equatable, Sendable {
        /// Jumps, calls or ends of functions are wrong; targets are slots.
        case controlFlow(DecodeError.Kind)
        /// The list of functions does not start at 0 or does not rise inside the program.
        case badFunctions
        case unreachable
        /// A function that calls itself, possibly through others.
        case recursion
        /// More frames than `maximumFrames`.
        case callsTooDeep(frames: Int)
        /// An access relative to the frame pointer that leaves the frame's 512 bytes.
        case stackOutOfBounds(offset: Int64, size: Int)
        case framePointerWritten
        /// On some path nothing was written to the register.
        case uninitialized(Register)
        case unknownHelper(Int64)
        case refusedHelper(Helper, HelperRefusal)
        /// An instruction that the loader poisoned, because the running kernel lacks what it asks for.
        case unresolvedRelocation
        case unsupported(Unsupported)
    }

    /// Instructions that only the kernel can run.
    package enum Unsupported: Equatable, Sendable {
        case packetAccess, kernelFunction, kernelVariable, descriptorArray, indirectCall
    }
}

extension VerifierError: CustomStringConvertible {
    package var description: String {
        if case .controlFlow(.empty) = kind { return message }
        return "insn \(instruction) (\(text)): \(message)"
    }

    private var message: String {
        switch kind {
        case .controlFlow(let kind): kind.message
        case .badFunctions: "the list of functions is damaged; this is a bug of the loader"
        case .unreachable: "no path leads here; the kernel refuses unreachable code too"
        case .recursion: "a function calls itself, which BPF does not allow"
        case .callsTooDeep(let frames): "the call makes \(frames) nested frames; at most \(maximumFrames) are allowed"
        case .stackOutOfBounds(let offset, let size):
            "access of \(size) byte\(size == 1 ? "" : "s") at r10 \(offset < 0 ? "" : "+")\(offset); the stack frame is "
                + "-\(frameSize)..-1"
        case .framePointerWritten: "r10, the frame pointer, is read-only"
        case .uninitialized(let register):
            register == .r0 && text == "exit"
                ? "r0 has no value on some path, but it is what the program returns"
                : "r\(register.rawValue) is read but has no value on some path; calls leave nothing in r1 to r5"
        case .unknownHelper(let number): "there is no helper \(number) in Linux 6.18"
        case .refusedHelper(let helper, let refusal): "\(helper.name) cannot run in userspace: \(refusal.reason)"
        case .unresolvedRelocation:
            "this code was disabled when the program was relocated: the running kernel lacks the type, field or value it "
                + "asks for; guard it with bpf_core_field_exists() or bpf_core_type_exists()"
        case .unsupported(let what): "\(what.name) cannot run in userspace"
        }
    }
}

extension VerifierError.Unsupported {
    fileprivate var name: String {
        switch self {
        case .packetAccess: "a legacy packet access"
        case .kernelFunction: "a kernel function (kfunc)"
        case .kernelVariable: "a reference to a kernel variable"
        case .descriptorArray: "a map reference by index into the loader's descriptors"
        case .indirectCall: "an indirect call"
        }
    }
}
