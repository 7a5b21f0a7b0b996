import Foundation
import Testing

@testable import Controller

/// Bad input on the real command line: one clear error each, with its code and exit code, and nothing on standard output.
@Suite struct ErrorTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var arguments: String
        var code: ErrorCode
        var says: String
        var environment: [String: String] = [:]

        init(_ arguments: String, _ code: ErrorCode, _ says: String, _ environment: [String: String] = [:]) {
            self.arguments = arguments
            self.code = code
            self.says = says
            self.environment = environment
        }

        var testDescription: String { "\(code.rawValue): \(arguments)" }
    }

    /// `@` stands for a directory with the files that `Files` makes.
    static let cases: [Case] = [
        Case("memleak", .usage, "nothing to run memleak on"),
        Case("memleak --min-sizee 3 -- true", .usage, "did you mean '--min-size'?"),
        Case("memleak surprise -- true", .usage, "unexpected argument 'surprise'"),
        Case("memleak --min-size", .usage, "needs a value"),
        Case("memleak --min-size x -- true", .badOption, "'x' is no value for --min-size"),
        Case("memleak -f xml -- true", .badOption, "text or json"),
        Case("memleak --set nothing=1 -- true", .badOption, "the object has no variable 'nothing'"),
        Case("memleak -p 1", .notInThisVersion, "not in this version"),
        Case("memleak -- true", .badEnvironment, "UBPF_FORMAT='xml'", ["UBPF_FORMAT": "xml"]),
        Case("memleak -- no-such-command", .commandNotFound, "it is in no directory of PATH"),
        Case("memleak -- @/missing", .commandNotFound, "there is no such file"),
        Case("memleak -- @/script", .commandNotFound, "cannot run the script"),
        Case("memleak -- @/static", .staticTarget, "statically linked"),
        Case("memleak -- @/narrow", .otherArchitecture, "32-bit"),
        Case("memleak -- @", .cannotExecute, "it is a directory"),
        Case("memleak -- @/text.o", .cannotExecute, "chmod +x"),
        Case("memleak -- @/executable-text", .notAProgram, "neither ELF nor a script"),
        Case("memleak -- true", .libraryMissing, "libubpf.so not found", ["UBPF_LIB": "/nonexistent.so"]),
        Case(
            "memleak -- true",
            .endedEarly,
            "before libubpf.so was ready",
            ["UBPF_LIB": "/lib/x86_64-linux-gnu/libm.so.6"]
        ),
        Case("@/own.bpf.c --attach on_call=libc:mallc -- true", .symbolNotFound, "did you mean 'malloc'?"),
        Case("@/own.bpf.c --attach on_call=libfoo:malloc -- true", .symbolNotFound, "is not loaded"),
        Case("@/own.bpf.c --attach on_call=libc:malloc+1 -- true", .cannotPatch, "no instruction starts there"),
        Case("@/returns.bpf.c --attach on_return=libc:vfork -- true", .cannotPatch, "it returns twice"),
        Case("@/own.bpf.c -- true", .noTarget, "without a target"),
        Case("@/own.bpf.c --attach on_cal=libc:malloc -- true", .unknownProgram, "did you mean 'on_call'?"),
        Case("@/nothing.bpf.c -- true", .nothingToAttach, "no program that can be attached"),
        Case("memlaek -- true", .objectNotFound, "did you mean 'memleak'?"),
        Case("@/missing.o -- true", .objectNotFound, "no file and no tool"),
        Case("@/maps-without-btf.o -- true", .noBTF, "has no BTF"),
        Case("@/text.o -- true", .notBPF, "it is a text file"),
        Case("@/x86.o -- true", .notBPF, "is an x86-64 object, not BPF"),
        Case("@/big-endian.o -- true", .notBPF, "big-endian"),
        Case("@/cut.o -- true", .badObject, "the section header table"),
        Case("@/helper.bpf.c -- true", .unsupportedHelper, "bpf_override_return"),
        Case("@/bad.bpf.c -- true", .compilationFailed, "does not compile"),
        Case("@/own.bpf.c -- true", .compilerMissing, "no clang", ["UBPF_CLANG": "/nonexistent/clang"]),
        Case("@/lpm.bpf.c -- true", .unsupportedMap, "LPM_TRIE"),
        Case("@/tracepoint.bpf.c -- true", .kernelProgram, "on_exec"),
        Case("memleak -o /nonexistent/report -- true", .outputFailed, "No such file or directory"),
    ]

    @Test(.enabled(if: Files.shared != nil, "dist/ has not been built: make build"), arguments: cases)
    func oneClearError(_ test: Case) throws {
        let files = try #require(Files.shared)
        let arguments = test.arguments.replacing("@", with: files.directory).split(separator: " ").map(String.init)
        let result = try files.run(arguments, test.environment)
        let first = result.errors.split(separator: "\n").first { $0.hasPrefix("error[") } ?? ""
        #expect(first.hasPrefix("error[\(test.code.rawValue)]: "), "\(result.errors)")
        #expect(result.errors.contains(test.says), "\(result.errors)")
        #expect(result.status == test.code.exitCode)
        #expect(result.output == "")
    }

    /// Codes that no command line leads to here: their texts and exit codes alone.
    static let others: [(Failure, ErrorCode)] = [
        (.execFailed("/bin/x", errno: 8), .execFailed),
        (.agentFailed("", errno: 12, site: "libc:malloc"), .agentFailed),
        (.socketFailed("poll", errno: 4), .socketFailed), (.mapFull("allocs", maxEntries: 10), .mapFull),
        (.stacksMissed(3, bytes: 40), .stacksMissed), (.recordsLost("events", 2), .recordsLost),
        (.programTrapped("p", count: 1, kind: "badRead", instruction: 3), .programTrapped),
        (.hitsMissed(9), .hitsMissed),
        (.internalError("impossible"), .internalError),
    ]

    @Test(arguments: others.indices)
    func textsOfTheOthers(_ index: Int) {
        let (failure, code) = Self.others[index]
        #expect(failure.code == code)
        #expect(failure.text().hasPrefix("error[\(code.rawValue)]: "))
        #expect(failure.json().contains("\"code\":\"\(code.rawValue)\""))
    }

    /// The documentation has a row for each code, with its exit code.
    @Test func everyCodeIsDocumented() throws {
        let path =
            String(#filePath.dropLast("Tests/ControllerTests/ErrorTests.swift".count)) + "Documentation/Errors.md"
        let page = try String(contentsOfFile: path, encoding: .utf8)
        for code in ErrorCode.allCases {
            #expect(page.contains("| \(code.rawValue) | \(code.exitCode) | "), "\(code)")
        }
    }

    /// A code that is added needs a case here.
    @Test func everyCodeHasATest() {
        // What only other users, other machines or damaged programs lead to; the Symbols and Loader tests have them.
        let elsewhere: Set<ErrorCode> = [
            .notPermitted, .otherLibc, .setuidTarget, .noProcess, .fileMissing, .fileUnreadable, .notELF, .damagedFile,
            .moduleNotLoaded, .badMap, .badRelocation, .badCode, .unresolvedSymbol, .badCoreRelocation, .rejected,
        ]
        let tested = Set(Self.cases.map(\.code)).union(Self.others.map(\.1)).union(elsewhere)
        #expect(Set(ErrorCode.allCases).subtracting(tested) == [])
    }
}

/// Files for the cases, and the built ubpfrun.
final class Files: Sendable {
    static let shared: Files? = try? Files()
    let directory: String
    private let program: String

    private struct NotBuilt: Error {}

    private init() throws {
        program = String(#filePath.dropLast("Tests/ControllerTests/ErrorTests.swift".count)) + "dist/bin/ubpfrun"
        guard FileManager.default.isExecutableFile(atPath: program) else { throw NotBuilt() }
        directory = NSTemporaryDirectory() + "/ubpf-errors-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try write("text.o", "hello\n")
        try write("executable-text", "hello\n", mode: 0o755)
        try write("script", "#!/nonexistent/interpreter\n", mode: 0o755)
        try write("main.c", "int main(void) { return 0; }\n")
        tool("gcc", ["-static", "main.c", "-o", "static"])
        tool("gcc", ["main.c", "-o", "narrow"])
        tool("gcc", ["-c", "main.c", "-o", "x86.o"])
        var header = try Data(contentsOf: URL(fileURLWithPath: directory + "/narrow"))
        header[4] = 1
        try header.write(to: URL(fileURLWithPath: directory + "/narrow"))
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: directory + "/narrow")
        try write("plain.c", "int f(void *c) { return 0; }\n")
        tool("clang", ["-target", "bpfeb", "-O2", "-c", "plain.c", "-o", "big-endian.o"])
        let include = "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_tracing.h>\n"
        let license = "\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n"
        try write("own.bpf.c", include + "SEC(\"uprobe\") int on_call(void *c) { return 0; }" + license)
        try write("returns.bpf.c", include + "SEC(\"uretprobe\") int on_return(void *c) { return 0; }" + license)
        try write("nothing.bpf.c", include + "SEC(\"socket\") int on_packet(void *c) { return 0; }" + license)
        try write("bad.bpf.c", "int x(\n")
        try write(
            "helper.bpf.c",
            include + "SEC(\"uprobe/libc:malloc\") int p(void *c) { return ((long (*)(void *, u64))58)(c, 0); }"
                + license
        )
        try write(
            "lpm.bpf.c",
            include
                + """
                struct { __uint(type, 11); __uint(map_flags, 1); __uint(max_entries, 8); __uint(key_size, 8);
                    __uint(value_size, 8); } trie SEC(".maps");
                SEC("uprobe/libc:malloc") int p(void *c) { u64 k = 0; return bpf_map_lookup_elem(&trie, &k) != 0; }
                """ + license
        )
        try write(
            "tracepoint.bpf.c",
            include + "SEC(\"tracepoint/sched/sched_process_exec\") int on_exec(void *c) { return 0; }" + license
        )
        let tools = String(program.dropLast("bin/ubpfrun".count)) + "share/ubpf/tools/memleak.bpf.o"
        let object = try Data(contentsOf: URL(fileURLWithPath: tools))
        try object.prefix(object.count / 2).write(to: URL(fileURLWithPath: directory + "/cut.o"))
        try write(
            "maps.c",
            """
            struct { int (*type)[1]; int (*max_entries)[4]; int *key; long *value; } m __attribute__((section(".maps"), used));
            __attribute__((section("uprobe/libc:malloc"), used)) int f(void *c) {
                int k = 0; return ((void *(*)(void *, void *))1)(&m, &k) != 0; }
            """
        )
        tool("clang", ["-target", "bpf", "-O2", "-c", "maps.c", "-o", "maps-without-btf.o"])
    }

    private func write(_ name: String, _ text: String, mode: Int = 0o644) throws {
        try text.write(toFile: "\(directory)/\(name)", atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: "\(directory)/\(name)")
    }

    private func tool(_ name: String, _ arguments: [String]) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [name] + arguments
        process.currentDirectoryURL = URL(fileURLWithPath: directory)
        process.standardError = FileHandle.nullDevice
        try? process.run()
        process.waitUntilExit()
    }

    func run(_ arguments: [String], _ environment: [String: String] = [:]) throws -> (
        output: String, errors: String, status: Int32
    ) {
        let process = Process()
        let (output, errors) = (Pipe(), Pipe())
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardOutput = output
        process.standardError = errors
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        let message = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (
            String(decoding: text, as: UTF8.self), String(decoding: message, as: UTF8.self), process.terminationStatus
        )
    }
}
