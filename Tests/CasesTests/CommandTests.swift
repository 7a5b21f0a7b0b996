import Foundation
import Testing

@testable import Cases
@testable import Controller

#if canImport(FoundationXML)
import FoundationXML
#endif

/// The command: reports, choices, exit codes.
@Suite struct CommandTests {
    private static let source = """
        #include "vmlinux.h"
        #include <bpf/bpf_helpers.h>
        #include <bpf/bpf_tracing.h>
        char LICENSE[] SEC("license") = "GPL";
        SEC("uprobe")
        int BPF_UPROBE(twice, long n)
        {
        	bpf_printk("n %d", (int)n);
        	return n * 2;
        }
        SEC("uprobe")
        int BPF_UPROBE(wild, long *p)
        {
        	return *p;
        }
        """

    private func workshop(_ cases: String) throws -> Workshop {
        let workshop = try Workshop()
        try workshop.write(Self.source, "x.bpf.c")
        try workshop.write("object x.bpf.c\n" + cases, "x.bpftest")
        return workshop
    }

    private let mixed = """
        case good & <well>
          run twice(4)
          returns 8
          printk == "n 4"
          printk == none
        case bad
          run twice(4)
          returns 9
          calls trace_printk == 2
        case it traps
          no-verify
          run wild(0x10)
          returns 1
        case the trap is expected
          no-verify
          run wild(0x10)
          traps badRead line 14
        case no such program
          run thrice(1)
          returns 1
        """

    @Test func aChangeRunsAllAgain() throws {
        let cases = "case twice\n  run twice(4)\n  returns 8\n"
        let workshop = try workshop(cases)
        try workshop.write("none\n", "report")
        let (report, notes, source) = (workshop.path("report"), workshop.path("notes.txt"), workshop.path("x.bpf.c"))
        let writer = Thread {
            // Only once it waits: the first run's report is there.
            for _ in 0..<3000 {
                if (try? String(contentsOfFile: report, encoding: .utf8))?.contains("1 passed") == true { break }
                usleep(10_000)
            }
            // What is no source does not count: it is the change behind it that ends the waiting.
            try? "".write(toFile: notes, atomically: true, encoding: .utf8)
            usleep(500_000)
            try? Self.source.replacing("n * 2", with: "n * 3").write(toFile: source, atomically: true, encoding: .utf8)
        }
        writer.start()
        var options = TestOptions()
        options.files = [workshop.path("x.bpftest")]
        options.output = workshop.path("report")
        options.isQuiet = true
        TestRun(options, Installation(binaries: workshop.path("bin"))).watch(runs: 2)
        let text = try workshop.read("report")
        #expect(text.contains("1 failed"), "\(text)")
    }

    @Test func textSaysWhatWasFound() throws {
        let workshop = try workshop(mixed)
        let (code, report) = try workshop.run([workshop.path("x.bpftest")])
        #expect(code == 1)
        let file = workshop.path("x.bpftest")
        #expect(
            report.contains(
                """
                \(file)
                  ok   good & <well>
                  FAIL bad
                       \(file):9: returns 9
                         found 8
                       \(file):10: calls trace_printk == 2
                         found 1
                  FAIL it traps
                       \(file):13: run wild(0x10)
                         the program trapped: wild at
                """
            ),
            "\(report)"
        )
        #expect(report.contains("no program thrice; there are: twice, wild"))
        #expect(report.contains("2 passed, 3 failed in "))
        let quiet = try workshop.run([file]) { $0.isQuiet = true }
        #expect(!quiet.report.contains("  ok   "))
        let chosen = try workshop.run([file]) { $0.filters = ["good", "expected"] }
        #expect(chosen.code == 0)
        #expect(chosen.report.contains("2 passed, 0 failed"))
        #expect(try workshop.run([file]) { $0.filters = ["nothing like it"] }.code == 64)
    }

    @Test func tapAndJUnitSayTheSame() throws {
        let workshop = try workshop(mixed)
        let tap = try workshop.run([workshop.path("x.bpftest")]) { $0.format = .tap }
        #expect(tap.code == 1)
        #expect(tap.report.hasPrefix("TAP version 13\n1..5\nok 1 - good & <well>\nnot ok 2 - bad\n# "))
        let junit = try workshop.run([workshop.path("x.bpftest")]) { $0.format = .junit }
        #expect(junit.code == 1)
        let document = try XMLDocumentProbe.parse(junit.report)
        #expect(document.cases == ["good & <well>", "bad", "it traps", "the trap is expected", "no such program"])
        #expect(document.failures == 3)
    }

    @Test func mistakesEndWithTheirCodes() throws {
        let workshop = try workshop("case a\n  rnu twice")
        #expect(try workshop.run([workshop.path("x.bpftest")]).code == 65)
        #expect(try workshop.run([workshop.path("none.bpftest")]).code == 66)
        try workshop.write("object none.bpf.o\ncase a\n  returns 1", "y.bpftest")
        #expect(try workshop.run([workshop.path("y.bpftest")]).code == 66)
        try workshop.write("this is no C", "bad.bpf.c")
        try workshop.write("object bad.bpf.c\ncase a\n  returns 1", "z.bpftest")
        #expect(try workshop.run([workshop.path("z.bpftest")]).code == 65)
        try workshop.write("object x.bpf.c\ncase a\n  run twice(1)\n  returns 2", "good.bpftest")
        #expect(try workshop.run([workshop.path("good.bpftest")]).code == 0)
        #expect(try workshop.run([workshop.path("good.bpftest")]) { $0.output = "/nonexistent/x" }.code == 77)
    }

    @Test func filesRunAtTheSameTimeInOrder() throws {
        let workshop = try workshop("case a\n  run twice(1)\n  returns 2")
        let names = (1...6).map { "f\($0).bpftest" }
        for name in names {
            try workshop.write("object x.bpf.c\ncase \(name)\n  run twice(1)\n  returns 2", name)
        }
        let (code, report) = try workshop.run(names.map(workshop.path)) { $0.jobs = 3 }
        #expect(code == 0)
        #expect(
            report.split(separator: "\n").filter { $0.hasPrefix("  ok") }.map(String.init)
                == names.map { "  ok   \($0)" }
        )
    }

    /// A thousand cases take less than 5 s.
    @Test func manyCasesAreFast() throws {
        let workshop = try workshop(
            (0..<1000).map { "case number \($0)\n  run twice(\($0))\n  returns \(2 * $0)\n" }.joined()
        )
        let clock = ContinuousClock()
        let took = try clock.measure {
            let (code, report) = try workshop.run([workshop.path("x.bpftest")])
            #expect(code == 0)
            #expect(report.contains("1000 passed, 0 failed"))
        }
        // Generous: other work may share the machine.
        #expect(took < .seconds(30))
    }
}

/// Names and failures in a JUnit report, by a parser that is not ours.
private final class XMLDocumentProbe: NSObject, XMLParserDelegate {
    private(set) var cases: [String] = []
    private(set) var failures = 0

    static func parse(_ text: String) throws -> XMLDocumentProbe {
        let probe = XMLDocumentProbe()
        let parser = XMLParser(data: Data(text.utf8))
        parser.delegate = probe
        guard parser.parse() else { throw parser.parserError ?? CocoaError(.fileReadCorruptFile) }
        return probe
    }

    func parser(
        _ parser: XMLParser,
        didStartElement name: String,
        namespaceURI: String?,
        qualifiedName: String?,
        attributes: [String: String]
    ) {
        if name == "testcase" { cases.append(attributes["name"] ?? "") }
        if name == "failure" { failures += 1 }
    }
}
