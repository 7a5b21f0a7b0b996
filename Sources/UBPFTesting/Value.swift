/// A value of a map, a record or a variable, as its type in BTF describes it.
///
///     try vm.map("allocs")[0x1000]?["size"] == 64
///     try vm.map("config").set(["pid": 7, "name": "leaky"], at: 0)
public enum Value: Hashable, Sendable {
    /// An integer, an enumerator or a pointer.
    case integer(Int128)
    /// A floating point number.
    case float(Double)
    /// A `char` array, up to its NUL.
    case text(String)
    /// Bytes without a type, or an array of `unsigned char`.
    case bytes([UInt8])
    /// An array.
    case list([Value])
    /// A struct or union; anonymous members are merged into it.
    case fields([String: Value])

    /// An integer.
    public init(_ number: some BinaryInteger) { self = .integer(Int128(truncatingIfNeeded: number)) }

    /// A field of a struct; nil where there is none.
    public subscript(_ field: String) -> Value? {
        if case .fields(let fields) = self { fields[field] } else { nil }
    }

    /// An element of an array; nil where there is none.
    public subscript(_ index: Int) -> Value? {
        switch self {
        case .list(let list): list.indices.contains(index) ? list[index] : nil
        case .bytes(let bytes): bytes.indices.contains(index) ? .integer(Int128(bytes[index])) : nil
        case .integer, .float, .text, .fields: nil
        }
    }

    /// The number, if it is an integer that fits.
    public func `as`<Number: BinaryInteger>(_: Number.Type) -> Number? {
        if case .integer(let number) = self { Number(exactly: number) } else { nil }
    }

    /// Whether this is what is expected, which may leave fields of structs out and give texts for bytes.
    public func matches(_ expected: Value) -> Bool {
        switch (self, expected) {
        case (.fields(let found), .fields(let wanted)):
            wanted.allSatisfy { found[$0.key]?.matches($0.value) ?? false }
        case (.list(let found), .list(let wanted)):
            found.count == wanted.count && zip(found, wanted).allSatisfy { $0.matches($1) }
        case (.bytes(let found), .text(let wanted)):
            Array(found.reversed().drop { $0 == 0 }.reversed()) == Array(wanted.utf8)
        case (.bytes(let found), .list(let wanted)):
            found.map { Value.integer(Int128($0)) } == wanted
        case (.text(let found), .bytes(let wanted)):
            Array(found.utf8) == Array(wanted.reversed().drop { $0 == 0 }.reversed())
        case (.integer(let found), .integer(let wanted)):
            // -1 and 0xffff… are the same 64 bits.
            found == wanted
                || (found < 0 || wanted < 0) && UInt64(truncatingIfNeeded: found) == UInt64(truncatingIfNeeded: wanted)
        default: self == expected
        }
    }
}

extension Value: ExpressibleByIntegerLiteral, ExpressibleByStringLiteral, ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral, ExpressibleByFloatLiteral
{
    /// A number.
    public init(integerLiteral value: Int128) { self = .integer(value) }
    /// A text.
    public init(stringLiteral value: String) { self = .text(value) }
    /// A number with a fraction.
    public init(floatLiteral value: Double) { self = .float(value) }
    /// A list.
    public init(arrayLiteral elements: Value...) { self = .list(elements) }
    /// Fields of a struct.
    public init(dictionaryLiteral elements: (String, Value)...) {
        self = .fields(Dictionary(elements, uniquingKeysWith: { _, last in last }))
    }
}

extension Value: CustomStringConvertible {
    /// As it is written in case files.
    public var description: String {
        switch self {
        case .integer(let number):
            number.magnitude >= 1 << 32 && number > 0 ? "0x" + String(number, radix: 16) : "\(number)"
        case .float(let number): "\(number)"
        case .text(let text): "\"\(text)\""
        case .bytes(let bytes): "hex:" + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        case .list(let list): "[" + list.map(\.description).joined(separator: ", ") + "]"
        case .fields(let fields):
            "{" + fields.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: ", ") + "}"
        }
    }
}
