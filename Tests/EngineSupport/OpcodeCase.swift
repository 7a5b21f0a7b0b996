package import ISA

/// A program for one opcode that reads its operands from the context and writes what it made of them there.
///
/// Context words: 0 and 1 are the operands a and b, 2 to 5 receive the results.
package struct OpcodeCase {
    package let opcode: Opcode
    package let program: [Instruction]
    /// The kernel's verifier refuses division by the constant 0 and shifts by constants outside the width.
    package let isForKernel: Bool

    package static let contextWords = 6

    /// All programs of an opcode; empty for opcodes that need more than two operands and memory.
    package static func all(_ opcode: Opcode) -> [OpcodeCase] {
        switch opcode.shape {
        case .arithmetic(let operation, let width, .imm):
            immediates.map { imm in
                let isShift = operation == .lsh || operation == .rsh || operation == .arsh
                let isDivision = operation == .div || operation == .mod || operation == .sdiv || operation == .smod
                let isAccepted =
                    !(isShift && !(0..<(width == .w64 ? 64 : 32)).contains(imm)) && !(isDivision && imm == 0)
                return registers(opcode, imm: imm, isForKernel: isAccepted)
            }
        case .arithmetic(_, _, .reg), .negate, .signExtend, .byteOrder: [registers(opcode, imm: 0, isForKernel: true)]
        case .conditionalJump(_, _, .imm): immediates.map { jump(opcode, imm: $0) }
        case .conditionalJump(_, _, .reg): [jump(opcode, imm: 0)]
        case .load: [memory(opcode, isLoad: true)]
        case .store(_, .imm): immediates.map { memory(opcode, imm: $0) }
        case .store(_, .reg): [memory(opcode)]
        case .atomic(.loadAcquire, _): [memory(opcode, isLoad: true)]
        case .atomic: [memory(opcode)]
        case .wide(.value): edges.map { wide(Int64(bitPattern: $0)) }
        case .jump, .exit, .call(.local): [control()]
        case .wide, .packet, .mayGoto, .call: []
        }
    }

    /// Operand values where implementations go wrong.
    package static let edges: [UInt64] = [
        0, 1, 2, 31, 32, 33, 63, 64, 65, 0x7f, 0x80, 0xff, 0x8000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
        0x1_0000_0000, 0x0123_4567_89ab_cdef, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, 0xffff_ffff_8000_0000,
        0xffff_ffff_ffff_fffe, 0xffff_ffff_ffff_ffff,
    ]
    package static let immediates: [Int64] = [0, 1, 2, 7, 31, 32, 33, 63, 64, 127, 0x7fff_ffff, -0x8000_0000, -2, -1]

    /// Contexts for every pair of edges; where the operand is an immediate, for every a.
    package var contexts: [[UInt8]] {
        let usesB: Bool =
            switch opcode.shape {
            case .arithmetic(_, _, .imm), .conditionalJump(_, _, .imm), .store(_, .imm), .wide: false
            case .arithmetic, .negate, .signExtend, .byteOrder, .packet, .load, .store, .atomic, .jump,
                .conditionalJump,
                .mayGoto, .call, .exit:
                true
            }
        return Self.edges.flatMap { a in
            (usesB ? Self.edges : [0x5555_aaaa_1234_8765]).map { b in
                bytes([a, b] + [UInt64](repeating: 0xa5a5_a5a5_a5a5_a5a5, count: Self.contextWords - 2))
            }
        }
    }

    /// r6 = context, r0 = a, r2 = b.
    private static let prologue = [
        Instruction(.mov64Reg, dst: .r6, src: .r1),
        Instruction(.load64, dst: .r0, src: .r6),
        Instruction(.load64, dst: .r2, src: .r6, offset: 8),
    ]
    private static let epilogue = [Instruction(.mov64Imm, imm: 7), Instruction(.exit)]

    private static func registers(_ opcode: Opcode, imm: Int64, isForKernel: Bool) -> OpcodeCase {
        let usesSource = Instruction(opcode, dst: .r0, src: .r2).reads.contains(.r2)
        let body = [
            Instruction(opcode, dst: .r0, src: usesSource ? .r2 : .r0, imm: imm),
            Instruction(.store64Reg, dst: .r6, src: .r0, offset: 16),
            Instruction(.store64Reg, dst: .r6, src: .r2, offset: 24),
        ]
        return OpcodeCase(opcode: opcode, program: prologue + body + epilogue, isForKernel: isForKernel)
    }

    private static func jump(_ opcode: Opcode, imm: Int64) -> OpcodeCase {
        let usesSource = Instruction(opcode, dst: .r0, src: .r2).reads.contains(.r2)
        let body = [
            Instruction(.mov64Imm, dst: .r3, imm: 1),
            Instruction(opcode, dst: .r0, src: usesSource ? .r2 : .r0, offset: 1, imm: imm),
            Instruction(.mov64Imm, dst: .r3, imm: 2),
            Instruction(.store64Reg, dst: .r6, src: .r3, offset: 16),
        ]
        return OpcodeCase(opcode: opcode, program: prologue + body + epilogue, isForKernel: true)
    }

    /// Works on two stack words that hold a and b; r0 and r2 hold b.
    private static func memory(_ opcode: Opcode, imm: Int64 = 0, isLoad: Bool = false) -> OpcodeCase {
        var access = Instruction(opcode, dst: .r10, src: .r2, offset: -16, imm: imm)
        if isLoad { access = Instruction(opcode, dst: .r2, src: .r10, offset: -16) }
        if case .store(_, .imm) = opcode.shape { access.src = .r0 }
        let body = [
            Instruction(.store64Reg, dst: .r10, src: .r0, offset: -16),
            Instruction(.store64Reg, dst: .r10, src: .r2, offset: -8),
            Instruction(.mov64Reg, dst: .r0, src: .r2),
            access,
            Instruction(.store64Reg, dst: .r6, src: .r0, offset: 16),
            Instruction(.store64Reg, dst: .r6, src: .r2, offset: 24),
            Instruction(.load64, dst: .r3, src: .r10, offset: -16),
            Instruction(.store64Reg, dst: .r6, src: .r3, offset: 32),
            Instruction(.load64, dst: .r3, src: .r10, offset: -8),
            Instruction(.store64Reg, dst: .r6, src: .r3, offset: 40),
        ]
        return OpcodeCase(opcode: opcode, program: prologue + body + epilogue, isForKernel: true)
    }

    private static func wide(_ value: Int64) -> OpcodeCase {
        let body = [
            Instruction(.loadImm64, dst: .r3, imm: value),
            Instruction(.store64Reg, dst: .r6, src: .r3, offset: 16),
        ]
        return OpcodeCase(opcode: .loadImm64, program: prologue + body + epilogue, isForKernel: true)
    }

    /// A jump over a two-slot instruction, a long jump back, and two nested calls that must keep r6 to r9 and own a stack.
    private static func control() -> OpcodeCase {
        let main = [
            Instruction(.mov64Reg, dst: .r6, src: .r1),
            Instruction(.load64, dst: .r7, src: .r6),
            Instruction(.load64, dst: .r8, src: .r6, offset: 8),
            Instruction(.store64Reg, dst: .r10, src: .r7, offset: -8),
            Instruction(.mov64Reg, dst: .r1, src: .r7),
            Instruction(.mov64Reg, dst: .r2, src: .r8),
            Instruction(.jumpEqual64Imm, dst: .r7, offset: 3, imm: 1),
            Instruction(.loadImm64, dst: .r1, imm: 1),
            Instruction(.jump, offset: 1),
            Instruction(.jumpLong, offset: -2),
            Instruction(.callLocal, imm: 6),
            Instruction(.store64Reg, dst: .r6, src: .r0, offset: 16),
            Instruction(.store64Reg, dst: .r6, src: .r8, offset: 24),
            Instruction(.load64, dst: .r3, src: .r10, offset: -8),
            Instruction(.store64Reg, dst: .r6, src: .r3, offset: 32),
            Instruction(.mov64Imm, imm: 7),
            Instruction(.exit),
        ]
        // u64 outer(a, b): stack and r6 to r8 of its own.
        let outer = [
            Instruction(.mov64Reg, dst: .r6, src: .r1),
            Instruction(.mov64Imm, dst: .r7, imm: 11),
            Instruction(.mov64Imm, dst: .r8, imm: 12),
            Instruction(.store64Reg, dst: .r10, src: .r2, offset: -8),
            Instruction(.mov64Imm, dst: .r2, imm: 13),
            Instruction(.callLocal, imm: 4),
            Instruction(.add64Reg, dst: .r0, src: .r6),
            Instruction(.load64, dst: .r1, src: .r10, offset: -8),
            Instruction(.xor64Reg, dst: .r0, src: .r1),
            Instruction(.exit),
        ]
        let inner = [
            Instruction(.mov64Imm, dst: .r6, imm: 14),
            Instruction(.store64Reg, dst: .r10, src: .r6, offset: -8),
            Instruction(.mov64Reg, dst: .r0, src: .r1),
            Instruction(.mul64Reg, dst: .r0, src: .r2),
            Instruction(.exit),
        ]
        return OpcodeCase(opcode: .exit, program: main + outer + inner, isForKernel: true)
    }
}
