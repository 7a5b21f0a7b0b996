import Testing

@testable import ISA

@Suite struct AssemblerTests {
    @Test func labelsCountSlots() throws {
        let program = try Assembly([
            .mov64(.r0, 0),
            .label("loop"),
            .loadImm64(.r1, 10),
            .add64(.r0, 1),
            .jumpLess(.r0, .r1, to: "loop"),
            .jumpEqual32(.r0, 3, to: "end"),
            .loadImm64(.r0, 1),
            .label("end"),
            .exit,
        ])
        #expect(program.instructions[3] == Instruction(.jumpLess64Reg, dst: .r0, src: .r1, offset: -4))
        #expect(program.instructions[4] == Instruction(.jumpEqual32Imm, dst: .r0, offset: 2, imm: 3))
        #expect(program.functions == [0])
        #expect(try decode(program.slots) == program.instructions)
        try validateControlFlow(program.instructions, functions: program.functions)
    }

    @Test func functions() throws {
        let program = try Assembly([
            .function("main"),
            .loadFunction(.r2, "callback"),
            .call("double"),
            .call(.loop),
            .exit,
            .function("double"),
            .mov64(.r0, .r1), .add64(.r0, .r0), .exit,
            .function("callback"),
            .mov64(.r0, 0), .exit,
        ])
        #expect(program.functions == [0, 4, 7])
        #expect(program.instructions[0].imm == 7)
        #expect(program.instructions[1].imm == 2)
        #expect(program.instructions[2].imm == 181)
        try validateControlFlow(program.instructions, functions: program.functions)
    }

    @Test(
        arguments: [
            ([.jump(to: "nowhere"), .exit], .unknownLabel("nowhere")),
            ([.label("a"), .label("a"), .exit], .duplicateLabel("a")),
            ([.exit, .mov64(.r0, 1 << 31)], .outOfRange(instruction: 1)),
            ([.load64(.r0, .r1, 40000)], .outOfRange(instruction: 0)),
            ([.op(.exit, imm: 1)], .outOfRange(instruction: 0)),
            ([.op(.mov64Reg, offset: 1)], .outOfRange(instruction: 0)),
            (
                [.jump(to: "far")] + Array(repeating: .exit, count: 32768) + [.label("far"), .exit],
                .outOfRange(instruction: 0)
            ),
        ] as [([Statement], AssemblyError)]
    )
    func refused(_ statements: [Statement], _ error: AssemblyError) {
        #expect(throws: error) { try Assembly(statements) }
    }

    @Test func shapesNameOpcodes() {
        for opcode in Opcode.allCases { #expect(Opcode(opcode.shape) == opcode) }
        #expect(Opcode(.load(.b64, signed: true)) == nil)
    }
}
