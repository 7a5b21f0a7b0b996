package import Controller

/// What is wrong with a case file, and where; every message about case files is made here.
package struct CaseError: Error, Equatable, Sendable, CustomStringConvertible {
    package let file: String
    /// From 1; 0 for the whole file.
    package let line: Int
    package let what: String
    package let help: String?

    init(_ file: String, _ line: Int, _ what: String, help: String? = nil) {
        self.file = file
        self.line = line
        self.what = what
        self.help = help
    }

    /// `file:line: what`.
    package var description: String { "\(place): \(what)" }
    package var place: String { line == 0 ? file : "\(file):\(line)" }

    /// As the command reports it.
    package var failure: Failure { Failure(.badCases, what, place: place, help: help) }
}

/// Why a line makes no sense; the parser adds the place.
struct SyntaxProblem: Error {
    let what: String
    let help: String?

    init(_ what: String, help: String? = nil) {
        self.what = what
        self.help = help
    }

    static func expected(_ what: String, at rest: Substring) -> SyntaxProblem {
        SyntaxProblem("expected \(what), found \(rest.isEmpty ? "the end of the line" : "'\(rest.prefix(20))'")")
    }
    static func unknown(_ kind: String, _ word: String, _ known: [String]) -> SyntaxProblem {
        SyntaxProblem(
            "unknown \(kind) '\(word)'",
            help: nearest(word, among: known).map { "did you mean '\($0)'?" }
                ?? "there are: \(known.joined(separator: ", "))"
        )
    }
}
