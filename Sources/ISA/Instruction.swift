/// A register, r0 to r10; r10 is the read-only frame pointer.
package enum Register: UInt8, CaseIterable, Sendable {
    case r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10

    /// The frame pointer.
    package static var framePointer: Register { .r10 }
}

/// One decoded instruction; 16 bytes, fields that its opcode does not use are zero.
package struct Instruction: Equatable, Sendable {
    package var opcode: Opcode
    package var dst: Register
    package var src: Register
    /// Bytes for memory accesses, slots from the next instruction for jumps (`jumpLong` included).
    package var offset: Int32
    /// Sign-extended 32-bit immediate; all 64 bits for `loadImm64`; for `loadMapValue` the map in the low half and the
    /// offset into its value in the upper half.
    package var imm: Int64

    package init(_ opcode: Opcode, dst: Register = .r0, src: Register = .r0, offset: Int32 = 0, imm: Int64 = 0) {
        self.opcode = opcode
        self.dst = dst
        self.src = src
        self.offset = offset
        self.imm = imm
    }

    /// 8-byte slots that the encoding takes: 2 for 64-bit immediates, else 1.
    package var slots: Int {
        switch opcode {
        case .loadImm64, .loadMap, .loadMapValue, .loadVariable, .loadFunction, .loadMapByIndex, .loadMapValueByIndex: 2
        default: 1
        }
    }
}

/// The 8 bytes of one slot, as they stand in an object file (RFC 9669 section 3).
package struct RawInstruction: Equatable, Sendable {
    package var code: UInt8
    /// dst in the low nibble, src in the high one.
    package var registers: UInt8
    package var offset: Int16
    package var imm: Int32

    package init(code: UInt8, registers: UInt8, offset: Int16, imm: Int32) {
        self.code = code
        self.registers = registers
        self.offset = offset
        self.imm = imm
    }
}
