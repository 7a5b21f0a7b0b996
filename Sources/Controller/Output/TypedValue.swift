import JSON
package import Loader

/// Bytes as their type in BTF shows them.
package indirect enum TypedValue: Equatable, Sendable {
    case signed(Int64)
    case unsigned(UInt64)
    case flag(Bool)
    case float(Double)
    case address(UInt64)
    /// Characters, or an enumerator's name.
    case text(String)
    case list([TypedValue])
    case record([Field])
    /// Nanoseconds of CLOCK_MONOTONIC.
    case time(UInt64)
    case stack([StackLine])

    package struct Field: Equatable, Sendable {
        package var name: String
        package var value: TypedValue
    }

    /// Reads a value; nil where the bytes are fewer than the type's, or BTF does not say what they are.
    ///
    /// With `view`, members are shown as their tags say.
    package init?(_ bytes: [UInt8], type: UInt32, in btf: BTF, view: TaggedView? = nil) {
        var reader = TypedReader(btf: btf, bytes: bytes, view: view)
        guard let value = reader.value(type, at: 0, depth: 0) else { return nil }
        self = value
    }

    /// One line; control characters are escaped, so that no program's data moves a terminal's cursor.
    package var text: String {
        switch self {
        case .signed(let value): String(value)
        case .unsigned(let value): String(value)
        case .flag(let value): String(value)
        case .float(let value): String(value)
        case .address(let value): hexadecimal(value)
        case .text(let value): printable(value)
        case .list(let values): "[\(values.map(\.text).joined(separator: ", "))]"
        case .record(let fields):
            "{\(fields.filter { !$0.value.isStack }.map { "\($0.name): \($0.value.text)" }.joined(separator: ", "))}"
        case .time(let value): WallClock.text(value)
        case .stack(let lines): lines.map(\.name).joined(separator: ";")
        }
    }

    /// Shown on lines of its own.
    var isStack: Bool {
        if case .stack = self { return true }
        return false
    }

    /// The stacks in it, on lines of their own below their names.
    var stackLines: [String] {
        guard case .record(let fields) = self else { return [] }
        return fields.flatMap { field -> [String] in
            guard case .stack(let lines) = field.value else { return field.value.stackLines }
            if lines.isEmpty { return [] }
            let width = min(48, lines.map(\.name.count).max() ?? 0)
            return ["    \(field.name):"] + lines.map { "      \($0.text(nameWidth: width))" }
        }
    }

    func write(to writer: inout JSONWriter) {
        switch self {
        case .signed(let value): writer.number(value)
        case .unsigned(let value): writer.number(value)
        case .flag(let value): writer.bool(value)
        case .float(let value): writer.string(String(value))
        case .address(let value): writer.string(hexadecimal(value))
        case .text(let value): writer.string(value)
        case .list(let values): writer.array { list in for value in values { value.write(to: &list) } }
        case .record(let fields):
            writer.object { object in
                for field in fields {
                    object.key(field.name)
                    field.value.write(to: &object)
                }
            }
        case .time(let value): writer.string(WallClock.date(value))
        case .stack(let lines): writer.array { list in for line in lines { line.write(to: &list) } }
        }
    }

    /// Numbers of one kind, for histograms.
    package var numbers: [UInt64]? {
        guard case .list(let values) = self else { return nil }
        var result: [UInt64] = []
        for value in values {
            switch value {
            case .unsigned(let number): result.append(number)
            case .signed(let number): result.append(UInt64(max(0, number)))
            case .flag, .float, .address, .text, .list, .record, .time, .stack: return nil
            }
        }
        return result
    }

    /// A number that is not negative.
    var number: UInt64? {
        switch self {
        case .unsigned(let number): number
        case .signed(let number): number < 0 ? nil : UInt64(number)
        case .flag, .float, .address, .text, .list, .record, .time, .stack: nil
        }
    }

    /// A member of a record.
    package subscript(_ name: String) -> TypedValue? {
        guard case .record(let fields) = self else { return nil }
        return fields.first { $0.name == name }?.value
    }
}

/// Text with control characters as `\n` or `\x1b`.
package func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7f }) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
        switch scalar.value {
        case 10: result += "\\n"
        case 9: result += "\\t"
        case 0..<0x20, 0x7f: result += "\\x" + padded(String(scalar.value, radix: 16), to: 2, with: "0")
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result
}
