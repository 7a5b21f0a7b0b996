import Verifier

/// The long story of a code, for `ubpfrun explain`.
package enum Explanation {
    /// Explains `V012`, `U303`, in any case of letters.
    package static func text(of word: String) throws(Failure) -> String {
        let code = word.uppercased()
        if let rule = Rule.allCases.first(where: { $0.code == code }) { return text(of: rule) }
        if let error = ErrorCode(rawValue: code) {
            let meaning = error.meaning
            var lines = ["\(code): exit code \(error.exitCode)", "", meaning.what]
            if !meaning.help.isEmpty { lines += ["", "What to do: \(meaning.help)"] }
            if error == .unsupportedHelper {
                lines += ["", "See also `ubpfrun explain \(Rule.unavailableHelper.code)`."]
            }
            return lines.joined(separator: "\n")
        }
        let known = Rule.allCases.map(\.code) + ErrorCode.allCases.map(\.rawValue)
        throw Failure(
            .badOption,
            "there is no code '\(word)'",
            why: "codes are \(known.filter { $0.hasPrefix("U") }.count) from U001 and \(Rule.allCases.count) from V001",
            help: nearest(code, among: known).map { "did you mean '\($0)'?" }
        )
    }

    private static func text(of rule: Rule) -> String {
        let text = rule.text
        var lines = ["\(rule.code): \(text.headline) (\(text.category))", "", text.explanation, ""]
        lines += ["Wrong:"] + indented(text.wrong) + ["Right:"] + indented(text.right)
        lines += ["", "What to do: \(text.suggestion)"]
        if let kernel = text.kernel {
            let wording = kernel.replacing("{R}", with: "R0").replacing("{T}", with: "map_value_or_null")
                .replacing("{I}", with: "7")
            lines.append("The Linux verifier says: \(wording)")
        }
        if rule.isStructural { lines.append("--no-verify does not help: such a program cannot run at all.") }
        return lines.joined(separator: "\n")
    }

    private static func indented(_ text: String) -> [String] {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { "    " + $0 }
    }
}
