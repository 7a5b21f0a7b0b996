import Glibc

@testable import Loader

/// A compiler of fixtures; the oldest and the newest clang make different relocations.
enum Compiler: String, CaseIterable, Sendable {
    case current = "clang"
    case clang14 = "clang-14"

    static var installed: [Compiler] { allCases.filter { $0.path != nil } }

    /// Where PATH has it.
    var path: String? {
        let directories = getenv("PATH").map { String(cString: $0) } ?? ""
        return directories.split(separator: ":").map { "\($0)/\(rawValue)" }.first { access($0, X_OK) == 0 }
    }
}

struct FixtureError: Error, CustomStringConvertible {
    var description: String
}

/// Objects compiled at test time from `Fixtures/`.
enum Fixture {
    static let names = ["maps", "link", "core", "externs", "plain"]

    static var directory: String {
        String(#filePath.dropLast("Fixtures.swift".count)) + "Fixtures/"
    }

    static func object(_ name: String, _ compiler: Compiler = .current, _ more: [String] = []) throws -> [UInt8] {
        try compile(directory + name + ".bpf.c", compiler, ["-target", "bpf", "-g"] + more)
    }

    static func load(_ name: String, _ compiler: Compiler = .current, _ more: [String] = []) throws -> ObjectSpec {
        try loadObject(bytes: object(name, compiler, more), name: "\(name).bpf.o")
    }

    /// Compiles a file, or text in C.
    static func compile(_ source: String, _ compiler: Compiler = .current, _ flags: [String]) throws -> [UInt8] {
        try withTemporaryDirectory { directory in
            let output = directory + "/x.o"
            let arguments =
                ["-O2", "-w", "-D__TARGET_ARCH_x86", "-I/usr/include/x86_64-linux-gnu"] + flags
                + ["-c", source, "-o", output]
            let result = try run(compiler.path ?? compiler.rawValue, arguments)
            guard result.status == 0 else { throw FixtureError(description: result.output) }
            return try readFile(output)
        }
    }

    static func compile(text: String, _ flags: [String] = ["-target", "bpf", "-g"]) throws -> [UInt8] {
        try withTemporaryDirectory { directory in
            let source = directory + "/x.bpf.c"
            try write(Array(text.utf8), to: source)
            return try compile(source, .current, flags)
        }
    }
}

func write(_ bytes: [UInt8], to path: String) throws {
    guard let file = fopen(path, "w") else { throw FixtureError(description: "cannot write \(path)") }
    defer { fclose(file) }
    guard fwrite(bytes, 1, bytes.count, file) == bytes.count else {
        throw FixtureError(description: "cannot write \(path)")
    }
}

func withTemporaryDirectory<T>(_ body: (String) throws -> T) throws -> T {
    let root = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array((root + "/loader-tests.XXXXXX").utf8CString)
    guard mkdtemp(&template) != nil else { throw FixtureError(description: "mkdtemp failed") }
    let path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress.unsafelyUnwrapped) }
    defer {
        for name in ["x.o", "x.bpf.c", "out"] { unlink(path + "/" + name) }
        rmdir(path)
    }
    return try body(path)
}

/// Runs a program to its end; output and errors together.
func run(_ path: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
    let quoted = ([path] + arguments).map { "'\($0)'" }.joined(separator: " ")
    guard let pipe = popen(quoted + " 2>&1", "r") else { throw FixtureError(description: "cannot run \(path)") }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = fread(&chunk, 1, chunk.count, pipe)
        if count == 0 { break }
        bytes += chunk[..<count]
    }
    return (pclose(pipe), String(decoding: bytes, as: UTF8.self))
}
