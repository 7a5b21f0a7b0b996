package import Loader
package import Verifier

extension Diagnosis {
    /// Explains why a program of an object is refused, with its source lines.
    package init(_ error: VerifierError, in subject: Subject, of program: ProgramSpec) {
        self.init(error, in: subject, program: program.name, lines: program.lines.map { SourceLine($0) })
    }
}

extension SourceLine {
    package init(_ line: LineInfo) {
        self.init(
            instruction: line.instruction,
            file: line.file,
            line: line.line,
            column: line.column,
            text: line.text
        )
    }
}
