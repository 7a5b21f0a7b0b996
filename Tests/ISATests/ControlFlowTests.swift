import Testing

@testable import ISA

@Suite struct ControlFlowTests {
    static let wide = Instruction(.loadImm64, dst: .r1, imm: 1)
    static let exit = Instruction(.exit)
    static let nop = Instruction(.mov64Imm, dst: .r0)

    @Test(
        arguments: [
            ([], [], DecodeError(.empty, slot: 0)),
            ([nop], [], DecodeError(.fallsThrough, slot: 0)),
            ([wide], [], DecodeError(.fallsThrough, slot: 0)),
            ([wide, Instruction(.jumpEqual64Imm, offset: -1)], [], DecodeError(.fallsThrough, slot: 2)),
            ([wide, Instruction(.jump, offset: 1), exit], [], DecodeError(.jumpOutOfProgram(target: 4), slot: 2)),
            ([wide, Instruction(.jump, offset: -4), exit], [], DecodeError(.jumpOutOfProgram(target: -1), slot: 2)),
            (
                [wide, Instruction(.jump, offset: -2), exit], [],
                DecodeError(.jumpIntoWideInstruction(target: 1), slot: 2)
            ),
            (
                [wide, Instruction(.jumpLong, offset: .max), exit], [],
                DecodeError(.jumpOutOfProgram(target: 2147483650), slot: 2)
            ),
            ([Instruction(.callLocal, imm: 1), exit], [0], DecodeError(.callOutOfProgram(target: 2), slot: 0)),
            (
                [Instruction(.callLocal, imm: 2), exit, wide, exit], [0, 2],
                DecodeError(.callIntoWideInstruction(target: 3), slot: 0)
            ),
            ([nop, exit], [0, 1], DecodeError(.fallsThrough, slot: 0)),
            (
                [Instruction(.callLocal, imm: 2), exit, nop, exit], [0, 2],
                DecodeError(.callIntoFunction(target: 3), slot: 0)
            ),
            (
                [Instruction(.jump, offset: 1), exit, nop, exit], [0, 2],
                DecodeError(.jumpIntoOtherFunction(target: 2), slot: 0)
            ),
            (
                [Instruction(.loadFunction, imm: 4), exit, exit], [0, 2],
                DecodeError(.callOutOfProgram(target: 5), slot: 0)
            ),
        ] as [([Instruction], [Int], DecodeError)]
    )
    func refused(_ program: [Instruction], _ functions: [Int], _ expected: DecodeError) {
        #expect(throws: expected) { try validateControlFlow(program, functions: functions) }
    }

    @Test(
        arguments: [
            ([exit], []),
            ([nop, exit], [0]),
            ([wide, Instruction(.jump, offset: -3)], [0]),
            ([Instruction(.jumpEqual64Imm, offset: 2), wide, exit], [0]),
            ([Instruction(.callLocal, imm: 1), exit, nop, exit], [0, 2]),
            ([Instruction(.loadFunction, dst: .r2, imm: 2), exit, exit], [0, 2]),
            ([Instruction(.callLocal, imm: 1), exit, nop, exit], []),
        ] as [([Instruction], [Int])]
    )
    func accepted(_ program: [Instruction], _ functions: [Int]) throws {
        try validateControlFlow(program, functions: functions)
    }
}
