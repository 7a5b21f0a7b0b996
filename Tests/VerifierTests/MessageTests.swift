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
}
