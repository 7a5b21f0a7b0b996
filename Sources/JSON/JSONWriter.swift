/// Writes one JSON value into text; keys keep the order in which they are written (RFC 8259).
package struct JSONWriter {
    package private(set) var text = ""
    private var needsComma = false

    package init() {}

    /// A whole object; `body` writes its members.
    package mutating func object(_ body: (inout JSONWriter) -> Void) {
        container("{", "}", body)
    }

    /// A whole array; `body` writes its elements.
    package mutating func array(_ body: (inout JSONWriter) -> Void) {
        container("[", "]", body)
    }

    package mutating func key(_ name: String) {
        separate()
        Self.appendQuoted(name, to: &text)
        text += ":"
        needsComma = false
    }

    package mutating func string(_ value: String) {
        separate()
        Self.appendQuoted(value, to: &text)
    }

    package mutating func number(_ value: some BinaryInteger) {
        separate()
        text += String(value)
    }

    package mutating func bool(_ value: Bool) {
        separate()
        text += value ? "true" : "false"
    }

    package mutating func null() {
        separate()
        text += "null"
    }

    package mutating func member(_ name: String, _ value: String) {
        key(name)
        string(value)
    }

    package mutating func member(_ name: String, _ value: some BinaryInteger) {
        key(name)
        number(value)
    }

    package mutating func member(_ name: String, _ value: Bool) {
        key(name)
        bool(value)
    }

    /// An address as text: JSON numbers lose bits above 2^53.
    package mutating func member(_ name: String, address: UInt64) {
        key(name)
        string("0x" + String(address, radix: 16))
    }

    private mutating func container(_ open: String, _ close: String, _ body: (inout JSONWriter) -> Void) {
        separate()
        text += open
        needsComma = false
        body(&self)
        text += close
        needsComma = true
    }

    private mutating func separate() {
        if needsComma { text += "," }
        needsComma = true
    }

    private static func appendQuoted(_ value: String, to text: inout String) {
        text += "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case "\u{08}": text += "\\b"
            case "\u{0c}": text += "\\f"
            // U+2028 and U+2029 end a line in JavaScript, U+007F in some terminals; RFC 8259 allows escaping any.
            case "\u{00}"..."\u{1f}", "\u{7f}"..."\u{9f}", "\u{2028}", "\u{2029}":
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}
