import EngineSupport
import Glibc
import ISA
import Testing

/// What the verifier accepts runs as it says.
@Suite struct SoundnessTests {
    static let starts: [UInt64] = (0..<8).map { $0 * 40 + 1 }

    @Test(arguments: KnownMistake.all)
    func mistakesOfOtherVerifiersAreNotMade(_ mistake: KnownMistake) throws {
        let fault = try mistake.fault()
        #expect(fault == nil)
    }

    /// Every access inside one object, every register and slot inside a recorded state, and no other verdict without pruning.
    @Test(arguments: starts)
    func acceptedProgramsRunInsideTheRecordedStates(_ start: UInt64) throws {
        var counts = SoundnessCounts()
        for seed in start..<start + 40 {
            let fault = try checkSoundness(seed: seed, &counts)
            #expect(fault == nil, "seed \(seed)")
        }
        // Neither verdict may be rare.
        #expect(counts.accepted >= 8 && counts.accepted <= 36, "\(counts.description)")
        #expect(counts.runs >= counts.accepted * 6)
    }

    /// No kind of program is refused as a whole, and none is accepted as a whole.
    @Test func everyKindOfProgramHasBothVerdicts() throws {
        var counts = SoundnessCounts()
        for seed in UInt64(1001)...1500 {
            let fault = try checkSoundness(seed: seed, &counts)
            #expect(fault == nil, "seed \(seed)")
        }
        #expect(counts.kinds.count == 7)
        for (kind, verdicts) in counts.kinds {
            #expect(verdicts.accepted >= 2 && verdicts.accepted < verdicts.made, "\(kind): \(counts.description)")
        }
        #expect(counts.compared > 100)
    }

    /// An operator that does something else than the verifier thinks leaves the recorded states.
    @Test(arguments: [
        PlantedMistake.mov32KeepsUpperHalf, .add32KeepsUpperHalf, .compareOffByOne, .signedCompareIsUnsigned,
        .narrowCompareIsWide, .signedLoadIsUnsigned, .shiftCountOffByOne,
    ])
    func plantedMistakesAreFound(_ mistake: PlantedMistake) throws {
        let seed = try firstSeed(finding: mistake, in: 1...3000)
        #expect(seed != nil)
    }

    @Test(.enabled(if: geteuid() == 0, "the kernel verifies programs for root only"))
    func theKernelAgreesOrIsLessPrecise() throws {
        let verdicts = try KernelVerdicts()
        for seed in UInt64(1)...400 {
            let fault = try verdicts.compare(seed: seed)
            #expect(fault == nil, "seed \(seed)")
        }
        let counts = verdicts.counts
        #expect(counts[.unsound, default: 0] == 0)
        #expect(counts[.bothAccept, default: 0] > 100 && counts[.bothRefuse, default: 0] > 100)
        #expect(counts[.lessPrecise, default: 0] <= 4, "\(verdicts.description)")
    }

    /// Programs of a corpus, where a folder with gen.jsonl is named.
    @Test(.enabled(if: getenv("UBPF_CORPUS") != nil, "UBPF_CORPUS names no folder with a gen.jsonl"))
    func programsOfACorpusRunInsideTheRecordedStates() throws {
        let folder = try #require(getenv("UBPF_CORPUS").map { String(cString: $0) })
        var counts = SoundnessCounts()
        for fault in try checkCorpus(folder + "/gen.jsonl", &counts) { Issue.record("\(fault)") }
        #expect(counts.accepted > 0, "\(counts.description)")
    }
}
