import EngineSupport
import Glibc
import ISA
import Kernel
import Testing
import UBPFVM

/// Random programs on two engines each; the seed of a failing one is in its message.
@Suite struct RandomProgramTests {
    private static let perBatch: UInt64 = 250
    /// Batches of seeds, so that a failure names a small range and tests run side by side.
    static let batches = (0..<10).map { UInt64($0) * perBatch + 1..<UInt64($0 + 1) * perBatch + 1 }

    @Test(arguments: batches)
    func vmFollowsTheReference(_ seeds: Range<UInt64>) throws {
        for seed in seeds {
            let difference = try compare(ReferenceEngine.self, VMEngine.self, seed: seed)
            #expect(difference == nil, "seed \(seed)")
        }
    }

    @Test(arguments: batches)
    func compiledCodeFollowsTheReference(_ seeds: Range<UInt64>) throws {
        for seed in seeds {
            let difference = try compare(
                ReferenceEngine.self,
                JITEngine.self,
                CheckedJITEngine.self,
                PlainJITEngine.self,
                seed: seed
            )
            #expect(difference == nil, "seed \(seed)")
        }
    }

    @Test(.enabled(if: geteuid() == 0, "the kernel runs programs for root only"), arguments: batches)
    func vmFollowsTheKernel(_ seeds: Range<UInt64>) throws {
        var accepted = 0
        for seed in seeds {
            do {
                let difference = try compare(KernelEngine.self, VMEngine.self, seed: seed)
                #expect(difference == nil, "seed \(seed)")
                accepted += 1
            } catch let rejection as KernelError {
                // E2BIG: too many paths for the verifier. A wrong encoding is EINVAL.
                #expect(rejection.errno == 7, "seed \(seed): errno \(rejection.errno) \(rejection.log)")
            }
        }
        #expect(accepted >= Int(Self.perBatch) * 9 / 10)
    }

    /// The comparison finds every planted mistake, most of them soon.
    @Test(arguments: PlantedMistake.allCases)
    func aPlantedMistakeIsFound(_ mistake: PlantedMistake) throws {
        try PlantedEngine.$mistake.withValue(mistake) {
            let found = try (UInt64(1)...400).first { seed in
                let program = RandomProgram.make(seed: seed)
                let contexts = RandomProgram.contexts(seed: seed, count: 4)
                return try findDifference([ReferenceEngine.self, PlantedEngine.self], program, contexts) != nil
            }
            #expect(found != nil)
        }
    }

    private func compare(_ types: any Engine.Type..., seed: UInt64) throws -> String? {
        let isForKernel = types.contains { $0 == KernelEngine.self }
        let program = RandomProgram.make(seed: seed, isForKernel: isForKernel)
        return try firstDifference(types, program, RandomProgram.contexts(seed: seed, count: 4))
    }
}
