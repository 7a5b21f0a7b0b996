import Foundation
import UBPFTesting

/// The compiled fixture.
enum Fixture {
    struct Failed: Error {
        let output: String
    }

    /// Repository root.
    static var root: URL {
        URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    }

    /// The object of `Fixtures/sample.bpf.c`, compiled once.
    static let bytes: Result<[UInt8], any Error> = Result {
        try compile("Tests/UBPFTestingTests/Fixtures/sample.bpf.c")
    }

    static func sample() throws -> BPFObject { try BPFObject(bytes: bytes.get(), name: "sample.bpf.o") }

    /// Compiles a file of the repository with the headers that are shipped, or with others.
    static func compile(
        _ path: String,
        _ headers: [String] = ["-I", root.appending(path: "bpf/include").path]
    ) throws -> [UInt8] {
        let directory = URL(filePath: NSTemporaryDirectory()).appending(path: "ubpf-testing-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let output = directory.appending(path: "sample.bpf.o")
        let process = Process()
        let messages = Pipe()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments =
            [
                "clang", "-target", "bpf", "-g", "-O2", "-Wall", "-D__TARGET_ARCH_x86", "-c",
                root.appending(path: path).path,
                "-o", output.path,
            ] + headers
        process.standardError = messages
        try process.run()
        let text = try messages.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Failed(output: String(decoding: text, as: UTF8.self)) }
        return [UInt8](try Data(contentsOf: output))
    }
}

extension Fixture {
    /// Lines of a file of the repository.
    static func lines(_ path: String) throws -> [Substring] {
        try String(contentsOf: root.appending(path: path), encoding: .utf8)
            .split(separator: "\n", omittingEmptySubsequences: false)
    }
}
