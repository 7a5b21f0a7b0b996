import Glibc
import Testing

/// The program itself: what it writes where, and its exit status.
@Suite struct ProcessTests {
    /// Next to the tests' own program.
    private static var path: String {
        let own = CommandLine.arguments[0]
        // swift test runs a helper of the toolchain, which loads the bundle of the package's build directory.
        let built =
            String(#filePath.dropLast("Tests/ConformancePluginTests/ProcessTests.swift".count)) + ".build/debug/"
        let beside = own.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/") + "/"
        return access(beside + "ubpf-conformance", X_OK) == 0 ? beside + "ubpf-conformance" : built + "ubpf-conformance"
    }

    /// Runs it in a shell; its status, standard output and standard error.
    private func run(_ arguments: String, input: String) throws -> (status: Int32, output: String, error: String) {
        var template = Array(((getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp") + "/plugin.XXXXXX").utf8CString)
        let descriptor = mkstemp(&template)
        try #require(descriptor >= 0)
        close(descriptor)
        let file = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { unlink(file) }
        let command = "printf '%s\\n' '\(input)' | '\(Self.path)' \(arguments) 2>'\(file)'"
        let pipe = try #require(popen(command, "r"))
        let output = try read(pipe)
        let status = pclose(pipe)
        let errors = try #require(fopen(file, "r"))
        defer { fclose(errors) }
        return ((status >> 8) & 0xff, output, try read(errors))
    }

    private func read(_ file: UnsafeMutablePointer<FILE>) throws -> String {
        var bytes: [UInt8] = []
        while case let byte = getc(file), byte != EOF { bytes.append(UInt8(byte)) }
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test func resultOnStandardOutputOnly() throws {
        let (status, output, error) = try run("'05  06  ' --interpret", input: "71100100000000009500000000000000")
        #expect(status == 0)
        #expect(output == "6\n")
        #expect(error.isEmpty)
    }

    @Test(arguments: [("", "xx", 1), ("", "9500", 1), ("--what", "", 64), ("--elf", "7f454c46", 1)])
    func errorsOnStandardErrorOnly(_ arguments: String, _ input: String, _ expected: Int32) throws {
        let (status, output, error) = try run(arguments, input: input)
        #expect(status == expected)
        #expect(output.isEmpty)
        #expect(error.hasPrefix("ubpf-conformance: "))
        #expect(error.filter { $0 == "\n" }.count == 1)
    }
}
