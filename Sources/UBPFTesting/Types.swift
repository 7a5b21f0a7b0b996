import Loader

/// Values and bytes by the types of an object.
struct Types {
    let btf: BTF

    /// The struct, union, typedef or enum of a name.
    func id(named name: String) -> UInt32? {
        btf.types(named: name).first { id in
            switch btf[id]?.kind {
            case .structure, .union, .typedef, .integer, .enumeration, .enum64: true
            default: false
            }
        }
    }

    /// The struct of a name.
    func id(ofStruct name: String) -> UInt32? { btf.types(named: name).first { btf[$0]?.kind == .structure } }

    // MARK: Reading

    /// The value in bytes of a type.
    func decode(_ bytes: ArraySlice<UInt8>, _ id: UInt32) -> Value {
        guard let type = btf.underlying(id), let size = btf.size(of: id), bytes.count >= size else {
            return .bytes(Array(bytes))
        }
        let own = bytes.prefix(size)
        switch type.kind {
        case .integer: return .integer(number(own, isSigned: isSigned(type)))
        case .enumeration, .enum64: return .integer(number(own, isSigned: type.flag))
        case .pointer: return .integer(number(own, isSigned: false))
        case .float where size == 4:
            return .float(Double(Float(bitPattern: UInt32(truncatingIfNeeded: number(own, isSigned: false)))))
        case .float where size == 8:
            return .float(Double(bitPattern: UInt64(truncatingIfNeeded: number(own, isSigned: false))))
        case .array: return array(own, btf.array(type))
        case .structure, .union:
            var fields: [String: Value] = [:]
            decode(own, members: type, into: &fields)
            return .fields(fields)
        case .void, .forward, .typedef, .volatile, .const, .restrict, .function, .functionPrototype, .variable,
            .dataSection, .float, .declTag, .typeTag:
            return .bytes(Array(own))
        }
    }

    private func array(_ bytes: ArraySlice<UInt8>, _ info: BTF.ArrayInfo) -> Value {
        switch text(info.element) {
        case .character:
            let text = bytes.prefix { $0 != 0 }
            // What is no text stays as it is.
            return String(validating: text, as: UTF8.self).map { .text($0) } ?? .bytes(Array(bytes))
        case .byte: return .bytes(Array(bytes))
        case nil:
            let size = btf.size(of: info.element) ?? 0
            return .list(
                (0..<info.count).map { decode(bytes.dropFirst($0 * size).prefix(size), info.element) }
            )
        }
    }

    private func decode(_ bytes: ArraySlice<UInt8>, members type: BTFType, into fields: inout [String: Value]) {
        for index in 0..<type.count {
            let member = btf.member(type, index)
            let name = btf.name(member)
            let rest = bytes.dropFirst(member.bitOffset / 8)
            if name.isEmpty, let inner = btf.underlying(member.type), inner.kind == .structure || inner.kind == .union {
                decode(rest, members: inner, into: &fields)
            } else if member.bitfieldSize > 0 {
                fields[name] = .integer(bits(bytes, member))
            } else {
                fields[name] = decode(rest, member.type)
            }
        }
    }

    private func bits(_ bytes: ArraySlice<UInt8>, _ member: BTF.Member) -> Int128 {
        var value: Int128 = 0
        for bit in 0..<member.bitfieldSize {
            let at = member.bitOffset + bit
            let byte = bytes[bytes.startIndex + at / 8]
            if byte >> UInt8(at % 8) & 1 != 0 { value |= 1 << Int128(bit) }
        }
        guard let type = btf.underlying(member.type), type.kind == .integer, isSigned(type),
            value >> Int128(member.bitfieldSize - 1) & 1 != 0
        else { return value }
        return value - 1 << Int128(member.bitfieldSize)
    }

    // MARK: Writing

    /// The bytes of a value of a type; fields that are not given are 0.
    func encode(_ value: Value, _ id: UInt32, _ name: String) throws(TestingError) -> [UInt8] {
        guard let type = btf.underlying(id), let size = btf.size(of: id) else { throw .doesNotFit(value, name) }
        var bytes = [UInt8](repeating: 0, count: size)
        switch (value, type.kind) {
        case (.bytes(let given), _) where given.count <= size: bytes.replaceSubrange(0..<given.count, with: given)
        case (.integer(let number), .integer), (.integer(let number), .enumeration), (.integer(let number), .enum64),
            (.integer(let number), .pointer):
            guard number < Int128(1) << Int128(8 * size), number >= -(Int128(1) << Int128(8 * size - 1)) else {
                throw .doesNotFit(value, "\(name) (\(size) bytes)")
            }
            for index in 0..<size { bytes[index] = UInt8(truncatingIfNeeded: number >> Int128(8 * index)) }
        case (.float(let number), .float):
            bytes = size == 4 ? littleEndian(Float(number).bitPattern) : littleEndian(number.bitPattern)
        case (.text(let text), .array):
            guard self.text(btf.array(type).element) != nil, text.utf8.count <= size else {
                throw .doesNotFit(value, name)
            }
            bytes.replaceSubrange(0..<text.utf8.count, with: Array(text.utf8))
        case (.list(let list), .array):
            let info = btf.array(type)
            let step = btf.size(of: info.element) ?? 0
            // An array without a size takes as many as there are.
            if info.count == 0 { bytes = [UInt8](repeating: 0, count: list.count * step) }
            guard list.count * step <= bytes.count else { throw .doesNotFit(value, name) }
            for (index, element) in list.enumerated() {
                let part = try encode(element, info.element, "\(name)[\(index)]")
                bytes.replaceSubrange(index * step..<index * step + part.count, with: part)
            }
        case (.fields(let fields), .structure), (.fields(let fields), .union):
            for (field, value) in fields.sorted(by: { $0.key < $1.key }) {
                guard let place = place(field, type) else { throw .noField(field, name, names(type)) }
                try put(value, place, "\(name).\(field)", into: &bytes)
            }
        default: throw .doesNotFit(value, name)
        }
        return bytes
    }

    private func put(_ value: Value, _ member: BTF.Member, _ name: String, into bytes: inout [UInt8])
        throws(TestingError)
    {
        guard member.bitfieldSize > 0 else {
            let part = try encode(value, member.type, name)
            let start = member.bitOffset / 8
            // Only one without a size, at the end, goes on behind it.
            if start + part.count > bytes.count {
                bytes += [UInt8](repeating: 0, count: start + part.count - bytes.count)
            }
            bytes.replaceSubrange(start..<start + part.count, with: part)
            return
        }
        guard case .integer(let number) = value else { throw .doesNotFit(value, name) }
        for bit in 0..<member.bitfieldSize {
            let at = member.bitOffset + bit
            let mask: UInt8 = 1 << UInt8(at % 8)
            if number >> Int128(bit) & 1 != 0 { bytes[at / 8] |= mask } else { bytes[at / 8] &= ~mask }
        }
    }

    /// A field by its name, in anonymous members too, with its offset from the start of `type`.
    private func place(_ name: String, _ type: BTFType) -> BTF.Member? {
        for index in 0..<type.count {
            let member = btf.member(type, index)
            let own = btf.name(member)
            if own == name { return member }
            guard own.isEmpty, let inner = btf.underlying(member.type),
                inner.kind == .structure || inner.kind == .union,
                var found = place(name, inner)
            else { continue }
            found.bitOffset += member.bitOffset
            return found
        }
        return nil
    }

    private func names(_ type: BTFType) -> [String] {
        (0..<type.count).map { btf.name(btf.member(type, $0)) }.filter { !$0.isEmpty }
    }

    // MARK: Integers

    private enum Element { case character, byte }

    /// Whether elements of an array are text or bytes.
    private func text(_ id: UInt32) -> Element? {
        guard let type = btf.underlying(id), type.kind == .integer, type.size == 1 else { return nil }
        // clang says `char` is a signed integer by that name; __u8 is an "unsigned char".
        return btf.name(type) == "char" ? .character : btf.name(type).contains("unsigned") ? .byte : nil
    }

    private func isSigned(_ type: BTFType) -> Bool { btf.isSigned(type) }

    private func number(_ bytes: ArraySlice<UInt8>, isSigned: Bool) -> Int128 {
        var value: Int128 = 0
        for (index, byte) in bytes.prefix(8).enumerated() { value |= Int128(byte) << Int128(8 * index) }
        let width = Int128(8 * min(bytes.count, 8))
        return isSigned && width > 0 && value >> (width - 1) & 1 != 0 ? value - (1 << width) : value
    }
}
