/// Encodings of instructions; one case per row of the Intel SDM's tables (volume 2) that is used.
enum Form {
    case pushImmediate, push, pop
    case moveImmediate64, moveImmediate32, moveSignExtended, move, load, store, lea
    case store8, store16, storeImmediate8, storeImmediate16, storeImmediate32
    case loadZero8, loadZero16, loadSigned8, loadSigned16, loadSigned32
    case alu(ALUOperation), aluLoad(ALUOperation), aluImmediate32(ALUOperation), aluImmediate8(ALUOperation)
    case multiply, multiplyImmediate8, multiplyImmediate32
    case unary(UnaryOperation), signExtendAccumulator
    case shift(ShiftOperation), shift16(ShiftOperation), shiftByCL(ShiftOperation)
    case shiftByRegister(ShiftOperation), rotateCopy
    case byteSwap
    case test, testImmediate
    case exchange(ExchangeOperation)
    case jump, jumpShort, jumpIf(Condition), jumpIfShort(Condition), jumpIndirect
    case call, callIndirect
    case ret, ud2

    /// What the bytes of the form are.
    @inline(__always)
    var encoding: FormEncoding {
        switch self {
        case .pushImmediate: FormEncoding(0x68, .none, immediate: 4)
        case .push: FormEncoding(0x50, .inOpcode)
        case .pop: FormEncoding(0x58, .inOpcode)
        case .moveImmediate64: FormEncoding(0xb8, .inOpcode, immediate: 8)
        case .moveImmediate32: FormEncoding(0xb8, .inOpcode, immediate: 4)
        case .moveSignExtended, .storeImmediate32: FormEncoding(0xc7, .digit(0), immediate: 4)
        case .move, .store: FormEncoding(0x89, .register)
        case .load: FormEncoding(0x8b, .register)
        case .lea: FormEncoding(0x8d, .register)
        case .store8: FormEncoding(0x88, .register)
        case .store16: FormEncoding(0x89, .register, prefix: .operandSize)
        case .storeImmediate8: FormEncoding(0xc6, .digit(0), immediate: 1)
        case .storeImmediate16: FormEncoding(0xc7, .digit(0), immediate: 2, prefix: .operandSize)
        case .loadZero8: FormEncoding(0xb6, .register, map: .two)
        case .loadZero16: FormEncoding(0xb7, .register, map: .two)
        case .loadSigned8: FormEncoding(0xbe, .register, map: .two)
        case .loadSigned16: FormEncoding(0xbf, .register, map: .two)
        case .loadSigned32: FormEncoding(0x63, .register)
        case .alu(let operation): FormEncoding(operation.rawValue << 3 | 0x01, .register)
        case .aluLoad(let operation): FormEncoding(operation.rawValue << 3 | 0x03, .register)
        case .aluImmediate32(let operation): FormEncoding(0x81, .digit(operation.rawValue), immediate: 4)
        case .aluImmediate8(let operation): FormEncoding(0x83, .digit(operation.rawValue), immediate: 1)
        case .multiply: FormEncoding(0xaf, .register, map: .two)
        case .multiplyImmediate8: FormEncoding(0x6b, .register, immediate: 1)
        case .multiplyImmediate32: FormEncoding(0x69, .register, immediate: 4)
        case .unary(let operation): FormEncoding(0xf7, .digit(operation.rawValue))
        case .signExtendAccumulator: FormEncoding(0x99, .none)
        case .shift(let operation): FormEncoding(0xc1, .digit(operation.rawValue), immediate: 1)
        case .shift16(let operation):
            FormEncoding(0xc1, .digit(operation.rawValue), immediate: 1, prefix: .operandSize)
        case .shiftByCL(let operation): FormEncoding(0xd3, .digit(operation.rawValue))
        // BMI2: shlx, shrx and sarx differ in the implied prefix; rorx. Digit 0 and 1 have no such form.
        case .shiftByRegister(.shl): FormEncoding(0xf7, .register, map: .vex38(1))
        case .shiftByRegister(.shr): FormEncoding(0xf7, .register, map: .vex38(3))
        case .shiftByRegister(.sar): FormEncoding(0xf7, .register, map: .vex38(2))
        case .shiftByRegister(.rol), .shiftByRegister(.ror): FormEncoding(0x0b, .none, map: .two)
        case .rotateCopy: FormEncoding(0xf0, .register, immediate: 1, map: .vex3a(3))
        case .byteSwap: FormEncoding(0xc8, .inOpcode, map: .two)
        case .test: FormEncoding(0x85, .register)
        case .testImmediate: FormEncoding(0xf7, .digit(0), immediate: 4)
        case .exchange(.xadd): FormEncoding(0xc1, .register, map: .two, prefix: .lock)
        case .exchange(.cmpxchg): FormEncoding(0xb1, .register, map: .two, prefix: .lock)
        case .exchange(.xchg): FormEncoding(0x87, .register)
        case .jump: FormEncoding(0xe9, .none, immediate: 4)
        case .jumpShort: FormEncoding(0xeb, .none, immediate: 1)
        case .jumpIf(let condition): FormEncoding(0x80 | condition.rawValue, .none, immediate: 4, map: .two)
        case .jumpIfShort(let condition): FormEncoding(0x70 | condition.rawValue, .none, immediate: 1)
        case .jumpIndirect: FormEncoding(0xff, .digit(4))
        case .call: FormEncoding(0xe8, .none, immediate: 4)
        case .callIndirect: FormEncoding(0xff, .digit(2))
        case .ret: FormEncoding(0xc3, .none)
        case .ud2: FormEncoding(0x0b, .none, map: .two)
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

    /// The opcode map, and for VEX the implied prefix (1: 66, 2: F3, 3: F2).
    enum Map {
        case one, two
        case vex38(UInt8), vex3a(UInt8)
    }

    /// The byte before everything else.
    enum Prefix: UInt8 {
        case none = 0
        case operandSize = 0x66
        case lock = 0xf0
    }

    let opcode: UInt8
    let fields: Fields
    /// Bytes of the immediate.
    let immediate: Int
    let map: Map
    let prefix: Prefix

    @inline(__always)
    init(_ opcode: UInt8, _ fields: Fields, immediate: Int = 0, map: Map = .one, prefix: Prefix = .none) {
        self.opcode = opcode
        self.fields = fields
        self.immediate = immediate
        self.map = map
        self.prefix = prefix
    }

    /// The same with another prefix.
    @inline(__always)
    func with(_ prefix: Prefix) -> FormEncoding {
        FormEncoding(opcode, fields, immediate: immediate, map: map, prefix: prefix)
    }
}
