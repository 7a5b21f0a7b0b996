package import CRuntime
package import ISA
package import Runtime

/// Why and where a run of a program was stopped.
package struct Trap: Error, Equatable, Sendable {
    package let kind: TrapKind
    /// Index of the instruction in the program that was running.
    package let instruction: Int
    /// The offending address, argument or helper number; see `TrapKind`.
    package let value: UInt64

    package init(_ kind: TrapKind, instruction: Int, value: UInt64) {
        self.kind = kind
        self.instruction = instruction
        self.value = value
    }

    /// The trap that ended the last run; nil where it reached its `exit`.
    package init?(_ context: UnsafeMutablePointer<cruntime_context>) { unsafe self.init(context.pointee.trap) }

    /// What a context says; nil where it says that there was none.
    package init?(_ trap: cruntime_trap) {
        guard trap.kind != 0, let kind = TrapKind(rawValue: UInt8(truncatingIfNeeded: trap.kind)) else { return nil }
        self.init(kind, instruction: Int(trap.instruction), value: trap.value)
    }

    /// What went wrong, without the place.
    package var reason: String {
        switch kind {
        case .none: "no trap"
        case .badRead: "reads \(hexadecimal(value)), which is no memory of the program"
        case .badWrite: "writes \(hexadecimal(value)), which is no writable memory of the program"
        case .misaligned: "atomic operation on \(hexadecimal(value)), which is not a multiple of its size"
        case .budget: "ran for too many instructions"
        case .callDepth: "calls nest deeper than \(Interpreter.maximumFrames) frames"
        case .unknownHelper:
            "calls helper \(value >> 32 == 0 ? "\(value)" : hexadecimal(value)), which this runtime does not have"
        case .badArgument: "helper argument \(hexadecimal(value)) is no valid pointer, map or size"
        case .unsupported: "has no meaning outside the kernel"
        case .badJump: "calls instruction \(value), where no function starts"
        case .stopped: "stopped by its observer"
        case .lockHeld: "another thread held a bpf_spin_lock for too long"
        case .wrongMapType: "the helper does not work on the type of map \(value)"
        }
    }

    /// One line for people: the place, the instruction where the program is given, and the reason.
    package func description(in program: [Instruction] = []) -> String {
        guard program.indices.contains(instruction) else { return "instruction \(instruction): \(reason)" }
        return "instruction \(instruction) (\(Disassembler().text(program[instruction]))): \(reason)"
    }
}

/// A number as C writes it.
package func hexadecimal(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
