import Foundation
import ISA
import Testing

@testable import Verifier

/// What people read when a program is refused, in full.
@Suite struct MessageTests {
    private func diagnosis(_ test: MessageCase) throws -> Diagnosis {
        let subject = try test.subject()
        let error = try #require(throws: VerifierError.self) { try verify(subject) }
        #expect(error.rule == test.rule)
        return Diagnosis(error, in: subject, program: "prog", lines: test.sourceLines)
    }

    /// `UBPF_GOLDENS=FILE` collects the messages as they are now, for a look at what changed.
    private static let goldenPath = ProcessInfo.processInfo.environment["UBPF_GOLDENS"]

    private func append(_ name: String, _ text: String, to path: String) throws {
        let record =
            "    \"\(name)\": #\"\"\"\n"
            + text.split(separator: "\n", omittingEmptySubsequences: false)
            .map { "        \($0)\n" }.joined() + "        \"\"\"#,\n"
        let file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        defer { _ = close(file) }
        let bytes = Array(record.utf8)
        #expect(unsafe write(file, bytes, bytes.count) == bytes.count)
    }

    @Test(arguments: MessageCase.all)
    func message(_ test: MessageCase) throws {
        let text = try diagnosis(test).text()
        if let path = Self.goldenPath { try append(test.name, text, to: path) }
        let golden = try #require(messageGoldens[test.name])
        #expect(text == golden)
    }

    /// What we say that the Linux verifier says is what it says.
    @Test(
        .enabled(if: KernelVerifier.isOracle, KernelVerifier.reason),
        arguments: MessageCase.all.filter { $0.isForKernel }
    )
    func kernelWording(_ test: MessageCase) throws {
        let diagnosis = try diagnosis(test)
        guard let wording = diagnosis.kernel else { return }
        let maps = try MessageMaps()
        let log = maps.log(of: test, try test.subject())
        for part in wording.split(separator: "…") { #expect(log.contains(part), "\(log.suffix(600))") }
    }

    /// A rule that is added needs a program here.
    @Test func everyRuleHasACase() {
        #expect(Set(Rule.allCases).subtracting(MessageCase.all.map(\.rule)) == [])
        #expect(Set(messageGoldens.keys) == Set(MessageCase.all.map(\.name)))
        #expect(messageGoldens.count == MessageCase.all.count)
    }

    /// Whatever is refused can be explained: damaged lines, paths through calls and callbacks, any place.
    @Test func randomRefusals() throws {
        var random = Numbers(state: 5)
        var refused: [Rule: Int] = [:]
        for round in 0..<6_000 {
            var program = MessageCase.all[round % MessageCase.all.count]
            var subject = try program.subject()
            guard !subject.instructions.isEmpty else { continue }
            for _ in 0..<1 + random.below(2) {
                let index = random.below(subject.instructions.count)
                // The loader gives function references, calls and maps, and never damages them.
                switch subject.instructions[index].opcode.shape {
                case .wide: continue
                default: break
                }
                switch random.below(4) {
                case 0: subject.instructions[index].dst = Register(rawValue: UInt8(random.below(10))) ?? .r0
                case 1: subject.instructions[index].imm = Int64(random.below(200)) - 20
                case 2: subject.instructions[index].offset = Int32(random.below(20)) - 10
                default: subject.instructions[index] = Instruction(.mov64Reg, dst: .r1, src: .r6)
                }
            }
            subject.limit = 2000
            do throws(VerifierError) { _ = try verify(subject) } catch {
                refused[error.rule, default: 0] += 1
                program.lines[random.below(9)] = (random.below(5), random.below(30) - 2, "\tint x = f(g(1), h;")
                program.lines[random.below(9) + 1] = (7, 1, "")
                let text = Diagnosis(error, in: subject, program: "prog", lines: program.sourceLines).text()
                #expect(text.hasPrefix("error[\(error.rule.code)]: \(error.rule.text.headline): "))
                #expect(text.contains("\nSuggestion: "))
                for part in ["{R}", "{T}", "{I}"] { #expect(!text.contains(part), "\(text)") }
            }
        }
        #expect(refused.count > 25)
    }
}

/// Random numbers with a fixed start (xorshift64).
private struct Numbers {
    var state: UInt64

    mutating func below(_ limit: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state >> 33) % limit
    }
}
