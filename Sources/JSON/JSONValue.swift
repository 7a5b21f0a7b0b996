/// A parsed JSON value (RFC 8259).
package enum JSONValue: Equatable, Sendable {
    case null
    case bool(Bool)
    /// A number without fraction and exponent that fits 64 bits.
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSONValue])
    /// Members in their order; of equal keys `subscript` finds the last.
    case object([Member])

    package struct Member: Equatable, Sendable {
        package var key: String
        package var value: JSONValue
    }

    /// A member of an object; nil where there is none, or it is null.
    package subscript(_ key: String) -> JSONValue? {
        guard case .object(let members) = self, let found = members.last(where: { $0.key == key })?.value else {
            return nil
        }
        return found == .null ? nil : found
    }

    package var text: String? {
        if case .string(let value) = self { value } else { nil }
    }

    package var number: Int64? {
        if case .integer(let value) = self { value } else { nil }
    }

    package var flag: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }

    package var elements: [JSONValue]? {
        if case .array(let values) = self { values } else { nil }
    }

    package var isObject: Bool {
        if case .object = self { true } else { false }
    }
}
