/// What an opcode is made of: the operation, its width and the kind of its operands.
///
/// `Opcode.shape` is the one table of the instruction set; the encoding, the disassembly and the registers that an
/// instruction reads and writes all follow from it.
package enum Shape: Equatable, Sendable {
    /// `dst = dst op operand`; `mov` only writes dst.
    case arithmetic(Operator, Width, Operand)
    case negate(Width)
    /// `dst = (s8|s16|s32)src` in the given width.
    case signExtend(Width, from: Size)
    /// `dst` with its low 16, 32 or 64 bits put in order.
    case byteOrder(ByteOrder, Size)
    /// The two-slot instruction, by the kind in its src field.
    case wide(WideKind)
    /// Legacy packet access into r0; `indirect` adds src to the immediate.
    case packet(Size, indirect: Bool)
    case load(Size, signed: Bool)
    case store(Size, Operand)
    case atomic(AtomicOperator, Size)
    case jump(long: Bool)
    case conditionalJump(Comparison, Width, Operand)
    case mayGoto
    case call(CallKind)
    case exit
}

/// Width of an arithmetic operation or comparison.
package enum Width: Sendable {
    case w32, w64
}

/// Where the second operand comes from.
package enum Operand: Sendable {
    case imm, reg
}

/// Bytes of a memory access, log 2.
package enum Size: UInt8, CaseIterable, Sendable {
    case b8, b16, b32, b64

    package var bytes: Int { 1 << Int(rawValue) }
    package var bits: Int { 8 * bytes }

    /// Bits 3 and 4 of the opcode (RFC 9669 section 5.1).
    var code: UInt8 {
        switch self {
        case .b32: 0x00
        case .b16: 0x08
        case .b8: 0x10
        case .b64: 0x18
        }
    }
}

/// Arithmetic operations; the signed divisions share the code of the unsigned ones and differ in the offset field.
package enum Operator: Sendable {
    case add, sub, mul, div, sdiv, or, and, lsh, rsh, mod, smod, xor, mov, arsh

    /// Upper nibble of the opcode (RFC 9669 section 4.1).
    var code: UInt8 {
        switch self {
        case .add: 0x00
        case .sub: 0x10
        case .mul: 0x20
        case .div, .sdiv: 0x30
        case .or: 0x40
        case .and: 0x50
        case .lsh: 0x60
        case .rsh: 0x70
        case .mod, .smod: 0x90
        case .xor: 0xa0
        case .mov: 0xb0
        case .arsh: 0xc0
        }
    }

    /// What the offset field has to be.
    var offset: Int16 {
        switch self {
        case .sdiv, .smod: 1
        case .add, .sub, .mul, .div, .or, .and, .lsh, .rsh, .mod, .xor, .mov, .arsh: 0
        }
    }
}

/// Byte order conversions (RFC 9669 section 4.2).
package enum ByteOrder: Sendable {
    case little, big, swap
}

/// Kinds of 64-bit immediates; the raw value is what stands in the src field (RFC 9669 section 5.4).
package enum WideKind: UInt8, Sendable {
    case value, map, mapValue, variable, function, mapByIndex, mapValueByIndex
}

/// Atomic operations; the raw value is the immediate that names them (RFC 9669 section 5.3, Linux `BPF_LOAD_ACQ`).
package enum AtomicOperator: Int32, Sendable {
    case add = 0x00
    case or = 0x40
    case and = 0x50
    case xor = 0xa0
    case fetchAdd = 0x01
    case fetchOr = 0x41
    case fetchAnd = 0x51
    case fetchXor = 0xa1
    case exchange = 0xe1
    case compareExchange = 0xf1
    case loadAcquire = 0x100
    case storeRelease = 0x110
}

/// Conditions of jumps; the raw value is the upper nibble of the opcode (RFC 9669 section 4.3).
package enum Comparison: UInt8, Sendable {
    case equal = 0x10
    case greater = 0x20
    case greaterEqual = 0x30
    case set = 0x40
    case notEqual = 0x50
    case signedGreater = 0x60
    case signedGreaterEqual = 0x70
    case less = 0xa0
    case lessEqual = 0xb0
    case signedLess = 0xc0
    case signedLessEqual = 0xd0
}

/// What a call calls.
package enum CallKind: Sendable {
    case helper, local, kernelFunction, register
}
