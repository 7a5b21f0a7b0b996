import EngineSupport
import ISA
import Testing

/// Programs on which an engine was wrong once.
@Suite(EngineTrait(SessionEngine.allCases)) struct RegressionTests {
    /// A sum of a 32-bit value carries into the upper half, which was taken to be zero still.
    @Test(
        arguments: [
            [.mov32(.r1, .r2), .mov64(.r3, 1), .add64(.r1, .r3)],
            [.mov32(.r1, .r2), .add64(.r1, 0x7fff_ffff), .mov64(.r3, .r1), .add64(.r1, 0x7fff_ffff), .add64(.r1, 3)],
            [.mov64(.r1, .r2), .op(.rsh32Imm, dst: .r1), .mov64(.r3, 1), .add64(.r1, .r3)],
            [
                .mov64(.r1, .r2), .lsh32(.r1, 0), .mov64(.r3, 0x7fff_ffff), .add64(.r1, .r3), .add64(.r1, .r3),
                .add64(.r1, 3),
            ],
            [.load32(.r1, .r1, 0), .mov64(.r3, 1), .add64(.r1, .r3)],
        ] as [[Statement]]
    )
    func carriesReachTheUpperHalf(_ sum: [Statement]) throws {
        let packet = bytes([0xabcd_ffff_ffff])
        let code = [.load64(.r2, .r1, 0)] + sum
        let low = try run(code + [.mov32(.r1, .r1), .mov64(.r0, .r1), .exit], packet: packet)
        let all = try run(code + [.mov64(.r0, .r1), .exit], packet: packet)
        #expect(low == all & 0xffff_ffff)
        #expect(all >> 32 != 0)
    }

    /// Function 0, called again, cleared registers that held its arguments.
    @Test func functionZeroKeepsItsArguments() throws {
        // Reads r3 before it is written, which a verifier would refuse.
        guard SessionEngine.current != .jit else { return }
        let result = try run([
            .function("main"), .jumpEqual(.r3, 7, to: "inner"), .mov64(.r3, 7), .call("main"), .exit,
            .label("inner"), .mov64(.r0, 42), .exit,
        ])
        #expect(result == 42)
    }
}
