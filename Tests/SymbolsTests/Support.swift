import Foundation

/// Runs a tool; its standard output and exit status.
func run(_ tool: String, _ arguments: [String]) throws -> (output: String, status: Int32) {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [tool] + arguments
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (String(decoding: data, as: UTF8.self), process.terminationStatus)
}

/// A directory that is gone when the test is over.
final class TemporaryDirectory {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "/ubpf-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ name: String, _ text: String, mode: Int = 0o644) throws -> String {
        let file = path + "/" + name
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file)
        return file
    }

    /// Compiles C or C++ and gives the output's path.
    func compile(_ text: String, _ name: String = "program", cxx: Bool = false, _ flags: [String] = []) throws -> String
    {
        let source = try write(name + (cxx ? ".cpp" : ".c"), text)
        let output = path + "/" + name
        let result = try run(cxx ? "g++" : "gcc", flags + [source, "-o", output])
        struct CompilerFailed: Error {}
        guard result.status == 0 else { throw CompilerFailed() }
        return output
    }
}
