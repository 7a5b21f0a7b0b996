import Glibc
import JSON
import Testing

/// The program itself: records in, lines out.
@Suite("ubpf-corpus")
struct ToolTests {
    /// Next to the tests' own program.
    private static var path: String {
        let own = CommandLine.arguments[0]
        // swift test runs a helper of the toolchain, which loads the bundle of the package's build directory.
        let built = String(#filePath.dropLast("Tests/CorpusTests/ToolTests.swift".count)) + ".build/debug/"
        let beside = own.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/") + "/"
        return access(beside + "ubpf-corpus", X_OK) == 0 ? beside + "ubpf-corpus" : built + "ubpf-corpus"
    }

    private struct Result {
        var status: Int32
        var lines: [String]
        var error: String
    }

    /// Runs it in a folder of its own; `files` are made there.
    private func run(_ arguments: String, _ input: [UInt8], files: [String: [UInt8]] = [:]) throws -> Result {
        var template = Array(((getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp") + "/corpus.XXXXXX").utf8CString)
        try #require(mkdtemp(&template) != nil)
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { system("rm -rf '\(folder)'") }
        for (name, bytes) in files.merging(["in": input], uniquingKeysWith: { first, _ in first }) {
            let file = try #require(fopen("\(folder)/\(name)", "w"))
            fwrite(bytes, 1, bytes.count, file)
            fclose(file)
        }
        let status = system("cd '\(folder)' && '\(Self.path)' \(arguments) <in >out 2>err")
        func text(_ name: String) throws -> String {
            let file = try #require(fopen("\(folder)/\(name)", "r"))
            defer { fclose(file) }
            var bytes = [UInt8](repeating: 0, count: 1 << 22)
            return String(decoding: bytes[..<fread(&bytes, 1, bytes.count, file)], as: UTF8.self)
        }
        let lines = try text("out").split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        #expect(lines.last == "", "the last line has an end")
        return Result(status: status >> 8 & 0xff, lines: lines.dropLast(), error: try text("err"))
    }

    private func run(_ arguments: String, _ records: [String], files: [String: [UInt8]] = [:]) throws -> Result {
        try run(arguments, Array((records.joined(separator: "\n") + "\n").utf8), files: files)
    }

    /// Instructions in hexadecimal: r0 = 7; exit.
    private static let seven = "b700000007000000" + exit
    private static let exit = "9500000000000000"
    /// Jumps over one instruction if r0 is 0.
    private static let skip = "1500010000000000"
    /// Returns the 32 bits behind the first four bytes of the only value of map 0.
    private static let loadValue =
        "b700000000000000" + "630afcff00000000" + "bfa2000000000000" + "07020000fcffffff" + "1811000000000000"
        + "0000000000000000" + "8500000001000000" + skip + "6100040000000000" + exit

    private static func program(_ id: String, _ code: String, _ more: String = "") -> String {
        #"{"id":"\#(id)","prog_type":1,"insns":"\#(code)"\#(more)}"#
    }

    private static let map = #"{"type":2,"key_size":4,"value_size":8,"max_entries":1,"flags":0,"name":"m"}"#

    /// A line with the two figures that differ between runs and versions as they may be: numbers.
    private func masked(_ line: String) -> String {
        var result = line
        for key in ["usec", "processed"] {
            guard let range = result.firstRange(of: "\"\(key)\":") else { continue }
            let digits = result[range.upperBound...].prefix { $0.isNumber }
            if !digits.isEmpty { result.replaceSubrange(digits.startIndex..<digits.endIndex, with: "N") }
        }
        return result
    }

    @Test("The format of lines is fixed")
    func golden() throws {
        let records = [
            Self.program(#"a \"quoted\""#, Self.seven),
            Self.program("slots", "18000000000000000000000000000000b70000000000"),
            Self.program("slot", "18000000000000000000000000000000b700000000000000bf00000001000000" + Self.exit),
            Self.program("kernel", "8520000001000000" + Self.exit), "no record",
        ]
        let expected = [
            #"{"id":"a \"quoted\"","verdict":"accept","kind":null,"insn":null,"message":null,"usec":N,"processed":N,"retval_vm":7,"retval_jit":7}"#,
            #"{"id":"slots","verdict":"reject","kind":"encoding","insn":2,"message":"the code ends inside an 8-byte slot","usec":null,"processed":null,"retval_vm":null,"retval_jit":null}"#,
            #"{"id":"slot","verdict":"reject","kind":"encoding","insn":3,"message":"the immediate field is unused here and must be zero","usec":N,"processed":null,"retval_vm":null,"retval_jit":null}"#,
            nil,
            #"{"id":null,"verdict":"unsupported","kind":"encoding","insn":null,"message":"no JSON: an unknown word at byte 0","usec":null,"processed":null,"retval_vm":null,"retval_jit":null}"#,
        ]
        let result = try run("--run", records)
        #expect(result.status == 0 && result.error == "")
        try #require(result.lines.count == expected.count)
        for (line, text) in zip(result.lines, expected) where text != nil { #expect(masked(line) == text) }
        #expect(result.lines[3].hasPrefix(#"{"id":"kernel","verdict":"unsupported","kind":"unsupported","insn":0,"#))
    }

    private func verdicts(_ result: Result) throws -> [String] {
        try result.lines.map { line in
            let json = try parseJSON(Array(line.utf8))
            let parts = [json["verdict"]?.text, json["kind"]?.text, json["retval_vm"]?.number.map { "\($0)" }]
            return parts.map { $0 ?? "-" }.joined(separator: " ")
        }
    }

    @Test("Faults count where a path leads to them, as in the kernel")
    func faults() throws {
        let zero = "b700000000000000"
        let writesFrame = "b70a000000000000"
        let result = try run(
            "--run",
            [
                Self.program("dead", zero + Self.skip + writesFrame + Self.exit),
                Self.program("live", zero + writesFrame + Self.exit),
                Self.program("offset of exit", zero + "9500100000000000"),
                Self.program("unknown", zero + Self.skip + "ff00000000000000" + Self.exit),
            ]
        )
        #expect(try verdicts(result) == ["accept - 0", "reject encoding -", "accept - 0", "reject encoding -"])
    }

    @Test("Programs, mutants and generated ones")
    func kinds() throws {
        let seeds = Self.program("s", Self.loadValue, #","maps":[\#(Self.map)]"#)
        let data = "00000000" + "2a010000" + String(repeating: "00", count: 56)
        let result = try run(
            "--run --seeds seeds.jsonl",
            [
                seeds,
                #"{"id":"s~0","seed":"s","insns":"\#(Self.loadValue)"}"#,
                #"{"id":"s~1","seed":"s","insns":"\#(Self.seven)"}"#,
                #"{"id":"x~1","seed":"x","insns":"\#(Self.seven)"}"#,
                Self.program("g", Self.loadValue, #","map0_data":"\#(data)""#),
                Self.program(
                    "too many",
                    Self.loadValue.replacing("1811000000", with: "1811000001"),
                    #","maps":[null]"#
                ),
                Self.program("no map", Self.loadValue, #","maps":[null]"#),
            ],
            files: ["seeds.jsonl": Array((seeds + "\nrubbish\n").utf8)]
        )
        #expect(
            try verdicts(result) == [
                "accept - 0", "accept - 0", "accept - 7", "unsupported encoding -", "accept - 298", "reject encoding -",
                "unsupported encoding -",
            ]
        )
    }

    @Test("Types come from a folder; functions must be where they say")
    func types() throws {
        // call +1; exit; r0 = 7; exit
        let code = "8510000001000000" + Self.exit + Self.seven
        let info = #","btf":"types","func_info_rec_size":8,"func_info":""#
        let right = info + "0000000000000000" + "0200000000000000" + "\""
        let wrong = info + "0000000000000000" + "0300000000000000" + "\""
        let header: [UInt8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
        let records = [Self.program("right", code, right), Self.program("wrong", code, wrong)]
        let result = try run("--run --btf .", records, files: ["types.btf": header])
        #expect(try verdicts(result) == ["accept - 7", "reject encoding -"])
        let damaged = try run("", records, files: ["types.btf": [1, 2, 3]])
        #expect(try verdicts(damaged) == ["unsupported encoding -", "unsupported encoding -"])
        let missing = try run("", records + [Self.program("outside", code, right.replacing("types", with: "../types"))])
        #expect(try verdicts(missing) == Array(repeating: "unsupported encoding -", count: 3))
    }

    @Test("What depends on addresses or on stack that nobody wrote is no result")
    func undefined() throws {
        let address = "bfa0000000000000" + Self.exit
        let stack = "79a0f8ff00000000" + Self.exit
        let result = try run("--run", [Self.program("address", address), Self.program("stack", stack)])
        for line in result.lines where line.contains(#""verdict":"accept""#) {
            #expect(line.contains(#""kind":"undefined""#) && line.contains(#""retval_vm":null,"retval_jit":null"#))
        }
        #expect(result.lines.first?.contains(#""verdict":"accept""#) == true)
    }

    @Test("Contexts are those of the kernel's test runs, but for pointers")
    func contexts() throws {
        func load(_ offset: String) -> String { "6110\(offset)00000000" + Self.exit }
        func program(_ id: String, _ code: String, type: Int = 1, packet: String) -> String {
            #"{"id":"\#(id)","prog_type":\#(type),"insns":"\#(code)","runs":[{"data":"\#(packet)"}]}"#
        }
        let rest = String(repeating: "00", count: 6)
        let multicast = "010000000000" + rest + "86dd" + String(repeating: "00", count: 40)
        let novell = "ffffffffffff" + rest + "0020" + "ffff"
        // Seen to be the kernel's values: 6.18, BPF_PROG_TEST_RUN.
        let result = try run(
            "--run",
            [
                program("length behind the header", load("0000"), packet: multicast),
                program("length of it all", load("0000"), type: 3, packet: multicast),
                program("multicast", load("0400"), packet: multicast),
                program("broadcast, which the loopback device has not", load("0400"), packet: novell),
                program("protocol", load("1000"), packet: multicast),
                program("frame of Novell", load("1000"), packet: novell),
                program("interface", load("2800"), packet: novell),
                program("cb", "7a01300009000000" + load("3000"), packet: novell),
                program("data", load("4c00"), type: 3, packet: novell),
                program("too short", load("0000"), packet: "00"),
                program("registers are not written", "7a01000000000000" + Self.seven, type: 2, packet: ""),
                program("registers are zero", load("a000"), type: 2, packet: ""),
            ]
        )
        let values = try verdicts(result).map { $0.split(separator: " ").last.map(String.init) ?? "" }
        #expect(values == ["40", "54", "2", "2", "56710", "256", "1", "9", "-", "-", "-", "0"])
    }

    @Test("Damaged records never stop it")
    func damaged() throws {
        let record = Array(Self.program("s", Self.loadValue, #","maps":[\#(Self.map)],"prog_flags":2"#).utf8)
        var random = SeededGenerator(state: 11)
        var input: [UInt8] = []
        let count = 3000
        for _ in 0..<count {
            var line = record
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let byte = UInt8.random(in: 0...255, using: &random)
                line[Int.random(in: 0..<line.count, using: &random)] = byte == 10 ? 11 : byte
            }
            input += line + [10]
        }
        // The last line needs no end, and empty ones are none.
        input += Array("\n  \n".utf8) + record
        let result = try run("--run", input)
        #expect(result.status == 0 && result.error == "")
        #expect(result.lines.count == count + 1)
        #expect(result.lines.last?.hasPrefix(#"{"id":"s","verdict":"accept""#) == true)
        #expect(!result.lines.contains { $0.contains(#""kind":"crash""#) || $0.contains(#""kind":"timeout""#) })
    }

    @Test(
        "Wrong command lines",
        arguments: [("--fast", 64), ("--seeds", 64), ("x.jsonl", 64), ("--seeds missing.jsonl", 66)]
    )
    func usage(_ arguments: String, _ status: Int) throws {
        let result = try run(arguments, [""])
        #expect(result.status == Int32(status) && result.lines == [])
        #expect(result.error.hasPrefix("ubpf-corpus: "))
    }
}
