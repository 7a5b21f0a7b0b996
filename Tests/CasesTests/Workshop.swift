import Cases
import Controller
import Foundation

/// A scratch directory that looks like an installation, with files that tests write.
final class Workshop {
    let directory: URL
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    init() throws {
        directory = URL(filePath: NSTemporaryDirectory()).appending(path: "ubpf-cases-\(UUID().uuidString)")
        let share = directory.appending(path: "share/ubpf")
        try FileManager.default.createDirectory(at: share, withIntermediateDirectories: true)
        try FileManager.default.createDirectory(at: directory.appending(path: "bin"), withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(
            at: share.appending(path: "include"),
            withDestinationURL: Self.root.appending(path: "bpf/include")
        )
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    func path(_ name: String) -> String { directory.appending(path: name).path }

    func write(_ text: String, _ name: String) throws {
        try text.write(to: directory.appending(path: name), atomically: true, encoding: .utf8)
    }

    func read(_ name: String) throws -> String {
        try String(contentsOf: directory.appending(path: name), encoding: .utf8)
    }

    /// Runs case files as the command does: exit code and report.
    func run(_ files: [String], _ change: (inout TestOptions) -> Void = { _ in }) throws -> (
        code: Int32, report: String
    ) {
        var options = TestOptions()
        options.files = files
        options.output = path("report")
        change(&options)
        try? FileManager.default.removeItem(atPath: path("report"))
        let code = TestRun(options, Installation(binaries: path("bin"))).execute()
        return (code, (try? read("report")) ?? "")
    }
}
