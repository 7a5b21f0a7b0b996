/// How an instruction uses a register field.
package enum RegisterUse: Sendable {
    /// The field must be zero, or for src the number in `Encoding.kind`.
    case none
    case read, write, readWrite

    package var reads: Bool {
        switch self {
        case .read, .readWrite: true
        case .none, .write: false
        }
    }

    package var writes: Bool {
        switch self {
        case .write, .readWrite: true
        case .none, .read: false
        }
    }
}

/// What the offset field of a slot holds.
package enum OffsetUse: Equatable, Sendable {
    /// It must be this number: part of the opcode, or 0 for unused.
    case fixed(Int16)
    /// Bytes from an address.
    case bytes
    /// Slots from the next instruction.
    case slots
    /// A number that only the kernel understands (descriptor index of a kernel function).
    case number
}

/// What the immediate of a slot holds.
package enum ImmUse: Equatable, Sendable {
    /// It must be this number: part of the opcode, or 0 for unused.
    case fixed(Int32)
    /// A value, in `Instruction.imm`.
    case value
    /// Slots from the next instruction, in `Instruction.offset` (`jumpLong`).
    case slots
    /// The low half of a pair of slots; the second slot's immediate is the upper half of `Instruction.imm`.
    case wide
    /// As `wide`, but the second slot's immediate must be zero and the first one's is sign-extended.
    case wideLow
}

/// How an opcode stands in an 8-byte slot, and what its fields mean or must be (RFC 9669 section 3).
///
///     +--------+----+----+--------+----------------+
///     | code 8 |src4|dst4|offset16|     imm 32     |   little-endian; dst is the low nibble
///     +--------+----+----+--------+----------------+
package struct Encoding: Equatable, Sendable {
    package var code: UInt8
    package var dst: RegisterUse = .none
    package var src: RegisterUse = .none
    /// What the src field must be where it names no register.
    package var kind: UInt8 = 0
    package var offset: OffsetUse = .fixed(0)
    package var imm: ImmUse = .fixed(0)
}

/// Bits of the opcode byte (RFC 9669 sections 3.1, 4 and 5).
private enum Code {
    static let ld: UInt8 = 0x00
    static let ldx: UInt8 = 0x01
    static let st: UInt8 = 0x02
    static let stx: UInt8 = 0x03
    static let alu32: UInt8 = 0x04
    static let jmp64: UInt8 = 0x05
    static let jmp32: UInt8 = 0x06
    static let alu64: UInt8 = 0x07

    static let fromRegister: UInt8 = 0x08

    static let abs: UInt8 = 0x20
    static let ind: UInt8 = 0x40
    static let mem: UInt8 = 0x60
    static let memSigned: UInt8 = 0x80
    static let atomic: UInt8 = 0xc0

    static let neg: UInt8 = 0x80
    static let end: UInt8 = 0xd0
    static let call: UInt8 = 0x80
    static let exit: UInt8 = 0x90
    static let cond: UInt8 = 0xe0

    static func alu(_ width: Width) -> UInt8 { width == .w64 ? alu64 : alu32 }
    static func jmp(_ width: Width) -> UInt8 { width == .w64 ? jmp64 : jmp32 }
}

extension Opcode {
    /// How the opcode is encoded; read by encoder, decoder, disassembler and the generator of malformed programs.
    package var encoding: Encoding {
        switch shape {
        case .arithmetic(let op, let width, let operand):
            let code = Code.alu(width) | op.code
            let dst: RegisterUse = op == .mov ? .write : .readWrite
            return switch operand {
            case .imm: Encoding(code: code, dst: dst, offset: .fixed(op.offset), imm: .value)
            case .reg: Encoding(code: code | Code.fromRegister, dst: dst, src: .read, offset: .fixed(op.offset))
            }
        case .negate(let width):
            return Encoding(code: Code.alu(width) | Code.neg, dst: .readWrite)
        case .signExtend(let width, let size):
            let code = Code.alu(width) | Operator.mov.code | Code.fromRegister
            return Encoding(code: code, dst: .write, src: .read, offset: .fixed(Int16(size.bits)))
        case .byteOrder(let order, let size):
            return switch order {
            case .little: Encoding(code: Code.alu32 | Code.end, dst: .readWrite, imm: .fixed(Int32(size.bits)))
            case .big:
                Encoding(
                    code: Code.alu32 | Code.end | Code.fromRegister,
                    dst: .readWrite,
                    imm: .fixed(Int32(size.bits))
                )
            case .swap: Encoding(code: Code.alu64 | Code.end, dst: .readWrite, imm: .fixed(Int32(size.bits)))
            }
        case .wide(let kind):
            let code = Code.ld | Size.b64.code
            return switch kind {
            // A kernel variable's upper half is the descriptor of its module's BTF.
            case .value, .mapValue, .variable, .mapValueByIndex:
                Encoding(code: code, dst: .write, kind: kind.rawValue, imm: .wide)
            case .map, .function, .mapByIndex:
                Encoding(code: code, dst: .write, kind: kind.rawValue, imm: .wideLow)
            }
        case .packet(let size, let indirect):
            return indirect
                ? Encoding(code: Code.ld | Code.ind | size.code, src: .read, imm: .value)
                : Encoding(code: Code.ld | Code.abs | size.code, imm: .value)
        case .load(let size, let signed):
            let mode = signed ? Code.memSigned : Code.mem
            return Encoding(code: Code.ldx | mode | size.code, dst: .write, src: .read, offset: .bytes)
        case .store(let size, let operand):
            return switch operand {
            case .imm: Encoding(code: Code.st | Code.mem | size.code, dst: .read, offset: .bytes, imm: .value)
            case .reg: Encoding(code: Code.stx | Code.mem | size.code, dst: .read, src: .read, offset: .bytes)
            }
        case .atomic(let op, let size):
            var encoding = Encoding(code: Code.stx | Code.atomic | size.code, offset: .bytes, imm: .fixed(op.rawValue))
            switch op {
            case .add, .or, .and, .xor, .storeRelease: (encoding.dst, encoding.src) = (.read, .read)
            case .fetchAdd, .fetchOr, .fetchAnd, .fetchXor, .exchange:
                (encoding.dst, encoding.src) = (.read, .readWrite)
            // The old value goes to r0, which is also what the memory is compared with.
            case .compareExchange: (encoding.dst, encoding.src) = (.read, .read)
            case .loadAcquire: (encoding.dst, encoding.src) = (.write, .read)
            }
            return encoding
        case .jump(let long):
            return long
                ? Encoding(code: Code.jmp32, imm: .slots)
                : Encoding(code: Code.jmp64, offset: .slots)
        case .conditionalJump(let comparison, let width, let operand):
            let code = Code.jmp(width) | comparison.rawValue
            return switch operand {
            case .imm: Encoding(code: code, dst: .read, offset: .slots, imm: .value)
            case .reg: Encoding(code: code | Code.fromRegister, dst: .read, src: .read, offset: .slots)
            }
        case .mayGoto:
            return Encoding(code: Code.jmp64 | Code.cond, offset: .slots)
        case .call(let kind):
            let code = Code.jmp64 | Code.call
            return switch kind {
            case .helper: Encoding(code: code, imm: .value)
            case .local: Encoding(code: code, kind: 1, imm: .value)
            case .kernelFunction: Encoding(code: code, kind: 2, offset: .number, imm: .value)
            case .register: Encoding(code: code | Code.fromRegister, dst: .read)
            }
        case .exit:
            return Encoding(code: Code.jmp64 | Code.exit)
        }
    }
}
