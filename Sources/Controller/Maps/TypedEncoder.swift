import JSON
import Loader

/// Bytes of a type in BTF from what people write: a number, `true`, an enumerator, text, JSON for structs, `hex:0011`.
struct TypedEncoder {
    let btf: BTF?

    /// `size` bytes, those of `old` where the text does not say; throws with what was expected.
    func bytes(_ text: String, type: UInt32, size: Int, over old: [UInt8]?) throws(EncodingProblem) -> [UInt8] {
        if text.hasPrefix("hex:") { return try hexadecimal(text.dropFirst(4), size) }
        let json = text.first.map { "{[\"".contains($0) } == true ? try? parseJSON(Array(text.utf8)) : nil
        var bytes = old ?? [UInt8](repeating: 0, count: size)
        guard bytes.count == size, type != 0, let btf, let type = btf.underlying(type),
            btf.size(of: type.id) ?? 0 <= size
        else {
            // Without a type whatever is short is a number.
            guard size <= 8, let value = Int128(number: text) else {
                throw EncodingProblem(size <= 8 ? "a number" : "hex: and \(size) bytes in hexadecimal")
            }
            try put(value, size, isSigned: nil, 0, &bytes)
            return bytes
        }
        try encode(json ?? .string(text), type.id, btf, 0, &bytes, depth: 0)
        return bytes
    }

    private func hexadecimal(_ digits: Substring, _ size: Int) throws(EncodingProblem) -> [UInt8] {
        let digits = Array(digits.utf8.filter { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: ":") })
        guard digits.count == 2 * size else {
            throw EncodingProblem("\(size) bytes, which are \(2 * size) hexadecimal digits")
        }
        var bytes: [UInt8] = []
        for index in 0..<size {
            guard let byte = UInt8(String(decoding: digits[2 * index..<2 * index + 2], as: UTF8.self), radix: 16) else {
                throw EncodingProblem("hexadecimal digits")
            }
            bytes.append(byte)
        }
        return bytes
    }

    private func encode(
        _ value: JSONValue,
        _ id: UInt32,
        _ btf: BTF,
        _ offset: Int,
        _ bytes: inout [UInt8],
        depth: Int
    ) throws(EncodingProblem) {
        guard depth < 16, let type = btf.underlying(id) else { throw EncodingProblem("a known type") }
        switch type.kind {
        case .integer, .enumeration, .enum64, .pointer, .float: try scalar(value, type, btf, offset, &bytes)
        case .array: try array(value, type, btf, offset, &bytes, depth)
        case .structure, .union: try record(value, type, btf, offset, &bytes, depth)
        case .variable: try encode(value, type.target, btf, offset, &bytes, depth: depth + 1)
        case .dataSection: try section(value, type, btf, offset, &bytes, depth)
        case .void, .forward, .typedef, .volatile, .const, .restrict, .function, .functionPrototype, .declTag,
            .typeTag:
            throw EncodingProblem("a type with a size")
        }
    }

    private func scalar(
        _ value: JSONValue,
        _ type: BTFType,
        _ btf: BTF,
        _ offset: Int,
        _ bytes: inout [UInt8]
    ) throws(EncodingProblem) {
        let size = type.kind == .pointer ? 8 : type.size
        if type.kind == .float {
            let number: Double? =
                switch value {
                case .integer(let number): Double(number)
                case .number(let number): number
                case .string(let text): Double(text)
                case .null, .bool, .array, .object: nil
                }
            guard let number else { throw EncodingProblem("a number") }
            let pattern = size == 4 ? UInt64(Float(number).bitPattern) : number.bitPattern
            return try put(Int128(pattern), size, isSigned: nil, offset, &bytes)
        }
        var wanted = "a number"
        if type.kind == .enumeration || type.kind == .enum64 {
            for index in 0..<type.count {
                let candidate = btf.enumerator(type, index)
                if value.text == btf.string(candidate.name) {
                    return try put(Int128(candidate.value), size, isSigned: nil, offset, &bytes)
                }
            }
            wanted = "an enumerator or a number"
        }
        let isBoolean = type.kind == .integer && btf.isBoolean(type)
        if isBoolean { wanted = "true or false" }
        let number: Int128? =
            switch value {
            case .integer(let number): Int128(number)
            case .bool(let flag): flag ? 1 : 0
            case .string("true") where isBoolean: 1
            case .string("false") where isBoolean: 0
            case .string(let text): Int128(number: text)
            case .null, .number, .array, .object: nil
            }
        guard let number else { throw EncodingProblem(wanted) }
        let isSigned: Bool? = type.kind == .integer ? btf.isSigned(type) : nil
        try put(number, size, isSigned: isSigned, offset, &bytes)
    }

    private func put(
        _ value: Int128,
        _ size: Int,
        isSigned: Bool?,
        _ offset: Int,
        _ bytes: inout [UInt8]
    ) throws(EncodingProblem) {
        guard size <= 8, offset + size <= bytes.count else { throw EncodingProblem("a value of at most 8 bytes") }
        let bits = Int128(size * 8)
        let low: Int128 = isSigned == false ? 0 : -(1 << (bits - 1))
        let high: Int128 = isSigned == true ? 1 << (bits - 1) : 1 << bits
        guard value >= low, value < high else { throw EncodingProblem("a number from \(low) to \(high - 1)") }
        for index in 0..<size { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * Int128(index))) }
    }

    private func array(
        _ value: JSONValue,
        _ type: BTFType,
        _ btf: BTF,
        _ offset: Int,
        _ bytes: inout [UInt8],
        _ depth: Int
    ) throws(EncodingProblem) {
        let info = btf.array(type)
        let size = btf.size(of: info.element) ?? 0
        guard offset + info.count * size <= bytes.count else { throw EncodingProblem("a shorter type") }
        if let text = value.text, size == 1 {
            let characters = Array(text.utf8)
            guard characters.count <= info.count else { throw EncodingProblem("at most \(info.count) characters") }
            for (index, character) in characters.enumerated() { bytes[offset + index] = character }
            return
        }
        guard let elements = value.elements, elements.count <= info.count else {
            throw EncodingProblem("a list of at most \(info.count) elements, in JSON")
        }
        for (index, element) in elements.enumerated() {
            try encode(element, info.element, btf, offset + index * size, &bytes, depth: depth + 1)
        }
    }

    /// Members that are not named are 0.
    private func record(
        _ value: JSONValue,
        _ type: BTFType,
        _ btf: BTF,
        _ offset: Int,
        _ bytes: inout [UInt8],
        _ depth: Int
    ) throws(EncodingProblem) {
        guard case .object(let members) = value else {
            throw EncodingProblem("an object in JSON, or hex: and its bytes")
        }
        for given in members {
            guard let place = place(given.key, type, btf, depth) else {
                throw EncodingProblem("members of the type only: '\(given.key)' is none")
            }
            if place.bits > 0 { throw EncodingProblem("hex: and its bytes: '\(given.key)' is a bit field") }
            try encode(given.value, place.type, btf, offset + place.offset, &bytes, depth: depth + 1)
        }
    }

    /// A member, those of nameless structs in it included.
    private func place(
        _ name: String,
        _ type: BTFType,
        _ btf: BTF,
        _ depth: Int
    ) -> (type: UInt32, offset: Int, bits: Int)? {
        guard depth < 16 else { return nil }
        for index in 0..<type.count {
            let member = btf.member(type, index)
            let own = btf.name(member)
            if own == name { return (member.type, member.bitOffset / 8, member.bitfieldSize) }
            guard own.isEmpty, let inner = btf.underlying(member.type),
                inner.kind == .structure || inner.kind == .union,
                let found = place(name, inner, btf, depth + 1)
            else { continue }
            return (found.type, found.offset + member.bitOffset / 8, found.bits)
        }
        return nil
    }

    /// Global variables by name.
    private func section(
        _ value: JSONValue,
        _ type: BTFType,
        _ btf: BTF,
        _ offset: Int,
        _ bytes: inout [UInt8],
        _ depth: Int
    ) throws(EncodingProblem) {
        guard case .object(let members) = value else {
            throw EncodingProblem("an object in JSON, or hex: and its bytes")
        }
        for given in members {
            let entries = (0..<type.count).map { btf.sectionEntry(type, $0) }
            guard let entry = entries.first(where: { btf[$0.type].map { btf.name($0) } == given.key }) else {
                throw EncodingProblem("variables of the object only: '\(given.key)' is none")
            }
            try encode(given.value, entry.type, btf, offset + entry.offset, &bytes, depth: depth + 1)
        }
    }
}

/// What a text should have been.
struct EncodingProblem: Error {
    let expected: String

    init(_ expected: String) { self.expected = expected }
}

extension Int128 {
    /// Decimal, or hexadecimal with `0x`; nil for anything else.
    fileprivate init?(number text: String) {
        let isNegative = text.hasPrefix("-")
        let digits = isNegative ? text.dropFirst() : text[...]
        let value = digits.hasPrefix("0x") ? Int128(digits.dropFirst(2), radix: 16) : Int128(digits, radix: 10)
        guard let value, digits.first != "+", digits.first != "-" else { return nil }
        self = isNegative ? -value : value
    }
}
