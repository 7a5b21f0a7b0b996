import Loader

/// Walks a type and its bytes; both may be anything, so depth and size are bounded.
struct TypedReader {
    let btf: BTF
    let bytes: [UInt8]
    let view: TaggedView?
    /// Values that may still be made.
    private var budget = 65_536

    init(btf: BTF, bytes: [UInt8], view: TaggedView?) {
        self.btf = btf
        self.bytes = bytes
        self.view = view
    }

    mutating func value(_ id: UInt32, at offset: Int, depth: Int) -> TypedValue? {
        budget -= 1
        guard depth < 16, budget > 0, let type = btf.underlying(id) else { return nil }
        switch type.kind {
        case .integer where type.size == 16:
            guard offset + 16 <= bytes.count else { return nil }
            let digits = bytes[offset..<offset + 16].reversed().map { padded(String($0, radix: 16), to: 2, with: "0") }
            return .text("0x" + digits.joined())
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
            return composite(type, at: offset, depth: depth)
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

    /// A member with a tag, its bytes, and where it is among the fields.
    private struct Tagged {
        var index: Int
        var tag: MemberTag
        var bytes: ArraySlice<UInt8>
    }

    private mutating func composite(_ type: BTFType, at offset: Int, depth: Int) -> TypedValue? {
        var fields: [TypedValue.Field] = []
        var tags: [Tagged] = []
        guard gather(type, at: offset, depth: depth, &fields, &tags) else { return nil }
        guard let view, !tags.isEmpty else { return .record(fields) }
        // What a member is may depend on others, of which some are not shown.
        let all = TypedValue.record(fields)
        var hidden: Set<Int> = []
        for tagged in tags {
            if let value = view.value(tagged.tag, tagged.bytes, of: fields[tagged.index], in: all) {
                fields[tagged.index].value = value
            } else {
                hidden.insert(tagged.index)
            }
        }
        return .record(fields.indices.filter { !hidden.contains($0) }.map { fields[$0] })
    }

    /// The members of a struct or union, those of nameless ones in it among them; false where the bytes do not suffice.
    private mutating func gather(
        _ type: BTFType,
        at offset: Int,
        depth: Int,
        _ fields: inout [TypedValue.Field],
        _ tags: inout [Tagged]
    ) -> Bool {
        for index in 0..<type.count {
            let member = btf.member(type, index)
            let name = btf.name(member)
            let start = offset + member.bitOffset / 8
            if name.isEmpty {
                guard depth < 16, let nested = btf.underlying(member.type) else { return false }
                switch nested.kind {
                case .structure, .union:
                    guard gather(nested, at: start, depth: depth + 1, &fields, &tags) else { return false }
                default: break
                }
                continue
            }
            guard let value = field(member, at: offset, depth: depth) else { return false }
            if let tag = view?.tag(of: type.id, member: index, name: name, in: btf),
                let size = btf.size(of: member.type),
                start + size <= bytes.count
            {
                tags.append(Tagged(index: fields.count, tag: tag, bytes: bytes[start..<start + size]))
            }
            fields.append(TypedValue.Field(name: name, value: value))
        }
        return true
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
