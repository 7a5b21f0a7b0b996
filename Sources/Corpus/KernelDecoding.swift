internal import ISA

/// Instructions as Linux reads them: some fields are not looked at, others only where a path leads to the instruction.
///
/// The instruction set reserves these fields, and `decode` refuses them wherever they are. The kernel's tests and compilers
/// have such instructions in code that is never reached, so that refusing them there would say nothing of the verifier.
struct KernelDecoding {
    /// Where an instruction is wrong, there stands another one that is wrong too once a path leads to it.
    var instructions: [Instruction] = []
    /// What is wrong, by index.
    var faults: [Int: DecodeError] = [:]

    init(_ bytes: [UInt8]) throws(DecodeError) {
        if bytes.count % 8 != 0 { throw DecodeError(.partialSlot, slot: bytes.count / 8) }
        let slots = RawInstruction.slots(bytes)
        if slots.isEmpty { throw DecodeError(.empty, slot: 0) }
        instructions.reserveCapacity(slots.count)
        var slot = 0
        while slot < slots.count {
            var raw = slots[slot]
            if raw.code == Self.exit { raw.offset = 0 }
            let instruction: Instruction
            do {
                instruction = try decode(raw, slot + 1 < slots.count ? slots[slot + 1] : nil, slot: slot)
            } catch {
                guard let substitute = Self.substitute(for: raw, error.kind) else { throw error }
                faults[instructions.count] = error
                instruction = substitute
            }
            instructions.append(instruction)
            slot += instruction.slots
        }
    }

    private static let exit: UInt8 = 0x95
    /// BPF_LDX.
    private static let loadClass: UInt8 = 1

    /// An instruction with the same successors that no verifier lets pass; nil where the kernel refuses the fault
    /// everywhere, or where there is no such instruction.
    private static func substitute(for raw: RawInstruction, _ fault: DecodeError.Kind) -> Instruction? {
        switch fault {
        case .reservedField, .framePointerWritten: break
        case .empty, .partialSlot, .unknownOpcode, .unknownVariant, .badRegister, .truncatedWideInstruction,
            .reservedSecondSlot, .jumpOutOfProgram, .jumpIntoWideInstruction, .callOutOfProgram,
            .callIntoWideInstruction,
            .jumpIntoOtherFunction, .callIntoFunction, .fallsThrough:
            return nil
        }
        // Loads alone are looked at before the walk (kernel/bpf/verifier.c, `resolve_pseudo_ldimm64`).
        if raw.code & 7 == loadClass, fault == .reservedField(.imm) { return nil }
        // A loop without an end.
        if raw.code == exit { return Instruction(.jump, offset: -1) }
        // The classes of arithmetic, loads and stores; and calls of helpers.
        let isJump = raw.code & 7 == 5 || raw.code & 7 == 6
        let isHelperCall = raw.code == 0x85 && raw.src == 0
        if raw.code == 0x18 || isJump && !isHelperCall { return nil }
        return Instruction(.callHelper, imm: Helper.poisoned)
    }
}
