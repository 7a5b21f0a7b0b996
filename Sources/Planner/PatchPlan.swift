/// How a site's bytes are changed; values as `enum csession_tactic`.
package enum Tactic: UInt32, Equatable, Sendable {
    /// T0: the first instruction has 5 bytes or more; `jmp rel32` replaces exactly one instruction.
    case jump = 0
    /// T1: `jmp rel8` to a `jmp rel32` in dead padding.
    case island = 1
    /// T2: `jmp rel32` over several instructions.
    case window = 2
    /// T3: `int3` in place of the first byte.
    ///
    /// Costs a signal for every hit, and kills a thread that blocks SIGTRAP.
    case trap = 3
}

/// A 32-bit displacement in relocated code that depends on where the copy is put; fields as `csession_fixup`.
package struct PatchFixup: Equatable, Sendable {
    /// Absolute address that the displacement must reach.
    package var target: UInt64
    /// Offset of the 4-byte field in the code.
    package var field: UInt32
    /// Offset of the end of its instruction: displacement = target - (copy + end).
    package var end: UInt32
}

/// Everything an agent needs to patch one place; fields as `csession_site`.
package struct PatchPlan: Equatable, Sendable {
    /// Absolute address of the patched instruction.
    package var address: UInt64
    package var tactic: Tactic
    /// Bytes that the copy replaces: whole instructions, and dead padding after a function's end.
    package var window: UInt32
    /// T1: absolute address of 5 dead bytes; else 0.
    package var island: UInt64
    /// Absolute address of the first instruction after the window; the copy's end must lead there.
    package var resume: UInt64
    /// The relocated window, without the jump to `resume`.
    package var code: [UInt8]
    package var fixups: [PatchFixup]
    /// What must be found at `address` before anything is written: at most 16 bytes, at least those that change.
    package var original: [UInt8]
    /// A function's first instruction, reached by calls alone: flags and the red zone are dead, [rsp] is the return address.
    package var isFunctionEntry: Bool
    /// A branch inside the function leads back to the site: it is hit once per round, and a return probe has no place.
    package var isLoopTarget: Bool

    /// Where a jump would lead whose displacement were the bytes that are at `address` + 1 already.
    package var punnedTarget: UInt64 {
        let bytes = original.dropFirst().prefix(4)
        let displacement = bytes.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        return address &+ 5 &+ UInt64(bitPattern: Int64(Int32(bitPattern: displacement)))
    }

    /// The relocated code as it is at `base`; what an agent does, kept here for tests and `explain`.
    package func code(at base: UInt64) -> [UInt8] {
        var bytes = code
        for fixup in fixups {
            let displacement = UInt32(truncatingIfNeeded: fixup.target &- (base &+ UInt64(fixup.end)))
            for index in 0..<4 {
                bytes[Int(fixup.field) + index] = UInt8(truncatingIfNeeded: displacement >> UInt32(8 * index))
            }
        }
        return bytes
    }
}

/// Why a place cannot be patched.
package struct PlanRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Kind: String, Equatable, Sendable, CaseIterable {
        case outsideFunction
        case notAnInstruction
        case tooShort
        case branchIntoWindow
        case unknownInstruction
        case trappingInstruction
        case privilegedInstruction
        case systemCall
        case transaction
        case callInsideWindow
        case unrelocatable
        case alreadyPatched
        case overlapsSite
        case mayBeJumpTarget
    }

    package var kind: Kind
    /// Address of the instruction that is the reason.
    package var address: UInt64
    /// Function and offset, for people.
    package var place: String
    package var why: String

    package var code: String { "U202" }
    package var message: String { "cannot patch '\(place)' (\(why))" }
    package var help: String {
        "probe the functions that it calls or that call it; --strict stops instead of going on without it"
    }
    package var description: String { "error[\(code)]: \(message)\nhelp: \(help)" }
}

/// A refusal before the place's name is known.
struct RefusalReason: Error {
    var kind: PlanRefusal.Kind
    var address: UInt64
    var why: String
}

extension PlanRefusal {
    init(_ reason: RefusalReason, place: String) {
        self.init(kind: reason.kind, address: reason.address, place: place, why: reason.why)
    }
}
