/// Why bytes are no JSON value.
package struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
    package var problem: String
    /// Offset of the byte where it was seen.
    package var offset: Int

    package var description: String { "no JSON: \(problem) at byte \(offset)" }
}

/// The value in UTF-8 text, as strict as RFC 8259.
package func parseJSON(_ bytes: some Collection<UInt8>) throws(JSONError) -> JSONValue {
    var parser = JSONParser(bytes: Array(bytes))
    let value = try parser.value(depth: 0)
    parser.skipSpace()
    guard parser.isAtEnd else { throw parser.error("text behind the value") }
    return value
}

private struct JSONParser {
    let bytes: [UInt8]
    var at = 0

    /// Deeper values are refused, so that hostile ones do not exhaust the stack.
    static let depthLimit = 128

    var isAtEnd: Bool { at == bytes.count }
    private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

    func error(_ problem: String) -> JSONError { JSONError(problem: problem, offset: at) }

    mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { at += 1 }
    }

    mutating func value(depth: Int) throws(JSONError) -> JSONValue {
        if depth > Self.depthLimit { throw error("values nest deeper than \(Self.depthLimit)") }
        skipSpace()
        switch next {
        case nil: throw error("the text ends where a value should be")
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: return try number()
        }
    }

    private mutating func word(_ word: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
        let letters = Array(word.description.utf8)
        guard bytes.count - at >= letters.count, bytes[at..<at + letters.count].elementsEqual(letters) else {
            throw error("an unknown word")
        }
        at += letters.count
        return value
    }

    private mutating func object(depth: Int) throws(JSONError) -> JSONValue {
        at += 1
        var members: [JSONValue.Member] = []
        skipSpace()
        if take("}") { return .object(members) }
        while true {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw error("a key should be here") }
            let key = try string()
            skipSpace()
            guard take(":") else { throw error("a colon should be here") }
            members.append(JSONValue.Member(key: key, value: try value(depth: depth + 1)))
            skipSpace()
            if take("}") { return .object(members) }
            guard take(",") else { throw error("a comma or the end of the object should be here") }
        }
    }

    private mutating func array(depth: Int) throws(JSONError) -> JSONValue {
        at += 1
        var elements: [JSONValue] = []
        skipSpace()
        if take("]") { return .array(elements) }
        while true {
            elements.append(try value(depth: depth + 1))
            skipSpace()
            if take("]") { return .array(elements) }
            guard take(",") else { throw error("a comma or the end of the array should be here") }
        }
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard next == UInt8(ascii: character) else { return false }
        at += 1
        return true
    }
}

// MARK: Numbers

extension JSONParser {
    private mutating func number() throws(JSONError) -> JSONValue {
        let start = at
        _ = take("-")
        if take("0") {
            if let byte = next, isDigit(byte) { throw error("a number with a leading zero") }
        } else if !digits() {
            throw error("a value should be here")
        }
        var isInteger = true
        if take(".") {
            isInteger = false
            if !digits() { throw error("a fraction without digits") }
        }
        if take("e") || take("E") {
            isInteger = false
            if !take("+") { _ = take("-") }
            if !digits() { throw error("an exponent without digits") }
        }
        let text = String(decoding: bytes[start..<at], as: UTF8.self)
        if isInteger, let value = Int64(text) { return .integer(value) }
        guard let value = Double(text) else { throw error("a number that cannot be read") }
        return .number(value)
    }

    private mutating func digits() -> Bool {
        let start = at
        while let byte = next, isDigit(byte) { at += 1 }
        return at > start
    }

    private func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") < 10 }
}

// MARK: Strings

extension JSONParser {
    private mutating func string() throws(JSONError) -> String {
        at += 1
        let start = at
        while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { at += 1 }
        var result = try text(start..<at)
        while true {
            switch next {
            case nil: throw error("the text ends inside a string")
            case UInt8(ascii: "\""):
                at += 1
                return result
            case UInt8(ascii: "\\"): result.unicodeScalars.append(try escaped())
            case .some(let byte) where byte < 0x20: throw error("a control character inside a string")
            default:
                let start = at
                while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { at += 1 }
                result += try text(start..<at)
            }
        }
    }

    private func text(_ range: Range<Int>) throws(JSONError) -> String {
        guard let text = String(validating: bytes[range], as: UTF8.self) else {
            throw error("a string that is no UTF-8")
        }
        return text
    }

    private mutating func escaped() throws(JSONError) -> Unicode.Scalar {
        at += 1
        let letter = next
        at += 1
        switch letter {
        case UInt8(ascii: "\""): return "\""
        case UInt8(ascii: "\\"): return "\\"
        case UInt8(ascii: "/"): return "/"
        case UInt8(ascii: "b"): return "\u{08}"
        case UInt8(ascii: "f"): return "\u{0c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let unit = try codeUnit()
            if let scalar = Unicode.Scalar(unit) { return scalar }
            // Half of a pair; a lone one names no character.
            guard unit < 0xdc00, take("\\"), take("u") else { throw error("half of a surrogate pair") }
            let low = try codeUnit()
            guard (0xdc00..<0xe000).contains(low),
                let scalar = Unicode.Scalar(0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00))
            else { throw error("half of a surrogate pair") }
            return scalar
        default:
            at = min(at, bytes.count)
            throw error("an unknown escape")
        }
    }

    private mutating func codeUnit() throws(JSONError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw error("an escape that is not \\u and four hexadecimal digits")
            }
            value = value << 4 | UInt32(digit)
            at += 1
        }
        return value
    }
}
