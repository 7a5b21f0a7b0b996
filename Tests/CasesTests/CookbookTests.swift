import Foundation
import Testing

@testable import Cases

/// What Documentation/Testing.md shows is run as it stands there.
@Suite struct CookbookTests {
    /// The page's blocks that name a file.
    static let blocks: [(name: String, text: String)] = {
        let page = Workshop.root.appending(path: "Documentation/Testing.md")
        guard let text = try? String(contentsOf: page, encoding: .utf8) else { return [] }
        var blocks: [(name: String, text: String)] = []
        var name: String?
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("```") {
                let words = line.dropFirst(3).split(separator: " ")
                name = words.count == 2 ? String(words[1]) : nil
                if let name { blocks.append((name, "")) }
            } else if name != nil {
                blocks[blocks.count - 1].text += line + "\n"
            }
        }
        return blocks
    }()

    static let cases = blocks.map(\.name).filter { $0.hasSuffix(".bpftest") }

    @Test func thePageHasTenRecipes() { #expect(Self.cases.count >= 11) }

    @Test(arguments: cases)
    func recipesPass(_ name: String) throws {
        let workshop = try Workshop()
        for block in Self.blocks { try workshop.write(block.text, block.name) }
        let (code, report) = try workshop.run([workshop.path(name)])
        #expect(code == 0, "\(report)")
        #expect(report.contains("ok   "))
    }

    /// The first one, with the output that the page shows.
    @Test func theGuideIsCoveredCompletely() throws {
        let workshop = try Workshop()
        for block in Self.blocks { try workshop.write(block.text, block.name) }
        let (code, _) = try workshop.run([workshop.path("opens.bpftest")]) { options in
            options.minimumCoverage = 100
            options.lcov = workshop.path("bpf.info")
        }
        #expect(code == 0)
        let lcov = try workshop.read("bpf.info")
        #expect(lcov.contains("opens.bpf.c\n"))
        #expect(!lcov.contains(",0\n"), "\(lcov)")
        // With less, too little is covered.
        let less = try workshop.run([workshop.path("opens.bpftest")]) { options in
            options.minimumCoverage = 100
            options.filters = ["counted and told"]
        }
        #expect(less.code == 1)
    }
}
