import UBPFTesting

/// Reads one statement of a case file from left to right.
struct Scanner {
    private(set) var rest: Substring

    init(_ text: some StringProtocol) {
        rest = Substring(text)
        skipBlanks()
    }

    var isAtEnd: Bool { rest.isEmpty }

    private mutating func skipBlanks() { rest = rest.drop { $0.isWhitespace } }

    /// Takes `text` if it comes next.
    mutating func take(_ text: String) -> Bool {
        guard rest.hasPrefix(text) else { return false }
        rest = rest.dropFirst(text.count)
        skipBlanks()
        return true
    }

    /// Whether a word comes next.
    func isNext(_ word: String) -> Bool { rest.prefix(while: Self.isNamePart) == word }

    /// Takes a word if it comes next, whole.
    mutating func takeWord(_ word: String) -> Bool {
        guard rest.prefix(while: Self.isNamePart) == word else { return false }
        return take(word)
    }

    mutating func require(_ text: String) throws(SyntaxProblem) {
        guard take(text) else { throw .expected("'\(text)'", at: rest) }
    }

    mutating func requireEnd() throws(SyntaxProblem) {
        guard isAtEnd else { throw .expected("the end of the line", at: rest) }
    }

    /// A name: letters, digits, `_`, `.` and `-`.
    mutating func name(_ what: String) throws(SyntaxProblem) -> String {
        let name = rest.prefix(while: Self.isNamePart)
        guard !name.isEmpty else { throw .expected(what, at: rest) }
        rest = rest.dropFirst(name.count)
        skipBlanks()
        return String(name)
    }

    /// Everything before a character.
    mutating func word(until end: Character, _ what: String) throws(SyntaxProblem) -> String {
        let word = rest.prefix { $0 != end }
        guard !word.isEmpty else { throw .expected(what, at: rest) }
        rest = rest.dropFirst(word.count)
        skipBlanks()
        return String(word)
    }

    private static func isNamePart(_ character: Character) -> Bool {
        character.isLetter || character.isNumber || "_.-$".contains(character)
    }

    /// All that is left, without blanks at the end; a text in quotes loses them.
    mutating func line(_ what: String) throws(SyntaxProblem) -> String {
        if rest.first == "\"" { return try text() }
        var all = rest
        while let last = all.last, last.isWhitespace { all.removeLast() }
        guard !all.isEmpty else { throw .expected(what, at: rest) }
        rest = ""
        return String(all)
    }

    /// A number, decimal or `0x…`, with a sign and `_` between digits.
    mutating func number(_ what: String = "a number") throws(SyntaxProblem) -> Int128 {
        let token = rest.prefix { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "-" && rest.first == "-" }
        guard let number = Self.number(token) else { throw .expected(what, at: rest) }
        rest = rest.dropFirst(token.count)
        skipBlanks()
        return number
    }

    private static func number(_ token: Substring) -> Int128? {
        let isNegative = token.hasPrefix("-")
        let digits = String(token.drop { $0 == "-" }.filter { $0 != "_" })
        guard let first = digits.first, first.isNumber else { return nil }
        let number = digits.hasPrefix("0x") ? Int128(digits.dropFirst(2), radix: 16) : Int128(digits)
        return number.map { isNegative ? -$0 : $0 }
    }

    /// A number that fits 64 bits, signed or not.
    mutating func word(_ what: String = "a number") throws(SyntaxProblem) -> UInt64 {
        let at = rest
        let number = try number(what)
        guard number >= Int128(Int64.min), number <= Int128(UInt64.max) else {
            throw .expected("a 64-bit number", at: at)
        }
        return UInt64(truncatingIfNeeded: number)
    }

    mutating func count(_ what: String = "a number") throws(SyntaxProblem) -> Int {
        let at = rest
        guard let count = Int(exactly: try number(what)), count >= 0 else { throw .expected(what, at: at) }
        return count
    }

    /// A time: a number with `ns`, `us`, `ms` or `s`; nanoseconds without.
    mutating func time() throws(SyntaxProblem) -> UInt64 {
        let digits = rest.prefix { $0.isNumber || $0 == "_" }
        guard let number = UInt64(digits.filter { $0 != "_" }) else { throw .expected("a time like 5ms", at: rest) }
        rest = rest.dropFirst(digits.count)
        let unit = rest.prefix(while: \.isLetter)
        let factors: [Substring: UInt64] = ["": 1, "ns": 1, "us": 1000, "ms": 1_000_000, "s": 1_000_000_000]
        guard let factor = factors[unit] else { throw .expected("ns, us, ms or s", at: rest) }
        rest = rest.dropFirst(unit.count)
        skipBlanks()
        return number &* factor
    }

    /// A text in double quotes, with `\n`, `\t`, `\0`, `\\` and `\"`.
    mutating func text() throws(SyntaxProblem) -> String {
        guard rest.first == "\"" else { throw .expected("a text in quotes", at: rest) }
        var text = ""
        var left = rest.dropFirst()
        while let character = left.popFirst() {
            if character == "\"" {
                rest = left
                skipBlanks()
                return text
            }
            guard character == "\\" else {
                text.append(character)
                continue
            }
            let escapes: [Character: Character] = ["n": "\n", "t": "\t", "0": "\0", "\\": "\\", "\"": "\""]
            guard let next = left.popFirst(), let escaped = escapes[next] else {
                throw SyntaxProblem("an unknown escape in a text", help: "\\n, \\t, \\0, \\\\ and \\\" are known")
            }
            text.append(escaped)
        }
        throw SyntaxProblem("a text without its closing quote")
    }

    /// A value: number, text, `true`, `hex:00ff`, `[a, b]` or `{ field: value }`.
    mutating func value() throws(SyntaxProblem) -> Value {
        switch rest.first {
        case "\"": return .text(try text())
        case "[":
            var list: [Value] = []
            _ = take("[")
            while !take("]") {
                list.append(try value())
                if !take(","), rest.first != "]" { throw .expected("',' or ']'", at: rest) }
            }
            return .list(list)
        case "{":
            var fields: [String: Value] = [:]
            _ = take("{")
            while !take("}") {
                let name = try name("the name of a field")
                try require(":")
                fields[name] = try value()
                if !take(","), rest.first != "}" { throw .expected("',' or '}'", at: rest) }
            }
            return .fields(fields)
        default:
            if takeWord("true") { return 1 }
            if takeWord("false") { return 0 }
            if take("hex:") { return .bytes(try hexadecimal()) }
            return .integer(try number("a value"))
        }
    }

    /// Pairs of hexadecimal digits, blanks between them allowed.
    private mutating func hexadecimal() throws(SyntaxProblem) -> [UInt8] {
        var bytes: [UInt8] = []
        while let first = rest.first, first.isHexDigit {
            guard let byte = UInt8(rest.prefix(2), radix: 16), rest.prefix(2).count == 2 else {
                throw .expected("two hexadecimal digits", at: rest)
            }
            bytes.append(byte)
            rest = rest.dropFirst(2)
            let blanks = rest.prefix { $0.isWhitespace }
            // Another pair, or the next word?
            let next = rest.dropFirst(blanks.count)
            if !blanks.isEmpty,
                next.prefix(while: Self.isNamePart).count % 2 != 0
                    || !next.prefix(while: Self.isNamePart).allSatisfy(\.isHexDigit)
            {
                break
            }
            rest = next
        }
        skipBlanks()
        return bytes
    }
}
