import Testing

@testable import Cases

/// Case files: what they mean, and what is said about mistakes.
@Suite struct ParserTests {
    private func errors(_ text: String) -> [String] {
        switch Parser.parse(text, path: "x.bpftest") {
        case .success: []
        case .failure(let errors): errors.all.map { "\($0)" + ($0.help.map { " (\($0))" } ?? "") }
        }
    }

    @Test func commonLinesBelongToEachCase() throws {
        let text = """
            # a comment
            object a # b.bpf.o
            set limit = 3
            pid 7   # another

            case "first # one"
              set limit = 4
              run p(1, 0x2) sp=5
              map m[{ a: 1, b: "x#y" }] == {
                 c: [1, -2],
                 d: hex:00 ff,
              }
            case second
              returns 0
            """
        let file = try Parser.parse(text, path: "x").get()
        #expect(file.object == "a")
        #expect(file.cases.map(\.name) == ["first # one", "second"])
        #expect(file.cases.map(\.line) == [6, 13])
        #expect(file.cases.map { $0.steps.map(\.line) } == [[4, 8, 9], [4, 14]])
        #expect(file.cases[0].settings.variables == ["limit": 4])
        #expect(file.cases[1].settings.variables == ["limit": 3])
        guard case .mapIs("m", let key, let value?, negated: false) = file.cases[0].steps[2].action else {
            Issue.record("another action")
            return
        }
        #expect(key == ["a": 1, "b": "x#y"])
        #expect(value == ["c": [1, -2], "d": .bytes([0, 0xff])])
    }

    static let mistakes: [(String, String)] = [
        ("", "x.bpftest: no object (begin with 'object PATH.bpf.c')"),
        ("object a.o", "x.bpftest: no case (begin one with 'case NAME')"),
        ("object", "x.bpftest:1: expected a path, found the end of the line"),
        ("object a\nobject b", "x.bpftest:2: a second object (a file tests one object)"),
        ("case a\ncase a", "x.bpftest:2: a second case 'a'"),
        ("rnu p", "x.bpftest:1: unknown statement 'rnu' (did you mean 'run'?)"),
        ("run", "x.bpftest:1: expected a program, found the end of the line"),
        ("run p(1", "x.bpftest:1: a bracket is not closed"),
        ("run p(1;2)", "x.bpftest:1: expected ',' or ')', found ';2)'"),
        ("run p sq=1", "x.bpftest:1: unknown option 'sq' (did you mean 'sp'?)"),
        ("run p packet=3", "x.bpftest:1: expected hex:…, a text or a list of bytes, found '3'"),
        ("\n\nmap m[1] = ", "x.bpftest:3: expected a value, found the end of the line"),
        ("map m == 1", "x.bpftest:1: expected '[', found '== 1'"),
        ("map m[1] == 1 2", "x.bpftest:1: expected the end of the line, found '2'"),
        ("map m[1] == 0xzz", "x.bpftest:1: expected a value, found '0xzz'"),
        (
            "map m[99999999999999999999999999999999999999999] == 1",
            "x.bpftest:1: expected a value, found '99999999999999999999'"
        ),
        ("comm \"abc", "x.bpftest:1: a text without its closing quote"),
        ("comm \"\\q\"", "x.bpftest:1: an unknown escape in a text (\\n, \\t, \\0, \\\\ and \\\" are known)"),
        ("clock 5h", "x.bpftest:1: expected ns, us, ms or s, found 'h'"),
        ("pid 0x1_0000_0000_0000_0000", "x.bpftest:1: expected a 64-bit number, found '0x1_0000_0000_0000_0'"),
        ("fail x with EWHAT", "x.bpftest:1: unknown error 'EWHAT'"),
        ("fail x call -1 with ENOMEM", "x.bpftest:1: expected which call, found '-1 with ENOMEM'"),
        ("memory 1 = 2", "x.bpftest:1: expected a text, hex:…, u64 […] or struct NAME {…}, found '2'"),
        ("comm hex:0", "x.bpftest:1: expected a text in quotes, found 'hex:0'"),
        ("returns hex:0", "x.bpftest:1: expected two hexadecimal digits, found '0'"),
        ("resize m size=3", "x.bpftest:1: unknown size 'size' (there are: max_entries, value_size)"),
    ]

    @Test(arguments: mistakes.indices)
    func mistakesAreToldWithTheirPlace(_ index: Int) {
        let (text, message) = Self.mistakes[index]
        let found = errors(text)
        #expect(found.first == message)
    }

    @Test func allMistakesAreTold() {
        #expect(errors("object a\ncase b\nrnu c\nclock x\nreturns 1").count == 2)
    }

    /// Any bytes give a file or errors.
    @Test func noTextHarms() {
        var random = SystemSeed(state: 7)
        let pieces = Self.mistakes.map(\.0) + ["{", "[", "\"", "#", "\n", " ", "hex:", "0x", "-", "==", "é", "\u{0}"]
        for _ in 0..<3000 {
            let text = (0..<Int.random(in: 1...8, using: &random)).map { _ in
                let piece = pieces.randomElement(using: &random) ?? ""
                return String(piece.prefix(Int.random(in: 0...piece.count, using: &random)))
            }.joined()
            _ = errors(text)
        }
    }
}

private struct SystemSeed: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ state >> 29
    }
}
