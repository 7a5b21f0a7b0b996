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

    package init(_ error: SessionError, place: String? = nil) {
        self.init(
            .unsupportedMap,
            "map '\(error.subject)': \(error.message)",
            place: place,
            help: error.help.isEmpty ? nil : error.help
        )
    }

    /// A program that the verifier refuses.
    package init(_ diagnosis: Diagnosis) {
        let code: ErrorCode
        switch diagnosis.rule {
        case .unknownHelper, .unavailableHelper: code = .unsupportedHelper
        default: code = .rejected
        }
        self.init(
            code,
            "program '\(diagnosis.program)' is refused: \(diagnosis.what)",
            place: diagnosis.location,
            why: diagnosis.causalPath.isEmpty ? nil : diagnosis.causalPath.joined(separator: "\n"),
            help: diagnosis.suggestion,
            codeText: code == .rejected ? diagnosis.rule.code : nil
        )
        self.diagnosis = diagnosis
    }

    /// Programs that `--no-verify` lets run.
    static func unverified(_ refused: [(program: String, error: VerifierError)]) -> Failure {
        let list = refused.map { "'\($0.program)': [\($0.error.rule.code)] \($0.error.what)" }
        return Failure(
            .unverified,
            refused.isEmpty
                ? "--no-verify: the verifier would have accepted every program"
                : "--no-verify: \(counted(refused.count, "program")) would have been refused",
            why: list.isEmpty ? nil : list.joined(separator: "\n"),
            help: "they run as checked code: what would do harm stops the program (U505)"
        )
    }

    package init(_ error: LinkError, in program: ProgramSpec) {
        self.init(.rejected, "program '\(program.name)' cannot be linked: \(error.description)")
    }
}
