// The assembler's vocabulary; one line per form.
extension Statement {
    /// Any instruction by its parts.
    package static func op(
        _ opcode: Opcode,
        dst: Register = .r0,
        src: Register = .r0,
        offset: Int32 = 0,
        imm: Int64 = 0
    ) -> Statement {
        .instruction(Instruction(opcode, dst: dst, src: src, offset: offset, imm: imm))
    }
}

// MARK: Arithmetic: destination, then register or immediate

extension Statement {
    package static func mov64(_ dst: Register, _ src: Register) -> Statement { .op(.mov64Reg, dst: dst, src: src) }
    package static func mov64(_ dst: Register, _ imm: Int64) -> Statement { .op(.mov64Imm, dst: dst, imm: imm) }
    package static func add64(_ dst: Register, _ src: Register) -> Statement { .op(.add64Reg, dst: dst, src: src) }
    package static func add64(_ dst: Register, _ imm: Int64) -> Statement { .op(.add64Imm, dst: dst, imm: imm) }
    package static func sub64(_ dst: Register, _ src: Register) -> Statement { .op(.sub64Reg, dst: dst, src: src) }
    package static func sub64(_ dst: Register, _ imm: Int64) -> Statement { .op(.sub64Imm, dst: dst, imm: imm) }
    package static func mul64(_ dst: Register, _ src: Register) -> Statement { .op(.mul64Reg, dst: dst, src: src) }
    package static func mul64(_ dst: Register, _ imm: Int64) -> Statement { .op(.mul64Imm, dst: dst, imm: imm) }
    package static func div64(_ dst: Register, _ src: Register) -> Statement { .op(.div64Reg, dst: dst, src: src) }
    package static func div64(_ dst: Register, _ imm: Int64) -> Statement { .op(.div64Imm, dst: dst, imm: imm) }
    package static func sdiv64(_ dst: Register, _ src: Register) -> Statement { .op(.sdiv64Reg, dst: dst, src: src) }
    package static func sdiv64(_ dst: Register, _ imm: Int64) -> Statement { .op(.sdiv64Imm, dst: dst, imm: imm) }
    package static func mod64(_ dst: Register, _ src: Register) -> Statement { .op(.mod64Reg, dst: dst, src: src) }
    package static func mod64(_ dst: Register, _ imm: Int64) -> Statement { .op(.mod64Imm, dst: dst, imm: imm) }
    package static func smod64(_ dst: Register, _ src: Register) -> Statement { .op(.smod64Reg, dst: dst, src: src) }
    package static func smod64(_ dst: Register, _ imm: Int64) -> Statement { .op(.smod64Imm, dst: dst, imm: imm) }
    package static func or64(_ dst: Register, _ src: Register) -> Statement { .op(.or64Reg, dst: dst, src: src) }
    package static func or64(_ dst: Register, _ imm: Int64) -> Statement { .op(.or64Imm, dst: dst, imm: imm) }
    package static func and64(_ dst: Register, _ src: Register) -> Statement { .op(.and64Reg, dst: dst, src: src) }
    package static func and64(_ dst: Register, _ imm: Int64) -> Statement { .op(.and64Imm, dst: dst, imm: imm) }
    package static func xor64(_ dst: Register, _ src: Register) -> Statement { .op(.xor64Reg, dst: dst, src: src) }
    package static func xor64(_ dst: Register, _ imm: Int64) -> Statement { .op(.xor64Imm, dst: dst, imm: imm) }
    package static func lsh64(_ dst: Register, _ src: Register) -> Statement { .op(.lsh64Reg, dst: dst, src: src) }
    package static func lsh64(_ dst: Register, _ imm: Int64) -> Statement { .op(.lsh64Imm, dst: dst, imm: imm) }
    package static func rsh64(_ dst: Register, _ src: Register) -> Statement { .op(.rsh64Reg, dst: dst, src: src) }
    package static func rsh64(_ dst: Register, _ imm: Int64) -> Statement { .op(.rsh64Imm, dst: dst, imm: imm) }
    package static func arsh64(_ dst: Register, _ src: Register) -> Statement { .op(.arsh64Reg, dst: dst, src: src) }
    package static func arsh64(_ dst: Register, _ imm: Int64) -> Statement { .op(.arsh64Imm, dst: dst, imm: imm) }
    package static func neg64(_ dst: Register) -> Statement { .op(.neg64, dst: dst) }
    package static func mov32(_ dst: Register, _ src: Register) -> Statement { .op(.mov32Reg, dst: dst, src: src) }
    package static func mov32(_ dst: Register, _ imm: Int64) -> Statement { .op(.mov32Imm, dst: dst, imm: imm) }
    package static func add32(_ dst: Register, _ src: Register) -> Statement { .op(.add32Reg, dst: dst, src: src) }
    package static func add32(_ dst: Register, _ imm: Int64) -> Statement { .op(.add32Imm, dst: dst, imm: imm) }
    package static func sub32(_ dst: Register, _ src: Register) -> Statement { .op(.sub32Reg, dst: dst, src: src) }
    package static func sub32(_ dst: Register, _ imm: Int64) -> Statement { .op(.sub32Imm, dst: dst, imm: imm) }
    package static func mul32(_ dst: Register, _ src: Register) -> Statement { .op(.mul32Reg, dst: dst, src: src) }
    package static func mul32(_ dst: Register, _ imm: Int64) -> Statement { .op(.mul32Imm, dst: dst, imm: imm) }
    package static func div32(_ dst: Register, _ src: Register) -> Statement { .op(.div32Reg, dst: dst, src: src) }
    package static func div32(_ dst: Register, _ imm: Int64) -> Statement { .op(.div32Imm, dst: dst, imm: imm) }
    package static func sdiv32(_ dst: Register, _ src: Register) -> Statement { .op(.sdiv32Reg, dst: dst, src: src) }
    package static func sdiv32(_ dst: Register, _ imm: Int64) -> Statement { .op(.sdiv32Imm, dst: dst, imm: imm) }
    package static func mod32(_ dst: Register, _ src: Register) -> Statement { .op(.mod32Reg, dst: dst, src: src) }
    package static func mod32(_ dst: Register, _ imm: Int64) -> Statement { .op(.mod32Imm, dst: dst, imm: imm) }
    package static func smod32(_ dst: Register, _ src: Register) -> Statement { .op(.smod32Reg, dst: dst, src: src) }
    package static func smod32(_ dst: Register, _ imm: Int64) -> Statement { .op(.smod32Imm, dst: dst, imm: imm) }
    package static func or32(_ dst: Register, _ src: Register) -> Statement { .op(.or32Reg, dst: dst, src: src) }
    package static func or32(_ dst: Register, _ imm: Int64) -> Statement { .op(.or32Imm, dst: dst, imm: imm) }
    package static func and32(_ dst: Register, _ src: Register) -> Statement { .op(.and32Reg, dst: dst, src: src) }
    package static func and32(_ dst: Register, _ imm: Int64) -> Statement { .op(.and32Imm, dst: dst, imm: imm) }
    package static func xor32(_ dst: Register, _ src: Register) -> Statement { .op(.xor32Reg, dst: dst, src: src) }
    package static func xor32(_ dst: Register, _ imm: Int64) -> Statement { .op(.xor32Imm, dst: dst, imm: imm) }
    package static func lsh32(_ dst: Register, _ src: Register) -> Statement { .op(.lsh32Reg, dst: dst, src: src) }
    package static func lsh32(_ dst: Register, _ imm: Int64) -> Statement { .op(.lsh32Imm, dst: dst, imm: imm) }
    package static func rsh32(_ dst: Register, _ src: Register) -> Statement { .op(.rsh32Reg, dst: dst, src: src) }
    package static func rsh32(_ dst: Register, _ imm: Int64) -> Statement { .op(.rsh32Imm, dst: dst, imm: imm) }
    package static func arsh32(_ dst: Register, _ src: Register) -> Statement { .op(.arsh32Reg, dst: dst, src: src) }
    package static func arsh32(_ dst: Register, _ imm: Int64) -> Statement { .op(.arsh32Imm, dst: dst, imm: imm) }
    package static func neg32(_ dst: Register) -> Statement { .op(.neg32, dst: dst) }
}

// MARK: 64-bit immediates

extension Statement {
    package static func loadImm64(_ dst: Register, _ imm: Int64) -> Statement { .op(.loadImm64, dst: dst, imm: imm) }
    package static func loadMap(_ dst: Register, _ map: Int32) -> Statement { .op(.loadMap, dst: dst, imm: Int64(map)) }
    package static func loadMapValue(_ dst: Register, _ map: UInt32, _ offset: UInt32) -> Statement {
        .op(.loadMapValue, dst: dst, imm: Int64(bitPattern: UInt64(offset) << 32 | UInt64(map)))
    }
    package static func loadFunction(_ dst: Register, _ name: String) -> Statement {
        .reference(Instruction(.loadFunction, dst: dst), to: name)
    }
}

// MARK: Memory: loads as (destination, base, offset), stores as (base, offset, value)

extension Statement {
    package static func load8(_ dst: Register, _ base: Register, _ offset: Int32 = 0) -> Statement {
        .op(.load8, dst: dst, src: base, offset: offset)
    }
    package static func load16(_ dst: Register, _ base: Register, _ offset: Int32 = 0) -> Statement {
        .op(.load16, dst: dst, src: base, offset: offset)
    }
    package static func load32(_ dst: Register, _ base: Register, _ offset: Int32 = 0) -> Statement {
        .op(.load32, dst: dst, src: base, offset: offset)
    }
    package static func load64(_ dst: Register, _ base: Register, _ offset: Int32 = 0) -> Statement {
        .op(.load64, dst: dst, src: base, offset: offset)
    }
    package static func loadSigned8(_ dst: Register, _ base: Register, _ offset: Int32 = 0) -> Statement {
        .op(.loadSigned8, dst: dst, src: base, offset: offset)
    }
    package static func loadSigned16(_ dst: Register, _ base: Register, _ offset: Int32 = 0) -> Statement {
        .op(.loadSigned16, dst: dst, src: base, offset: offset)
    }
    package static func loadSigned32(_ dst: Register, _ base: Register, _ offset: Int32 = 0) -> Statement {
        .op(.loadSigned32, dst: dst, src: base, offset: offset)
    }
    package static func store8(_ base: Register, _ offset: Int32, _ src: Register) -> Statement {
        .op(.store8Reg, dst: base, src: src, offset: offset)
    }
    package static func store8(_ base: Register, _ offset: Int32, _ imm: Int64) -> Statement {
        .op(.store8Imm, dst: base, offset: offset, imm: imm)
    }
    package static func store16(_ base: Register, _ offset: Int32, _ src: Register) -> Statement {
        .op(.store16Reg, dst: base, src: src, offset: offset)
    }
    package static func store16(_ base: Register, _ offset: Int32, _ imm: Int64) -> Statement {
        .op(.store16Imm, dst: base, offset: offset, imm: imm)
    }
    package static func store32(_ base: Register, _ offset: Int32, _ src: Register) -> Statement {
        .op(.store32Reg, dst: base, src: src, offset: offset)
    }
    package static func store32(_ base: Register, _ offset: Int32, _ imm: Int64) -> Statement {
        .op(.store32Imm, dst: base, offset: offset, imm: imm)
    }
    package static func store64(_ base: Register, _ offset: Int32, _ src: Register) -> Statement {
        .op(.store64Reg, dst: base, src: src, offset: offset)
    }
    package static func store64(_ base: Register, _ offset: Int32, _ imm: Int64) -> Statement {
        .op(.store64Imm, dst: base, offset: offset, imm: imm)
    }
    /// Any atomic operation but `loadAcquire`: (base, offset, operand register).
    package static func atomic(_ opcode: Opcode, _ base: Register, _ offset: Int32, _ src: Register) -> Statement {
        .op(opcode, dst: base, src: src, offset: offset)
    }
}

// MARK: Jumps, with a distance in slots (`by:`) or a label (`to:`); `32` compares the lower halves

extension Statement {
    package static func jump(to label: String) -> Statement { .reference(Instruction(.jump), to: label) }
    package static func jump(by slots: Int32) -> Statement { .op(.jump, offset: slots) }
    package static func jumpLong(to label: String) -> Statement { .reference(Instruction(.jumpLong), to: label) }
    package static func mayGoto(to label: String) -> Statement { .reference(Instruction(.mayGoto), to: label) }
    package static func jumpEqual(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpEqual64Reg, dst: dst, src: src), to: label)
    }
    package static func jumpEqual(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpEqual64Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpEqual32(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpEqual32Reg, dst: dst, src: src), to: label)
    }
    package static func jumpEqual32(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpEqual32Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpNotEqual(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpNotEqual64Reg, dst: dst, src: src), to: label)
    }
    package static func jumpNotEqual(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpNotEqual64Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpNotEqual32(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpNotEqual32Reg, dst: dst, src: src), to: label)
    }
    package static func jumpNotEqual32(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpNotEqual32Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpGreater(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpGreater64Reg, dst: dst, src: src), to: label)
    }
    package static func jumpGreater(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpGreater64Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpGreater32(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpGreater32Reg, dst: dst, src: src), to: label)
    }
    package static func jumpGreater32(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpGreater32Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpGreaterEqual(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpGreaterEqual64Reg, dst: dst, src: src), to: label)
    }
    package static func jumpGreaterEqual(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpGreaterEqual64Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpGreaterEqual32(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpGreaterEqual32Reg, dst: dst, src: src), to: label)
    }
    package static func jumpGreaterEqual32(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpGreaterEqual32Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpLess(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpLess64Reg, dst: dst, src: src), to: label)
    }
    package static func jumpLess(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpLess64Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpLess32(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpLess32Reg, dst: dst, src: src), to: label)
    }
    package static func jumpLess32(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpLess32Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpLessEqual(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpLessEqual64Reg, dst: dst, src: src), to: label)
    }
    package static func jumpLessEqual(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpLessEqual64Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpLessEqual32(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpLessEqual32Reg, dst: dst, src: src), to: label)
    }
    package static func jumpLessEqual32(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpLessEqual32Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpSignedGreater(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedGreater64Reg, dst: dst, src: src), to: label)
    }
    package static func jumpSignedGreater(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedGreater64Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpSignedGreater32(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedGreater32Reg, dst: dst, src: src), to: label)
    }
    package static func jumpSignedGreater32(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedGreater32Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpSignedGreaterEqual(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedGreaterEqual64Reg, dst: dst, src: src), to: label)
    }
    package static func jumpSignedGreaterEqual(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedGreaterEqual64Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpSignedGreaterEqual32(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedGreaterEqual32Reg, dst: dst, src: src), to: label)
    }
    package static func jumpSignedGreaterEqual32(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedGreaterEqual32Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpSignedLess(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedLess64Reg, dst: dst, src: src), to: label)
    }
    package static func jumpSignedLess(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedLess64Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpSignedLess32(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedLess32Reg, dst: dst, src: src), to: label)
    }
    package static func jumpSignedLess32(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedLess32Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpSignedLessEqual(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedLessEqual64Reg, dst: dst, src: src), to: label)
    }
    package static func jumpSignedLessEqual(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedLessEqual64Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpSignedLessEqual32(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedLessEqual32Reg, dst: dst, src: src), to: label)
    }
    package static func jumpSignedLessEqual32(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpSignedLessEqual32Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpSet(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpSet64Reg, dst: dst, src: src), to: label)
    }
    package static func jumpSet(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpSet64Imm, dst: dst, imm: imm), to: label)
    }
    package static func jumpSet32(_ dst: Register, _ src: Register, to label: String) -> Statement {
        .reference(Instruction(.jumpSet32Reg, dst: dst, src: src), to: label)
    }
    package static func jumpSet32(_ dst: Register, _ imm: Int64, to label: String) -> Statement {
        .reference(Instruction(.jumpSet32Imm, dst: dst, imm: imm), to: label)
    }
}

// MARK: Calls

extension Statement {
    package static func call(_ helper: Helper) -> Statement {
        .op(helper.isKernelFunction ? .callKernelFunction : .callHelper, imm: Int64(helper.rawValue))
    }
    package static func call(_ function: String) -> Statement { .reference(Instruction(.callLocal), to: function) }
    package static func callRegister(_ register: Register) -> Statement { .op(.callRegister, dst: register) }
    package static var exit: Statement { .op(.exit) }
}
