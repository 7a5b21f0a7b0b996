import JSON
import Verifier

/// What `ubpfrun check` prints.
package struct CheckReport: Sendable {
    package var object: String
    package var verdicts: [Verdict]

    package init(object: String, verdicts: [Verdict]) {
        self.object = object
        self.verdicts = verdicts
    }

    private var refused: Int { verdicts.count(where: \.isRefused) }
    private var accepted: Int { verdicts.count(where: \.isAccepted) }
    private var notChecked: Int { verdicts.count - refused - accepted }

    // MARK: - Text

    /// A line for each program, each refusal behind its line.
    package var text: String {
        var lines: [String] = []
        let width = min(40, verdicts.map(\.program.count).max() ?? 0)
        for verdict in verdicts {
            lines.append("\(aligned(verdict.program, to: width))  \(summary(verdict))")
            lines += verdict.log.map { "    " + $0 }
            if case .refused(let failure) = verdict.outcome { lines += ["", failure.text(), ""] }
            if let kernel = verdict.kernel { lines += kernel.lines(for: verdict).map { "    " + $0 } }
        }
        lines.append(
            "\(object): \(accepted) accepted, \(refused) rejected"
                + (notChecked > 0 ? ", \(notChecked) not checked" : "")
        )
        return lines.joined(separator: "\n")
    }

    private func summary(_ verdict: Verdict) -> String {
        switch verdict.outcome {
        case .accepted:
            guard let statistics = verdict.statistics else { return "accepted" }
            return "accepted  \(verdict.microseconds) us, \(counted(statistics.processed, "instruction")) walked, "
                + "\(counted(statistics.states, "state")), \(statistics.stackDepth) B of stack"
        case .refused(let failure): return "REJECTED  [\(failure.codeText)]  \(verdict.microseconds) us"
        case .notChecked(let why): return "not checked: \(why)"
        }
    }

    // MARK: - JSON

    /// One document.
    package var json: String {
        var writer = JSONWriter()
        writer.object { root in
            root.member("schema", 1)
            root.member("object", object)
            root.key("programs")
            root.array { list in
                for verdict in verdicts { list.object { write(verdict, to: &$0) } }
            }
            root.member("accepted", accepted)
            root.member("rejected", refused)
            root.member("not_checked", notChecked)
        }
        return writer.text
    }

    private func write(_ verdict: Verdict, to entry: inout JSONWriter) {
        entry.member("name", verdict.program)
        entry.member("section", verdict.section)
        entry.member("type", verdict.type)
        switch verdict.outcome {
        case .accepted: entry.member("verdict", "accepted")
        case .refused(let failure):
            entry.member("verdict", "rejected")
            entry.key("error")
            entry.object { error in
                error.member("code", failure.codeText)
                error.member("message", failure.what)
                failure.diagnosis?.write(to: &error)
            }
        case .notChecked(let why):
            entry.member("verdict", "not checked")
            entry.member("reason", why)
        }
        entry.member("usec", verdict.microseconds)
        if let statistics = verdict.statistics {
            entry.member("processed", statistics.processed)
            entry.member("states", statistics.states)
            entry.member("peak_states", statistics.peakStates)
            entry.member("stack", statistics.stackDepth)
        }
        if !verdict.log.isEmpty {
            entry.key("log")
            entry.array { list in for line in verdict.log { list.string(line) } }
        }
        if let kernel = verdict.kernel {
            entry.key("kernel")
            entry.object { data in
                data.member("verdict", kernel.name)
                if let message = kernel.message { data.member("message", message) }
                data.member("differs", kernel.differs(from: verdict))
            }
        }
    }

    // MARK: - SARIF

    /// The refusals as a SARIF 2.1.0 log (OASIS, sarif-v2.1.0), as editors and code hosts read them.
    package var sarif: String {
        let rules = Rule.allCases
        var writer = JSONWriter()
        writer.object { root in
            root.member("$schema", "https://json.schemastore.org/sarif-2.1.0.json")
            root.member("version", "2.1.0")
            root.key("runs")
            root.array { runs in
                runs.object { run in
                    run.key("tool")
                    run.object { tool in
                        tool.key("driver")
                        tool.object { driver in
                            driver.member("name", "ubpfrun")
                            driver.member("version", "0.1.0")
                            driver.key("rules")
                            driver.array { list in
                                for rule in rules { list.object { Self.write(rule, to: &$0) } }
                            }
                        }
                    }
                    run.key("invocations")
                    run.array { $0.object { $0.member("executionSuccessful", true) } }
                    run.key("columnKind")
                    run.string("unicodeCodePoints")
                    run.key("results")
                    run.array { list in
                        for verdict in verdicts {
                            guard case .refused(let failure) = verdict.outcome else { continue }
                            list.object { write(failure, verdict, rules, to: &$0) }
                        }
                    }
                }
            }
        }
        return writer.text
    }

    private static func write(_ rule: Rule, to entry: inout JSONWriter) {
        let text = rule.text
        entry.member("id", rule.code)
        entry.member("name", "\(rule)")
        for (name, value) in [
            ("shortDescription", text.headline), ("fullDescription", text.explanation), ("help", text.suggestion),
        ] {
            entry.key(name)
            entry.object { $0.member("text", value) }
        }
        entry.key("properties")
        entry.object { $0.member("category", text.category) }
    }

    private func write(_ failure: Failure, _ verdict: Verdict, _ rules: [Rule], to entry: inout JSONWriter) {
        let diagnosis = failure.diagnosis
        entry.member("ruleId", diagnosis?.rule.code ?? failure.codeText)
        if let rule = diagnosis?.rule, let index = rules.firstIndex(of: rule) { entry.member("ruleIndex", index) }
        entry.member("level", "error")
        entry.key("message")
        entry.object { message in
            let advice = diagnosis.map { ". \($0.suggestion)" } ?? ""
            message.member(
                "text",
                "\(diagnosis?.headline ?? failure.what)\(diagnosis.map { ": \($0.what)" } ?? "")\(advice)"
            )
        }
        entry.key("locations")
        entry.array { $0.object { location(diagnosis?.primary, verdict, to: &$0) } }
        guard let secondary = diagnosis?.secondary, !secondary.isEmpty else { return }
        entry.key("relatedLocations")
        entry.array { list in
            for (index, place) in secondary.enumerated() {
                list.object { item in
                    item.member("id", index)
                    location(place, verdict, to: &item)
                    item.key("message")
                    item.object { $0.member("text", place.label) }
                }
            }
        }
    }

    private func location(_ place: Diagnosis.Place?, _ verdict: Verdict, to entry: inout JSONWriter) {
        entry.key("physicalLocation")
        entry.object { physical in
            physical.key("artifactLocation")
            physical.object { $0.member("uri", Self.uri(place?.source?.file ?? object)) }
            guard let source = place?.source else { return }
            physical.key("region")
            physical.object { region in
                region.member("startLine", max(1, source.line))
                if source.column > 0 { region.member("startColumn", source.column) }
                region.key("snippet")
                region.object { $0.member("text", source.text) }
            }
        }
        entry.key("logicalLocations")
        entry.array { list in
            list.object { logical in
                logical.member("name", verdict.program)
                logical.member("kind", "function")
            }
        }
    }

    /// A path as a URI reference (RFC 3986): what may not stand there is written as %XX.
    private static func uri(_ path: String) -> String {
        var text = path.hasPrefix("/") ? "file://" : ""
        for byte in path.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"), UInt8(ascii: "/"):
                text.unicodeScalars.append(Unicode.Scalar(byte))
            default: text += "%" + padded(String(byte, radix: 16, uppercase: true), to: 2, with: "0")
            }
        }
        return text
    }
}
