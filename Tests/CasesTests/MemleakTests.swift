import Foundation
import Testing
import UBPFTesting

@testable import Cases

/// The tests of bpf/memleak.bpf.c.
@Suite struct MemleakTests {
    @Test func casesPassAndCoverIt() throws {
        let workshop = try Workshop()
        let path = Workshop.root.appending(path: "bpf/tests/memleak.bpftest").path
        let (code, report) = try workshop.run([path]) { options in
            options.minimumCoverage = 95
            options.lcov = workshop.path("bpf.info")
        }
        #expect(code == 0, "\(report)")
        // Both ways of every branch, and no line unreached.
        let lcov = try workshop.read("bpf.info").split(separator: "\n")
        #expect(
            lcov.filter { ($0.hasPrefix("BRDA") || $0.hasPrefix("DA")) && ($0.hasSuffix(",0") || $0.hasSuffix(",-")) }
                == []
        )
        #expect(lcov.count { $0.hasPrefix("BRDA") } > 40)
    }

    /// A bug that was planted: the block that realloc gives back stays in the map.
    @Test func aMissedDeleteIsFound() throws {
        let workshop = try Workshop()
        let source = try String(contentsOf: Workshop.root.appending(path: "bpf/memleak.bpf.c"), encoding: .utf8)
        let line = "\t\t\tbpf_map_delete_elem(&allocs, &old_address);\n"
        #expect(source.components(separatedBy: line).count == 2)
        try FileManager.default.createDirectory(atPath: workshop.path("tests"), withIntermediateDirectories: true)
        try workshop.write(source.replacingOccurrences(of: line, with: ""), "memleak.bpf.c")
        let cases = try String(contentsOf: Workshop.root.appending(path: "bpf/tests/memleak.bpftest"), encoding: .utf8)
        try workshop.write(cases, "tests/memleak.bpftest")
        let (code, report) = try workshop.run([workshop.path("tests/memleak.bpftest")])
        #expect(code == 1)
        #expect(report.contains("FAIL realloc moves a block"))
        #expect(report.contains("map allocs[0x1000] == none"))
        #expect(report.contains("found {padding: 0, size: 64,"))
    }
}
