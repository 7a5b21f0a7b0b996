package import Loader
package import Planner
package import Runtime
package import UBPFVM
package import Verifier

/// What other modules refuse, as people read it; each keeps its own code.
extension Failure {
    package init(_ error: LoaderError) {
        self.init(
            ErrorCode(rawValue: error.code) ?? .badObject,
            error.message,
            place: error.place.isEmpty ? nil : error.place,
            why: error.why.isEmpty ? nil : error.why,
            help: error.help.isEmpty ? nil : error.help,
            codeText: error.code
        )
    }

    package init(_ refusal: PlanRefusal) {
        self.init(.cannotPatch, refusal.message, place: hexadecimal(refusal.address), help: refusal.help)
    }

    package init(_ error: SessionError) {
        self.init(
            .unsupportedMap,
            "map '\(error.subject)': \(error.message)",
            help: error.help.isEmpty ? nil : error.help
        )
    }

    /// A program that the verifier refuses, with the source line where the object has one.
    package init(_ error: VerifierError, in program: ProgramSpec) {
        let line = program.lines.last { $0.instruction <= error.instruction }
        var code = ErrorCode.rejected
        switch error.rule {
        case .unknownHelper, .unavailableHelper: code = .unsupportedHelper
        default: break
        }
        self.init(
            code,
            "program '\(program.name)' is refused: \(error.description)",
            place: line.map { "\($0.file):\($0.line)" },
            why: line.map { $0.text.trimmingPrefix(while: { $0 == " " || $0 == "\t" }).description }
        )
    }

    package init(_ error: LinkError, in program: ProgramSpec) {
        self.init(.rejected, "program '\(program.name)' cannot be linked: \(error.description)")
    }
}
