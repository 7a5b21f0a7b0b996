import Foundation
import Testing

@testable import Controller
@testable import Verifier

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
        Case("memleak -i 0 -- true", .badOption, "'0.0' is no value for --interval"),
        Case("memleak -n 0 -- true", .badOption, "'0' is no value for --count"),
        Case("memleak -d 0 -- true", .badOption, "'0.0' is no value for --duration"),
        Case("memleak --top 0 -- true", .badOption, "'0' is no value for --top"),
        Case("memleak --ready-fd 777 -- true", .badOption, "the number of an open descriptor"),
        Case("memleak --set nothing=1 -- true", .badOption, "the object has no variable 'nothing'"),
        Case("memleak -p 1 -- true", .usage, "either -p PID or -- COMMAND"),
        Case("memleak -p x", .badOption, "number of a process"),
        Case("map list -p x", .badOption, "the number of a process"),
        Case("map dump m -p 4194305", .noProcess, "there is no process 4194305"),
        Case("map lookup m 1 -f xml", .badOption, "text or json"),
        Case("map update m 1 2 3 -p 4194305", .usage, "map update takes MAP KEY VALUE"),
        Case("map update m 1 2 --exist --noexist", .usage, "either --exist or --noexist"),
        Case("memleak -p 2147483000", .noProcess, "no process 2147483000"),
        Case("memleak -- true", .badEnvironment, "UBPF_FORMAT='xml'", ["UBPF_FORMAT": "xml"]),
        Case("memleak -- no-such-command", .commandNotFound, "it is in no directory of PATH"),
        Case("memleak -- @/missing", .commandNotFound, "there is no such file"),
        Case("memleak -- @/script", .commandNotFound, "cannot run the script"),
        Case("memleak --backend user -- @/static", .staticTarget, "statically linked"),
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
        Case("@/own.bpf.c --strict --attach on_call=libfoo:malloc -- true", .symbolNotFound, "is not loaded"),
        Case("@/own.bpf.c --attach on_call=libc:malloc+1 -- true", .cannotPatch, "no instruction starts there"),
        Case("@/returns.bpf.c --attach on_return=libc:vfork -- true", .cannotPatch, "it returns twice"),
        Case("@/own.bpf.c -- true", .noTarget, "without a target"),
        Case("@/own.bpf.c --attach on_cal=libc:malloc -- true", .unknownProgram, "did you mean 'on_call'?"),
        Case("@/nothing.bpf.c -- true", .nothingToAttach, "no program that can be attached"),
        Case("memlaek -- true", .objectNotFound, "did you mean 'memleak'?"),
        Case("@/missing.o -- true", .objectNotFound, "no file and no tool"),
        Case("@/maps-without-btf.o -- true", .noBTF, "has no BTF"),
        Case("memleak --btf @/missing.btf -- true", .objectNotFound, "missing.btf"),
        Case("memleak --btf @/text.o -- true", .badObject, "the type information is malformed"),
        Case("memleak --btf @/x86.o -- true", .noBTF, "x86.o has no BTF"),
        Case("@/text.o -- true", .notBPF, "it is a text file"),
        Case("@/x86.o -- true", .notBPF, "is an x86-64 object, not BPF"),
        Case("@/big-endian.o -- true", .notBPF, "big-endian"),
        Case("@/cut.o -- true", .badObject, "the section header table"),
        Case("@/helper.bpf.c -- true", .unsupportedHelper, "bpf_override_return"),
        Case("@/bad.bpf.c -- true", .compilationFailed, "does not compile"),
        Case("@/own.bpf.c -- true", .compilerMissing, "no clang", ["UBPF_CLANG": "/nonexistent/clang"]),
        Case("@/inner.bpf.c --backend user -- true", .unsupportedMap, "DEVMAP"),
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
        (.agentFailed("", errno: 12, site: "libc:malloc"), .agentFailed), (.threadsRun("a", why: "b"), .agentFailed),
        (.socketFailed("poll", errno: 4), .socketFailed), (.mapFull("allocs", maxEntries: 10), .mapFull),
        (.stacksMissed(3, bytes: 40), .stacksMissed), (.recordsLost("events", 2), .recordsLost),
        (.programTrapped("p", count: 1, kind: "badRead", instruction: 3), .programTrapped),
        (.noSession(7), .noSession), (.noMap("m", known: ["n"]), .noSuchMap),
        (.mapRefused("update", "m", status: -2), .mapRefused),
        (.sessionOverMemory(3 << 30, memory: 1 << 30), .memoryLimit),
        (.hitsMissed(9), .hitsMissed), (.unverified([]), .unverified),
        (.kernelSkipped(["on_exec"]), .kernelProgram), (.noKprobes("p", function: "f", substitute: nil), .noKprobes),
        (.noTrampolines("p", function: "f", substitute: "a/b"), .noTrampolines),
        (.kernelRefused("p", reason: "R1 !read_ok", place: nil, source: nil), .kernelRefused),
        (.noTracepoint("p", name: "a/b", near: "a/c"), .noTracepoint),
        (.sharedMap("p", map: "m", type: "hash"), .sharedMap),
        (.kernelAttachFailed("p", section: "s", "why"), .kernelAttachFailed),
        (.kernelMapFailed("m", "why"), .kernelMapFailed), (.noTraceFiles("what", "why"), .noTraceFiles),
        (.noKernelHook("p", section: "s", why: "why"), .noKernelHook), (.untypedRecords("events"), .untypedRecords),
        (.noKernelType("p", name: "f", hasBTF: true), .noKernelType),
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
        for rule in Rule.allCases {
            #expect(page.contains("| \(rule.code) | 65 | \(rule.text.headline) | "), "\(rule)")
        }
    }

    /// Every code, of whatever kind, has a long story, and a wrong one a suggestion.
    @Test func everyCodeIsExplained() throws {
        for code in ErrorCode.allCases.map(\.rawValue) + Rule.allCases.map(\.code) {
            #expect(try Explanation.text(of: code.lowercased()).hasPrefix(code + ": "))
        }
        let story = try Explanation.text(of: Rule.nullPointer.code)
        for part in ["Wrong:", "Right:", "if (!v) return 0;", "invalid mem access 'map_value_or_null'"] {
            #expect(story.contains(part))
        }
        let failure = #expect(throws: Failure.self) { try Explanation.text(of: "V0120") }
        #expect(failure?.code == .badOption)
        #expect(failure?.help == "did you mean 'V010'?" || failure?.help?.hasPrefix("did you mean 'V01") == true)
    }

    /// A code that is added needs a case here.
    @Test func everyCodeHasATest() {
        // What only other users, other machines or damaged programs lead to; the Symbols, Inject, Loader and Cases tests have them.
        let elsewhere: Set<ErrorCode> = [
            .notPermitted, .otherLibc, .setuidTarget, .noProcess, .fileMissing, .fileUnreadable, .notELF, .damagedFile,
            .moduleNotLoaded, .badMap, .badRelocation, .badCode, .unresolvedSymbol, .badCoreRelocation, .rejected,
            .targetBusy, .sandboxed, .injectionFailed, .targetEnded, .badCases, .casesFailed, .coverageTooLow,
            .libraryMissed,
        ]
        let tested = Set(Self.cases.map(\.code)).union(Self.others.map(\.1)).union(elsewhere)
        #expect(Set(ErrorCode.allCases).subtracting(tested) == [])
    }
}
