import EngineSupport
import Glibc
import ISA
import Testing

/// Every opcode with edge values, on every engine, against the reference.
@Suite struct OpcodeTests {
    /// Opcodes that need a session, or have no fixed result: tested with the VM.
    static let elsewhere: Set<Opcode> = [
        .loadMap, .loadMapValue, .loadVariable, .loadFunction, .loadMapByIndex, .loadMapValueByIndex, .loadAbs8,
        .loadAbs16, .loadAbs32, .loadInd8, .loadInd16, .loadInd32, .mayGoto, .callHelper, .callKernelFunction,
        .callRegister,
    ]

    @Test func everyOpcodeHasCases() {
        for opcode in Opcode.allCases {
            #expect(OpcodeCase.all(opcode).isEmpty == Self.elsewhere.contains(opcode), "\(opcode)")
        }
    }

    @Test(arguments: Opcode.allCases.filter { !OpcodeCase.all($0).isEmpty })
    func vmFollowsTheReference(_ opcode: Opcode) throws {
        for test in OpcodeCase.all(opcode) {
            let difference = try firstDifference(ReferenceEngine.self, VMEngine.self, test)
            #expect(difference == nil)
        }
    }

    @Test(arguments: Opcode.allCases.filter { !OpcodeCase.all($0).isEmpty })
    func compiledCodeFollowsTheReference(_ opcode: Opcode) throws {
        for test in OpcodeCase.all(opcode) {
            for difference in [
                try firstDifference(ReferenceEngine.self, JITEngine.self, test),
                try firstDifference(ReferenceEngine.self, CheckedJITEngine.self, test),
                try firstDifference(ReferenceEngine.self, PlainJITEngine.self, test),
            ] { #expect(difference == nil) }
        }
    }

    @Test(
        .enabled(if: geteuid() == 0, "the kernel runs programs for root only"),
        arguments: Opcode.allCases.filter { !OpcodeCase.all($0).isEmpty }
    )
    func vmFollowsTheKernel(_ opcode: Opcode) throws {
        for test in OpcodeCase.all(opcode) where test.isForKernel {
            let difference = try firstDifference(KernelEngine.self, VMEngine.self, test)
            #expect(difference == nil)
        }
    }

    /// The comparison finds a planted mistake in each opcode that has it, and none where there is none.
    @Test func aPlantedMistakeIsFound() throws {
        let planted: Set<Opcode> = [.rsh64Reg, .rsh64Imm, .rsh32Reg, .rsh32Imm]
        for opcode in [Opcode.rsh64Reg, .rsh64Imm, .rsh32Reg, .rsh32Imm, .lsh64Reg, .add64Imm] {
            let isFound = try OpcodeCase.all(opcode).contains {
                try firstDifference(ReferenceEngine.self, PlantedEngine.self, $0) != nil
            }
            #expect(isFound == planted.contains(opcode), "\(opcode)")
        }
    }
}
