import Controller
import UBPFTesting

/// Results of cases as text, TAP or JUnit XML.
package struct Report: Sendable {
    package enum Format: String, CaseIterable, Sendable { case text, tap, junit }

    package var results: [CaseResult] = []
    package var nanoseconds: UInt64 = 0

    package init() {}

    package var failed: Int { results.count { !$0.hasPassed } }

    package func text(_ format: Format, isQuiet: Bool = false) -> String {
        switch format {
        case .text: plain(isQuiet)
        case .tap: tap
        case .junit: junit
        }
    }

    private func milliseconds(_ nanoseconds: UInt64) -> String {
        let tenths = (nanoseconds + 50_000) / 100_000
        return "\(tenths / 10).\(tenths % 10) ms"
    }

    private func plain(_ isQuiet: Bool) -> String {
        var lines: [String] = []
        var file = ""
        for result in results where !isQuiet || !result.hasPassed {
            if result.file != file {
                file = result.file
                lines.append(file)
            }
            lines.append("  \(result.hasPassed ? "ok  " : "FAIL") \(result.name)")
            for failure in result.failures {
                lines.append("       \(failure.file):\(failure.line): \(failure.statement)")
                lines += failure.reason.split(separator: "\n").map { "         \($0)" }
            }
        }
        let passed = results.count - failed
        lines.append("\(passed) passed, \(failed) failed in \(milliseconds(nanoseconds))")
        return lines.joined(separator: "\n") + "\n"
    }

    /// Test Anything Protocol, version 13.
    private var tap: String {
        var lines = ["TAP version 13", "1..\(results.count)"]
        for (index, result) in results.enumerated() {
            // A '#' in a description would begin a directive.
            let name = result.name.replacing("#", with: "\\#")
            lines.append("\(result.hasPassed ? "ok" : "not ok") \(index + 1) - \(name)")
            for failure in result.failures {
                lines.append("# \(failure.file):\(failure.line): \(failure.statement)")
                lines += failure.reason.split(separator: "\n").map { "#   \($0)" }
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func seconds(_ nanoseconds: UInt64) -> String {
        let micros = nanoseconds / 1000
        return "\(micros / 1_000_000).\(padded(String(micros % 1_000_000), to: 6, with: "0"))"
    }

    /// As Jenkins, GitLab and GitHub actions read it.
    private var junit: String {
        var lines = ["<?xml version=\"1.0\" encoding=\"UTF-8\"?>"]
        lines.append("<testsuites tests=\"\(results.count)\" failures=\"\(failed)\" time=\"\(seconds(nanoseconds))\">")
        var files: [String] = []
        for result in results where !files.contains(result.file) { files.append(result.file) }
        for file in files {
            let own = results.filter { $0.file == file }
            lines.append(
                "  <testsuite name=\"\(xml(file))\" tests=\"\(own.count)\" failures=\"\(own.count { !$0.hasPassed })\" "
                    + "time=\"\(seconds(own.reduce(0) { $0 + $1.nanoseconds }))\">"
            )
            for result in own {
                let head =
                    "    <testcase name=\"\(xml(result.name))\" classname=\"\(xml(file))\" time=\"\(seconds(result.nanoseconds))\""
                guard let first = result.failures.first else {
                    lines.append(head + "/>")
                    continue
                }
                let all = result.failures.map { "\($0.file):\($0.line): \($0.statement)\n  \($0.reason)" }
                lines.append(head + ">")
                lines.append(
                    "      <failure message=\"\(xml(first.statement)): \(xml(first.reason))\">\(xml(all.joined(separator: "\n")))</failure>"
                )
                lines.append("    </testcase>")
            }
            lines.append("  </testsuite>")
        }
        lines.append("</testsuites>")
        return lines.joined(separator: "\n") + "\n"
    }

    /// Text that XML takes: control characters have no form there.
    private func xml(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "\n": result += "&#10;"
            default: if scalar.value >= 0x20 { result.unicodeScalars.append(scalar) } else { result += "?" }
            }
        }
        return result
    }
}
