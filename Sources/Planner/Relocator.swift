/// Instructions rewritten so that they do the same at any address within 2 GB of the original.
struct Relocator {
    private(set) var code: [UInt8] = []
    private(set) var fixups: [PatchFixup] = []

    /// Appends the copy of one instruction; `protected` is the window, whose bytes will be changed.
    mutating func append(
        _ instruction: DecodedInstruction,
        bytes: ArraySlice<UInt8>,
        protected: Range<UInt64>
    ) throws(RefusalReason) {
        guard !instruction.isPinned else {
            throw RefusalReason(
                kind: .unrelocatable,
                address: instruction.address,
                why: "an instruction in it only works where it is"
            )
        }
        if let target = instruction.relative?.target, !instruction.isLEA, protected.contains(target) {
            throw RefusalReason(kind: .unrelocatable, address: instruction.address, why: "it reads its own first bytes")
        }
        switch instruction.kind {
        case .plain, .nop, .ret, .indirectJump: copy(instruction, bytes)
        case .jump(let target): jump(to: target)
        case .branch(let condition, let target):
            code += [0x0F, 0x80 | condition]
            displacement(to: target)
        case .countBranch(let opcode, let target):
            // jrcxz/loop +2; jmp +5; jmp rel32. An address-size prefix selects ecx and must stay.
            if bytes.prefix(instruction.opcodeOffset).contains(0x67) { code.append(0x67) }
            code += [opcode, 0x02, 0xEB, 0x05]
            jump(to: target)
        case .call(let target):
            pushReturnAddress(instruction.end)
            jump(to: target)
        case .indirectCall:
            pushReturnAddress(instruction.end)
            // FF /2 is call, FF /4 jmp with the same operand (Intel SDM volume 2, CALL and JMP).
            var changed = Array(bytes)
            let modrm = instruction.opcodeOffset + 1
            changed[modrm] = changed[modrm] & 0xC7 | 4 << 3
            copy(instruction, changed[...])
        case .trap: throw reason(.trappingInstruction, instruction, "an instruction that traps in it")
        case .systemCall: throw reason(.systemCall, instruction, "a system call in it")
        case .privileged: throw reason(.privilegedInstruction, instruction, "a privileged instruction in it")
        case .transaction: throw reason(.transaction, instruction, "a hardware transaction starts in it")
        case .unsupported: throw reason(.unknownInstruction, instruction, "a far transfer in it")
        }
    }

    private func reason(_ kind: PlanRefusal.Kind, _ at: DecodedInstruction, _ why: String) -> RefusalReason {
        RefusalReason(kind: kind, address: at.address, why: why)
    }

    private mutating func copy(_ instruction: DecodedInstruction, _ bytes: ArraySlice<UInt8>) {
        let start = code.count
        code += bytes
        guard let relative = instruction.relative else { return }
        // The displacement counts from the end of the instruction, an immediate behind it included.
        fixups.append(
            PatchFixup(
                target: relative.target,
                field: UInt32(start + relative.field),
                end: UInt32(start + instruction.size)
            )
        )
    }

    private mutating func jump(to target: UInt64) {
        code.append(0xE9)
        displacement(to: target)
    }

    private mutating func displacement(to target: UInt64) {
        fixups.append(PatchFixup(target: target, field: UInt32(code.count), end: UInt32(code.count + 4)))
        code += [0, 0, 0, 0]
    }

    /// Pushes what the original call would have: unwinders then see a pc inside the function, not in the copy.
    ///
    /// Changes no flags. Under a shadow stack (CET) the callee's return would fault; Linux enables none for glibc 2.36.
    private mutating func pushReturnAddress(_ address: UInt64) {
        let low = UInt32(truncatingIfNeeded: address)
        let high = UInt32(truncatingIfNeeded: address >> 32)
        code.append(0x68)  // push imm32, sign-extended
        append(low)
        if high != (low >> 31 == 0 ? 0 : UInt32.max) {
            code += [0xC7, 0x44, 0x24, 0x04]  // mov dword [rsp+4], imm32
            append(high)
        }
    }

    private mutating func append(_ value: UInt32) {
        for index in 0..<4 { code.append(UInt8(truncatingIfNeeded: value >> UInt32(8 * index))) }
    }
}
