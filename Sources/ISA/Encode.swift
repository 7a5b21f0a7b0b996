/// The slots of a program, as the kernel and object files have them; the inverse of `decode`.
///
/// Values that do not fit their field are cut: `decode` never makes such an instruction, the assembler refuses it.
package func encode(_ instructions: [Instruction]) -> [RawInstruction] {
    var result: [RawInstruction] = []
    result.reserveCapacity(instructions.count)
    for instruction in instructions {
        let encoding = instruction.opcode.encoding
        result.append(firstSlot(instruction, encoding))
        switch encoding.imm {
        case .fixed, .value, .slots: break
        case .wide: result.append(secondSlot(Int32(truncatingIfNeeded: instruction.imm >> 32)))
        case .wideLow: result.append(secondSlot(0))
        }
    }
    return result
}

private func firstSlot(_ instruction: Instruction, _ encoding: Encoding) -> RawInstruction {
    let src = encoding.src == .none ? encoding.kind : instruction.src.rawValue
    let offset: Int16 =
        switch encoding.offset {
        case .fixed(let value): value
        case .bytes, .slots, .number: Int16(truncatingIfNeeded: instruction.offset)
        }
    let imm: Int32 =
        switch encoding.imm {
        case .fixed(let value): value
        case .value, .wide, .wideLow: Int32(truncatingIfNeeded: instruction.imm)
        case .slots: instruction.offset
        }
    return RawInstruction(
        code: encoding.code,
        registers: src << 4 | instruction.dst.rawValue,
        offset: offset,
        imm: imm
    )
}

private func secondSlot(_ imm: Int32) -> RawInstruction {
    RawInstruction(code: 0, registers: 0, offset: 0, imm: imm)
}

extension RawInstruction {
    package var dst: UInt8 { registers & 15 }
    package var src: UInt8 { registers >> 4 }

    /// The eight bytes in memory order (little-endian).
    package var bytes: [UInt8] {
        let offset = UInt16(bitPattern: offset)
        let imm = UInt32(bitPattern: imm)
        return [
            code, registers, UInt8(truncatingIfNeeded: offset), UInt8(truncatingIfNeeded: offset >> 8),
            UInt8(truncatingIfNeeded: imm), UInt8(truncatingIfNeeded: imm >> 8),
            UInt8(truncatingIfNeeded: imm >> 16), UInt8(truncatingIfNeeded: imm >> 24),
        ]
    }

    /// The whole slots in `bytes`; a rest of less than 8 bytes is ignored.
    package static func slots(_ bytes: [UInt8]) -> [RawInstruction] {
        var result: [RawInstruction] = []
        result.reserveCapacity(bytes.count / 8)
        var at = 0
        while at + 8 <= bytes.count {
            let offset = UInt16(bytes[at + 2]) | UInt16(bytes[at + 3]) << 8
            let imm =
                UInt32(bytes[at + 4]) | UInt32(bytes[at + 5]) << 8 | UInt32(bytes[at + 6]) << 16
                | UInt32(bytes[at + 7]) << 24
            result.append(
                RawInstruction(
                    code: bytes[at],
                    registers: bytes[at + 1],
                    offset: Int16(bitPattern: offset),
                    imm: Int32(bitPattern: imm)
                )
            )
            at += 8
        }
        return result
    }
}
