import UBPFTesting

/// Reads case files; see Documentation/Testing.md for the format.
package struct Parser {
    private var file: CaseFile
    private var errors: [CaseError] = []
    private var common: [Step] = []
    private var settings = Settings()
    private var names: Set<String> = []

    /// The file, or all that is wrong with it.
    package static func parse(_ text: String, path: String) -> Result<CaseFile, CaseErrors> {
        var parser = Parser(file: CaseFile(path: path))
        parser.readLines(text)
        if parser.file.object.isEmpty, parser.errors.isEmpty {
            parser.errors.append(CaseError(path, 0, "no object", help: "begin with 'object PATH.bpf.c'"))
        }
        if parser.file.cases.isEmpty, parser.errors.isEmpty {
            parser.errors.append(CaseError(path, 0, "no case", help: "begin one with 'case NAME'"))
        }
        return parser.errors.isEmpty ? .success(parser.file) : .failure(CaseErrors(all: parser.errors))
    }

    private init(file: CaseFile) { self.file = file }

    private mutating func readLines(_ text: String) {
        var pending = ""
        var start = 0
        for (index, raw) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let line = Self.withoutComment(raw)
            if pending.isEmpty {
                start = index + 1
                pending = line
            } else {
                pending += " " + line
            }
            // A bracket that is open goes on in the next line.
            if Self.depth(pending) > 0 { continue }
            let statement = pending
            pending = ""
            if statement.allSatisfy(\.isWhitespace) { continue }
            do throws(SyntaxProblem) { try read(statement, line: start) } catch {
                errors.append(CaseError(file.path, start, error.what, help: error.help))
            }
        }
        if !pending.isEmpty { errors.append(CaseError(file.path, start, "a bracket is not closed")) }
    }

    /// Everything before a `#` that is not in quotes.
    private static func withoutComment(_ line: Substring) -> String {
        var isQuoted = false
        var isEscaped = false
        for index in line.indices {
            let character = line[index]
            if isEscaped {
                isEscaped = false
            } else if character == "\\" {
                isEscaped = isQuoted
            } else if character == "\"" {
                isQuoted.toggle()
            } else if character == "#", !isQuoted {
                return String(line[..<index])
            }
        }
        return String(line)
    }

    private static func depth(_ text: String) -> Int {
        var depth = 0
        var isQuoted = false
        var last: Character = " "
        for character in text {
            if character == "\"", last != "\\" { isQuoted.toggle() }
            if !isQuoted, "[{(".contains(character) { depth += 1 }
            if !isQuoted, "]})".contains(character) { depth -= 1 }
            last = character
        }
        return depth
    }

    // MARK: Statements

    private static let statements = [
        "object", "set", "resize", "section", "cpus", "types", "no-verify", "case", "comm", "advance", "stack",
        "kernel-stack", "control-groups",
        "memory",
        "map", "var", "fail", "mock", "run", "race", "returns", "traps", "event", "printk", "calls", "packet", "ctx",
        "stored",
        "verifies",
        "rejects",
    ]

    private mutating func read(_ statement: String, line: Int) throws(SyntaxProblem) {
        var scanner = Scanner(statement)
        let word = try scanner.name("a statement")
        switch word {
        case "object": try readObject(&scanner, line)
        case "case": try readCase(&scanner, line)
        case "set", "resize", "section", "cpus", "types", "no-verify":
            try readSetting(word, &scanner)
            try scanner.requireEnd()
        default:
            let action = try Self.action(word, &scanner)
            try scanner.requireEnd()
            let text = statement.split(whereSeparator: \.isWhitespace).joined(separator: " ")
            let step = Step(line: line, text: text, action: action)
            if file.cases.isEmpty { common.append(step) } else { file.cases[file.cases.count - 1].steps.append(step) }
        }
    }

    private mutating func readObject(_ scanner: inout Scanner, _ line: Int) throws(SyntaxProblem) {
        guard file.object.isEmpty else { throw SyntaxProblem("a second object", help: "a file tests one object") }
        file.object = try scanner.line("a path")
        file.objectLine = line
    }

    private mutating func readCase(_ scanner: inout Scanner, _ line: Int) throws(SyntaxProblem) {
        let name = try scanner.line("the case's name")
        guard names.insert(name).inserted else { throw SyntaxProblem("a second case '\(name)'") }
        file.cases.append(Case(name: name, line: line, settings: settings, steps: common))
    }

    private mutating func readSetting(_ word: String, _ scanner: inout Scanner) throws(SyntaxProblem) {
        var own = file.cases.last?.settings ?? settings
        switch word {
        case "set":
            let name = try scanner.name("a variable")
            try scanner.require("=")
            own.variables[name] = try scanner.value()
        case "resize":
            let map = try scanner.name("a map")
            while !scanner.isAtEnd {
                let part = try scanner.name("max_entries or value_size")
                try scanner.require("=")
                switch part {
                case "max_entries": own.entries[map] = try scanner.count()
                case "value_size": own.valueSizes[map] = try scanner.count()
                default: throw .unknown("size", part, ["max_entries", "value_size"])
                }
            }
        case "section":
            let program = try scanner.name("a program")
            try scanner.require("=")
            own.sections[program] = try scanner.line("a section's name, like xdp")
        case "cpus": own.cpus = try scanner.count("a number of CPUs")
        case "types": own.types = try scanner.line("own, kernel, or an object")
        default: own.verifies = false
        }
        if file.cases.isEmpty { settings = own } else { file.cases[file.cases.count - 1].settings = own }
    }

    private static func action(_ word: String, _ scanner: inout Scanner) throws(SyntaxProblem) -> Action {
        if let field = Action.Field(rawValue: word) {
            switch field {
            case .clock, .clockStep: return .number(field, try scanner.time())
            case .pid, .tid, .uid, .gid, .cpu, .random, .cookie: return .number(field, try scanner.word())
            }
        }
        switch word {
        case "comm": return .comm(try scanner.text())
        case "advance": return .advance(try scanner.time())
        case "control-groups": return .controlGroups(try addresses(&scanner))
        case "stack", "kernel-stack": return .stack(try addresses(&scanner), isKernel: word != "stack")
        case "memory": return try memory(&scanner)
        case "map": return try map(&scanner)
        case "var": return try variable(&scanner)
        case "fail": return try fail(&scanner)
        case "mock": return try mock(&scanner)
        case "run": return try run(&scanner)
        case "race": return try race(&scanner)
        case "returns": return .returns(try scanner.value())
        case "traps":
            let kind = scanner.isAtEnd || scanner.rest.hasPrefix("line ") ? nil : try scanner.name("a kind of trap")
            return .traps(kind, line: try line(&scanner))
        case "event": return try event(&scanner)
        case "printk":
            try scanner.require("==")
            return .printk(scanner.takeWord("none") ? nil : try scanner.text())
        case "calls":
            let helper = try scanner.name("a helper")
            try scanner.require("==")
            return .calls(helper, try scanner.count())
        case "packet":
            try scanner.require("==")
            return .packet(try scanner.value())
        case "ctx":
            try scanner.require("==")
            return .contextIs(try scanner.value())
        case "stored":
            let map = try scanner.name("a map of stacks")
            try scanner.require("[")
            let id = Int64(truncatingIfNeeded: try scanner.number())
            try scanner.require("]")
            try scanner.require("==")
            return .storedStack(map, id, try list(&scanner))
        case "verifies": return .verifies(try scanner.name("a program"))
        case "rejects":
            let program = try scanner.name("a program")
            let kind = scanner.isAtEnd || scanner.rest.hasPrefix("line ") ? nil : try scanner.name("a rule")
            return .rejects(program, kind, line: try line(&scanner))
        default: throw .unknown("statement", word, statements + Action.Field.allCases.map(\.rawValue))
        }
    }

    private static func line(_ scanner: inout Scanner) throws(SyntaxProblem) -> Int? {
        scanner.takeWord("line") ? try scanner.count("a line") : nil
    }

    private static func addresses(_ scanner: inout Scanner) throws(SyntaxProblem) -> [UInt64] {
        if scanner.rest.first == "[" { return try list(&scanner) }
        var addresses: [UInt64] = []
        while !scanner.isAtEnd { addresses.append(try scanner.word("an address")) }
        return addresses
    }

    private static func list(_ scanner: inout Scanner) throws(SyntaxProblem) -> [UInt64] {
        try scanner.require("[")
        var list: [UInt64] = []
        while !scanner.take("]") {
            list.append(try scanner.word())
            if !scanner.take(","), scanner.rest.first != "]" { throw .expected("',' or ']'", at: scanner.rest) }
        }
        return list
    }

    private static func memory(_ scanner: inout Scanner) throws(SyntaxProblem) -> Action {
        let address = try scanner.word("an address")
        try scanner.require("=")
        return .memory(address, try contents(&scanner))
    }

    private static func contents(_ scanner: inout Scanner) throws(SyntaxProblem) -> Action.MemoryValue {
        if scanner.takeWord("u64") { return .words(try list(&scanner)) }
        if scanner.takeWord("struct") {
            let type = try scanner.name("a struct")
            return .typed(type, try scanner.value())
        }
        let at = scanner.rest
        switch try scanner.value() {
        case .text(let text): return .text(text)
        case .bytes(let bytes): return .bytes(bytes)
        case .integer, .float, .list, .fields: throw .expected("a text, hex:…, u64 […] or struct NAME {…}", at: at)
        }
    }

    private static func map(_ scanner: inout Scanner) throws(SyntaxProblem) -> Action {
        let map = try scanner.name("a map")
        if scanner.takeWord("count") {
            try scanner.require("==")
            return .mapCount(map, try scanner.count())
        }
        try scanner.require("[")
        let key = try scanner.value()
        try scanner.require("]")
        if scanner.take("==") { return .mapIs(map, key: key, try optional(&scanner), negated: false) }
        if scanner.take("!=") { return .mapIs(map, key: key, try optional(&scanner), negated: true) }
        try scanner.require("=")
        return .mapSet(map, key: key, try optional(&scanner))
    }

    private static func optional(_ scanner: inout Scanner) throws(SyntaxProblem) -> Value? {
        scanner.takeWord("none") ? nil : try scanner.value()
    }

    private static func variable(_ scanner: inout Scanner) throws(SyntaxProblem) -> Action {
        let name = try scanner.name("a variable")
        if scanner.take("==") { return .variableIs(name, try scanner.value()) }
        try scanner.require("=")
        return .variableSet(name, try scanner.value())
    }

    private static func fail(_ scanner: inout Scanner) throws(SyntaxProblem) -> Action {
        let helper = try scanner.name("a helper")
        var map: String?
        var call: Int?
        if scanner.takeWord("map") { map = try scanner.name("a map") }
        if scanner.takeWord("call") { call = try scanner.count("which call") }
        try scanner.require("with")
        let name = try scanner.name("an error like ENOMEM")
        guard let errno = Errno(name: name) else { throw SyntaxProblem("unknown error '\(name)'") }
        return .fail(helper, map: map, call: call, errno)
    }

    private static func mock(_ scanner: inout Scanner) throws(SyntaxProblem) -> Action {
        let helper = try scanner.name("a helper")
        try scanner.require("returns")
        let values = scanner.rest.first == "[" ? try list(&scanner) : [try scanner.word()]
        var written: Action.Written?
        if scanner.takeWord("writes") {
            let argument = try scanner.count("the number of an argument")
            guard (1...5).contains(argument) else { throw SyntaxProblem("a helper has arguments 1 to 5") }
            try scanner.require("=")
            written = Action.Written(argument: argument, value: try contents(&scanner))
        }
        return .mock(helper, values.map { Int64(bitPattern: $0) }, written)
    }

    private static func event(_ scanner: inout Scanner) throws(SyntaxProblem) -> Action {
        let map = try scanner.name("a ring buffer or perf event array")
        let type = scanner.takeWord("as") ? try scanner.word(until: " ", "a struct, or HEADER:STRUCT") : nil
        try scanner.require("==")
        return .event(map, type: type, try optional(&scanner))
    }
}

/// All that is wrong with a case file.
package struct CaseErrors: Error {
    package let all: [CaseError]
}
