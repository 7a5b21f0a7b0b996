/// The bytes that `text` names by two hexadecimal digits each, with any white space around them.
///
/// - Parameter what: what the text is, for the message.
func hexadecimalBytes(_ text: some Collection<UInt8>, _ what: String) throws(ConformanceError) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count / 2)
    var high: UInt8?
    for (offset, character) in text.enumerated() {
        if let digit = digit(character) {
            if let first = high {
                bytes.append(first << 4 | digit)
                high = nil
            } else {
                high = digit
            }
        } else {
            guard isSpace(character), high == nil else { throw .notHexadecimal(what, at: offset) }
        }
    }
    guard high == nil else { throw .notHexadecimal(what, at: text.count - 1) }
    return bytes
}

private func digit(_ character: UInt8) -> UInt8? {
    switch character {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
    default: nil
    }
}

/// `isspace` of the C locale.
private func isSpace(_ character: UInt8) -> Bool { character == 32 || (9...13).contains(character) }
