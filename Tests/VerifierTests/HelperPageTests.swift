import Foundation
import ISA
import Testing

@testable import Verifier

/// Documentation/Helpers.md has a row for every helper of the program types that concern processes; this keeps it true.
@Suite struct HelperPageTests {
    private static let types: [(ProgramType, String)] = [
        (.kprobe, "uprobe"), (.tracepoint, "tracepoint"), (.perfEvent, "perf_event"), (.socketFilter, "socket_filter"),
    ]

    /// What Linux 6.18 offers where its administrator has not forbidden them.
    private static func offered(_ helper: Helper) -> [String] {
        switch helper {
        case .probeWriteUser: ["uprobe", "tracepoint", "perf_event"]
        case .overrideReturn: ["uprobe"]
        default:
            helper.isKernelFunction
                ? [] : types.filter { mayCall(helper, $0.0, isSleepable: true) }.map(\.1)
        }
    }

    private static let document = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Documentation/Helpers.md")

    /// Number, name, types, whether it is here, and the rest.
    private static func rows() throws -> [[String]] {
        let text = try String(contentsOf: document, encoding: .utf8)
        return text.split(separator: "\n").filter { $0.hasPrefix("| ") }.map { line in
            line.split(separator: "|", omittingEmptySubsequences: false).dropFirst().dropLast()
                .map { $0.trimmingCharacters(in: .whitespaces) }
        }.filter { Int($0[0]) != nil }
    }

    @Test func everyHelperHasItsRow() throws {
        let rows = try Self.rows()
        var expected: [[String]] = []
        for helper in Helper.allCases {
            let types = Self.offered(helper)
            if types.isEmpty { continue }
            let all = types.count == Self.types.count ? "all" : types.joined(separator: ", ")
            let start = ["\(helper.rawValue)", "`\(helper.name)`", all]
            switch helper.support {
            case .implemented: expected.append(start + ["yes"])
            case .optional(let permission): expected.append(start + ["option", "`\(permission.option)`"])
            case .refused(let refusal): expected.append(start + ["no", refusal.reason])
            }
        }
        #expect(rows.count == expected.count)
        for (row, expected) in zip(rows, expected) {
            #expect(row.count == 5 && Array(row.prefix(4)) == Array(expected.prefix(4)), "must be \(expected)")
            // An option's name stands before what it does.
            if expected.count == 5 { #expect(row[4].hasPrefix(expected[4]), "must begin with \(expected[4])") }
        }
    }

    @Test func everyTaskFieldIsNamed() throws {
        let text = try String(contentsOf: Self.document, encoding: .utf8)
        for field in TaskField.allCases { #expect(text.contains("`\(field.rawValue)`")) }
    }

    /// The page of this runtime's own kernel functions.
    @Test func kernelFunctionsAreNamed() throws {
        let text = try String(contentsOf: Self.document, encoding: .utf8)
        for helper in Helper.allCases where helper.isKernelFunction { #expect(text.contains("`\(helper.name)`")) }
    }
}
