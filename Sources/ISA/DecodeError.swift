/// Why bytes are no program; the same bytes give the same error on every machine.
package struct DecodeError: Error, Equatable, Sendable {
    package var kind: Kind
    /// Slot of the offending instruction.
    package var slot: Int

    package init(_ kind: Kind, slot: Int) {
        self.kind = kind
        self.slot = slot
    }

    package enum Kind: Equatable, Sendable {
        case empty
        /// The byte count is no multiple of 8.
        case partialSlot
        case unknownOpcode(UInt8)
        /// The field means nothing in this instruction and must be zero.
        case reservedField(Field)
        /// The field chooses between instructions, and there is none for this value.
        case unknownVariant(Field, Int32)
        /// A register number above 10.
        case badRegister(Field, UInt8)
        case framePointerWritten
        case truncatedWideInstruction
        /// Opcode, registers, offset or (where it carries nothing) immediate of a second slot is not zero.
        case reservedSecondSlot(Field)
        case jumpOutOfProgram(target: Int)
        case jumpIntoWideInstruction(target: Int)
        case callOutOfProgram(target: Int)
        case callIntoWideInstruction(target: Int)
        /// A jump that leaves its function.
        case jumpIntoOtherFunction(target: Int)
        /// A call to an instruction where no function starts.
        case callIntoFunction(target: Int)
        /// The last instruction of a function may be passed.
        case fallsThrough
    }

    /// A field of an 8-byte slot.
    package enum Field: Equatable, Sendable {
        case code, dst, src, offset, imm
    }
}

extension DecodeError.Field {
    package var name: String {
        switch self {
        case .code: "opcode"
        case .dst: "dst"
        case .src: "src"
        case .offset: "offset"
        case .imm: "immediate"
        }
    }
}

extension DecodeError: CustomStringConvertible {
    package var description: String { "slot \(slot): \(kind.message)" }
}

extension DecodeError.Kind {
    /// What is wrong, without the place.

    package var message: String {
        switch self {
        case .empty: "the program has no instructions"
        case .partialSlot: "the code ends inside an 8-byte slot"
        case .unknownOpcode(let code): "unknown opcode \(hex(UInt64(code)))"
        case .reservedField(let field): "the \(field.name) field is unused here and must be zero"
        case .unknownVariant(let field, let value): "no instruction has \(value) in the \(field.name) field"
        case .badRegister(let field, let number): "\(field.name) names r\(number); registers are r0 to r10"
        case .framePointerWritten: "r10, the frame pointer, is read-only"
        case .truncatedWideInstruction: "the second slot of a 64-bit immediate is missing"
        case .reservedSecondSlot(let field):
            "the \(field.name) field in the second slot of a 64-bit immediate must be zero"
        case .jumpOutOfProgram(let target): "jump to slot \(target), which is outside the program"
        case .jumpIntoWideInstruction(let target): "jump to slot \(target), the middle of a 64-bit immediate"
        case .callOutOfProgram(let target): "call to slot \(target), which is outside the program"
        case .callIntoWideInstruction(let target): "call to slot \(target), the middle of a 64-bit immediate"
        case .jumpIntoOtherFunction(let target): "jump to slot \(target), which belongs to another function"
        case .callIntoFunction(let target): "call to slot \(target), where no function starts"
        case .fallsThrough: "control may run past the end of the function; it must end in exit or a jump"
        }
    }
}

/// A number as `0x1f`; Embedded Swift formats no numbers in other bases.
func hex(_ value: UInt64) -> String {
    var digits = ""
    var rest = value
    repeat {
        let digit = UInt8(truncatingIfNeeded: rest & 15)
        digits = String(Unicode.Scalar(digit < 10 ? 48 + digit : 87 + digit)) + digits
        rest >>= 4
    } while rest != 0
    return "0x" + digits
}
