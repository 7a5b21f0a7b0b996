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

    package struct Field: Equatable, Sendable {
        package var name: String
        package var value: TypedValue
    }

    /// Reads a value; nil where the bytes are fewer than the type's, or BTF does not say what they are.
    package init?(_ bytes: [UInt8], type: UInt32, in btf: BTF) {
        var reader = TypedReader(btf: btf, bytes: bytes)
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
        case .record(let fields): "{\(fields.map { "\($0.name): \($0.value.text)" }.joined(separator: ", "))}"
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
            case .flag, .float, .address, .text, .list, .record: return nil
            }
        }
        return result
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

/// Walks a type and its bytes; both may be anything, so depth and size are bounded.
private struct TypedReader {
    let btf: BTF
    let bytes: [UInt8]
    /// Values that may still be made.
    var budget = 65_536

    init(btf: BTF, bytes: [UInt8]) {
        self.btf = btf
        self.bytes = bytes
    }

    mutating func value(_ id: UInt32, at offset: Int, depth: Int) -> TypedValue? {
        budget -= 1
        guard depth < 16, budget > 0, let type = btf.underlying(id) else { return nil }
        switch type.kind {
        case .integer:
            guard type.size <= 8, let raw = number(at: offset, size: type.size) else { return nil }
            return integer(raw, type, bits: type.size * 8)
        case .enumeration, .enum64:
            guard type.size <= 8, let raw = number(at: offset, size: type.size) else { return nil }
            return enumerator(raw, type)
        case .pointer: return number(at: offset, size: 8).map { .address($0) }
        case .float:
            if type.size == 8 { return number(at: offset, size: 8).map { .float(Double(bitPattern: $0)) } }
            if type.size == 4 {
                return number(at: offset, size: 4).map { .float(Double(Float(bitPattern: UInt32($0)))) }
            }
            return nil
        case .array: return array(type, at: offset, depth: depth)
        case .structure, .union:
            var fields: [TypedValue.Field] = []
            for index in 0..<type.count {
                let member = btf.member(type, index)
                let name = btf.name(member)
                guard let value = field(member, at: offset, depth: depth) else { return nil }
                if name.isEmpty, case .record(let nested) = value {
                    fields += nested
                } else if !name.isEmpty {
                    fields.append(TypedValue.Field(name: name, value: value))
                }
            }
            return .record(fields)
        case .variable: return value(type.target, at: offset, depth: depth + 1)
        case .dataSection:
            var fields: [TypedValue.Field] = []
            for index in 0..<type.count {
                let entry = btf.sectionEntry(type, index)
                guard let variable = btf[entry.type],
                    let value = value(entry.type, at: offset + entry.offset, depth: depth)
                else { continue }
                fields.append(TypedValue.Field(name: btf.name(variable), value: value))
            }
            return .record(fields)
        case .void, .forward, .typedef, .volatile, .const, .restrict, .function, .functionPrototype, .declTag,
            .typeTag:
            return nil
        }
    }

    private mutating func field(_ member: BTF.Member, at offset: Int, depth: Int) -> TypedValue? {
        guard member.bitfieldSize > 0 else {
            return value(member.type, at: offset + member.bitOffset / 8, depth: depth + 1)
        }
        guard let type = btf.underlying(member.type), member.bitfieldSize <= 56 else { return nil }
        let first = offset + member.bitOffset / 8
        let shift = member.bitOffset % 8
        guard let raw = number(at: first, size: (shift + member.bitfieldSize + 7) / 8) else { return nil }
        let bits = raw >> UInt64(shift) & (1 << UInt64(member.bitfieldSize) - 1)
        return type.kind == .integer ? integer(bits, type, bits: member.bitfieldSize) : enumerator(bits, type)
    }

    private mutating func array(_ type: BTFType, at offset: Int, depth: Int) -> TypedValue? {
        let info = btf.array(type)
        guard let element = btf.underlying(info.element), let size = btf.size(of: info.element), info.count <= 1 << 16,
            offset + size * info.count <= bytes.count
        else { return nil }
        if element.kind == .integer, element.size == 1, btf.name(element) == "char" {
            let text = bytes[offset..<offset + info.count].prefix { $0 != 0 }
            return .text(String(decoding: text, as: UTF8.self))
        }
        var values: [TypedValue] = []
        for index in 0..<info.count {
            guard let value = value(info.element, at: offset + index * size, depth: depth + 1) else { return nil }
            values.append(value)
        }
        return .list(values)
    }

    private func integer(_ raw: UInt64, _ type: BTFType, bits: Int) -> TypedValue {
        if btf.isBoolean(type) { return .flag(raw != 0) }
        guard btf.isSigned(type) else { return .unsigned(raw) }
        let shift = UInt64(64 - bits)
        return .signed(Int64(bitPattern: raw << shift) >> Int64(shift))
    }

    private func enumerator(_ raw: UInt64, _ type: BTFType) -> TypedValue {
        let mask = type.size >= 8 ? UInt64.max : 1 << UInt64(type.size * 8) - 1
        for index in 0..<type.count {
            let candidate = btf.enumerator(type, index)
            if candidate.value & mask == raw { return .text(btf.string(candidate.name)) }
        }
        return .unsigned(raw)
    }

    private func number(at offset: Int, size: Int) -> UInt64? {
        guard offset >= 0, size > 0, size <= 8, offset + size <= bytes.count else { return nil }
        return littleEndian(bytes, at: offset, size: size)
    }
}
