/// Encodings of instructions; one case per row of the Intel SDM's tables (volume 2) that is used.
enum Form {
    case pushImmediate, push, pop
    case moveImmediate64, moveImmediate32, moveSignExtended, move, load, store, lea
    case alu(ALUOperation), aluImmediate32(ALUOperation), aluImmediate8(ALUOperation)
    case shift(ShiftOperation)
    case test
    case jump, jumpShort, jumpIf(Condition), jumpIndirect
    case call, callIndirect
    case ret, ud2

    /// What the bytes of the form are.
    var encoding: FormEncoding {
        switch self {
        case .pushImmediate: FormEncoding(0x68, .none, immediate: 4)
        case .push: FormEncoding(0x50, .inOpcode)
        case .pop: FormEncoding(0x58, .inOpcode)
        case .moveImmediate64: FormEncoding(0xb8, .inOpcode, immediate: 8)
        case .moveImmediate32: FormEncoding(0xb8, .inOpcode, immediate: 4)
        case .moveSignExtended: FormEncoding(0xc7, .digit(0), immediate: 4)
        case .move, .store: FormEncoding(0x89, .register)
        case .load: FormEncoding(0x8b, .register)
        case .lea: FormEncoding(0x8d, .register)
        case .alu(let operation): FormEncoding(operation.rawValue << 3 | 0x01, .register)
        case .aluImmediate32(let operation): FormEncoding(0x81, .digit(operation.rawValue), immediate: 4)
        case .aluImmediate8(let operation): FormEncoding(0x83, .digit(operation.rawValue), immediate: 1)
        case .shift(let operation): FormEncoding(0xc1, .digit(operation.rawValue), immediate: 1)
        case .test: FormEncoding(0x85, .register)
        case .jump: FormEncoding(0xe9, .none, immediate: 4)
        case .jumpShort: FormEncoding(0xeb, .none, immediate: 1)
        case .jumpIf(let condition): FormEncoding(0x80 | condition.rawValue, .none, immediate: 4, isTwoByte: true)
        case .jumpIndirect: FormEncoding(0xff, .digit(4))
        case .call: FormEncoding(0xe8, .none, immediate: 4)
        case .callIndirect: FormEncoding(0xff, .digit(2))
        case .ret: FormEncoding(0xc3, .none)
        case .ud2: FormEncoding(0x0b, .none, isTwoByte: true)
        }
    }
}

/// The constant parts of an encoding.
struct FormEncoding {
    /// What the ModRM byte is for.
    enum Fields {
        case none
        /// No ModRM; a register in the opcode's low bits.
        case inOpcode
        /// A register and a register or memory.
        case register
        /// A fixed digit and a register or memory.
        case digit(UInt8)
    }

    let opcode: UInt8
    let fields: Fields
    /// Bytes of the immediate.
    let immediate: Int
    /// Opcode in the 0F map.
    let isTwoByte: Bool

    init(_ opcode: UInt8, _ fields: Fields, immediate: Int = 0, isTwoByte: Bool = false) {
        self.opcode = opcode
        self.fields = fields
        self.immediate = immediate
        self.isTwoByte = isTwoByte
    }
}
