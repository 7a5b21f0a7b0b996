import EngineSupport
import ISA
import Testing

/// Failing programs are made smaller before somebody has to read them.
@Suite struct MinimiserTests {
    /// A random program that shows a planted mistake.
    private func failing(_ mistake: PlantedMistake) throws -> Difference {
        for seed in UInt64(1)...400 {
            let program = RandomProgram.make(seed: seed)
            let contexts = RandomProgram.contexts(seed: seed, count: 4)
            if let found = try findDifference([ReferenceEngine.self, PlantedEngine.self], program, contexts) {
                return found
            }
        }
        throw NotFound()
    }

    private struct NotFound: Error {}

    @Test(arguments: [PlantedMistake.shiftCountOffByOne, .compareOffByOne, .narrowStoreIsWide, .fetchOrIsFetchAdd])
    func whatIsLeftIsWhatFails(_ mistake: PlantedMistake) throws {
        try PlantedEngine.$mistake.withValue(mistake) {
            let whole = try failing(mistake)
            let small = whole.minimised()
            // Loading, the mistake, showing it, and the end; some programs need a jump and another value.
            #expect(small.program.count <= 12, "\(small.description)")
            #expect(small.program.count < whole.program.count / 3)
            // It still fails, with the mistake in it, and means something.
            #expect(mistake.plant(in: small.program) != small.program)
            let again = try findDifference([ReferenceEngine.self, PlantedEngine.self], small.program, [small.context])
            #expect(again != nil)
            #expect(ReferenceEngine.isDefined(small.program, small.context))
            let healthy = try findDifference(
                [ReferenceEngine.self, CheckedJITEngine.self],
                small.program,
                [small.context]
            )
            #expect(healthy == nil)
        }
    }

    @Test func timeIsBounded() throws {
        try PlantedEngine.$mistake.withValue(.shiftCountOffByOne) {
            let whole = try failing(.shiftCountOffByOne)
            #expect(whole.minimised(seconds: 0).program == whole.program)
        }
    }

    /// What depends on addresses, on unwritten registers or stack, or never ends, proves nothing about engines.
    @Test func undefinedProgramsAreKnown() {
        let end = [Instruction(.mov64Imm), Instruction(.exit)]
        let context = bytes([1, 2])
        let keep = Instruction(.store64Reg, dst: .r1, src: .r2)
        #expect(ReferenceEngine.isDefined(end, context))
        #expect(ReferenceEngine.isDefined([Instruction(.mov64Imm, dst: .r2, imm: 4), keep] + end, context))
        #expect(!ReferenceEngine.isDefined([keep] + end, context))
        #expect(!ReferenceEngine.isDefined([Instruction(.exit)], context))
        #expect(!ReferenceEngine.isDefined([Instruction(.mov64Reg, dst: .r2, src: .r10), keep] + end, context))
        #expect(
            !ReferenceEngine.isDefined([Instruction(.load64, dst: .r2, src: .r10, offset: -8), keep] + end, context)
        )
        #expect(!ReferenceEngine.isDefined([Instruction(.jump, offset: -1)] + end, context))
        #expect(!ReferenceEngine.isDefined([Instruction(.jump, offset: 7)] + end, context))
    }
}
