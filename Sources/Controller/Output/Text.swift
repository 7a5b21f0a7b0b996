/// `0x` and lower-case digits.
package func hexadecimal(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }

/// Bytes as pairs of digits with a space between, as `bpftool map dump` prints them.
package func hexadecimal(bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    for byte in bytes {
        if !text.isEmpty { text.append(UInt8(ascii: " ")) }
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
}

/// `text` with `fill` before it, at least `width` characters long.
package func padded(_ text: String, to width: Int, with fill: Character = " ") -> String {
    text.count >= width ? text : String(repeating: fill, count: width - text.count) + text
}

/// `text` with spaces behind it, at least `width` characters long.
package func aligned(_ text: String, to width: Int) -> String {
    text.count >= width ? text : text + String(repeating: " ", count: width - text.count)
}

/// `1 place`, `2 places`.
package func counted(_ number: some BinaryInteger, _ noun: String) -> String {
    "\(number) \(noun)\(number == 1 ? "" : "s")"
}
