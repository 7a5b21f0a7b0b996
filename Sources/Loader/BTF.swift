internal import Synchronization

/// Type information in the BPF Type Format: of an object, or of the running kernel.
///
/// Parsing checks every record and string reference once; types are decoded when asked for, so that the 130,000 types of
/// a kernel cost little. References between types may still name ids that do not exist (`self[id]` is nil then) or form
/// circles (walks are bounded). Format: Linux `Documentation/bpf/btf.rst`.
package struct BTF: Sendable {
    /// The whole section.
    package let bytes: [UInt8]
    /// Where the record of each type starts in `bytes`; the entry of type 0 is not used.
    private let offsets: [UInt32]
    private let strings: Range<Int>
    private let names = NameCache()

    /// The number of types, `void` included: ids are less.
    package var count: Int { offsets.count }

    /// Reads a whole `.BTF` section or `/sys/kernel/btf/vmlinux`.
    package init(_ bytes: [UInt8], name: String = ".BTF") throws(LoaderError) {
        let parts = try BTFParts(bytes, name: name)
        let (typeStart, typeEnd) = (parts.types.lowerBound, parts.types.upperBound)
        let (stringStart, stringEnd) = (parts.strings.lowerBound, parts.strings.upperBound)
        let stringSize = parts.strings.count
        guard stringSize > 0, bytes[stringStart] == 0, bytes[stringEnd - 1] == 0 else {
            throw .badBTF(name, "the strings do not begin and end with zero")
        }
        var offsets: [UInt32] = [0]
        offsets.reserveCapacity(parts.types.count / 24)
        let raw = unsafe bytes.span.bytes
        var at = typeStart
        while at < typeEnd {
            guard typeEnd - at >= 12 else { throw .badBTF(name, "type \(offsets.count) is truncated") }
            let nameOffset = unsafe raw.unsafeLoadUnaligned(fromByteOffset: at, as: UInt32.self)
            let info = unsafe raw.unsafeLoadUnaligned(fromByteOffset: at + 4, as: UInt32.self)
            guard let kind = Kind(rawValue: UInt8(info >> 24 & 0x1f)), kind != .void else {
                throw .badBTF(name, "type \(offsets.count) is of the unknown kind \(info >> 24 & 0x1f)")
            }
            guard nameOffset < stringSize else {
                throw .badBTF(name, "the name of type \(offsets.count) lies outside of the strings")
            }
            offsets.append(UInt32(at))
            at += 12 + kind.trailingSize(Int(info & 0xffff))
        }
        guard at == typeEnd else { throw .badBTF(name, "type \(offsets.count - 1) is truncated") }
        self.bytes = bytes
        self.offsets = offsets
        strings = stringStart..<stringEnd
    }

    /// The same with offsets in a data section, where compilers leave zeros for whoever links.
    package func placing(section id: UInt32, _ offset: (_ variable: String) -> Int?) -> BTF {
        guard let section = self[id], section.kind == .dataSection else { return self }
        var bytes = bytes
        for index in 0..<section.count {
            guard let variable = self[sectionVariable(section, index).type], let place = offset(name(variable)) else {
                continue
            }
            let at = Int(offsets[Int(id)]) + 12 + 12 * index + 4
            for byte in 0..<4 { bytes[at + byte] = UInt8(truncatingIfNeeded: place >> (8 * byte)) }
        }
        return (try? BTF(bytes)) ?? self
    }

    /// The type with an id; `void` for 0, nil for ids that do not exist.
    package subscript(id: UInt32) -> BTFType? {
        if id == 0 { return BTFType(id: 0, kind: .void, nameOffset: 0, count: 0, flag: false, sizeOrType: 0, data: 0) }
        guard id < offsets.count else { return nil }
        let at = Int(offsets[Int(id)])
        let raw = unsafe bytes.span.bytes
        let info = unsafe raw.unsafeLoadUnaligned(fromByteOffset: at + 4, as: UInt32.self)
        return unsafe BTFType(
            id: id,
            kind: Kind(rawValue: UInt8(info >> 24 & 0x1f)) ?? .void,
            nameOffset: raw.unsafeLoadUnaligned(fromByteOffset: at, as: UInt32.self),
            count: Int(info & 0xffff),
            flag: info >> 31 == 1,
            sizeOrType: raw.unsafeLoadUnaligned(fromByteOffset: at + 8, as: UInt32.self),
            data: at + 12
        )
    }

    /// A word behind a type's record; the record's size was checked when parsing.
    func word(_ type: BTFType, _ index: Int) -> UInt32 {
        bytes.u32(at: type.data + 4 * index) ?? 0
    }
}

// MARK: Strings

extension BTF {
    /// The string at an offset; empty if there is none.
    package func string(_ offset: UInt32) -> String {
        offset == 0 ? "" : bytes.cString(at: strings.lowerBound + Int(offset), limit: strings.upperBound) ?? ""
    }

    package func name(_ type: BTFType) -> String { string(type.nameOffset) }

    /// Where the string's bytes lie; empty if there is none.
    func range(_ offset: UInt32) -> Range<Int> {
        let start = strings.lowerBound + Int(offset)
        guard start < strings.upperBound else { return start..<start }
        var end = start
        while bytes[end] != 0 { end += 1 }
        return start..<end
    }

    /// Ids of the types with this name, in order, kinds mixed.
    package func types(named name: String) -> [UInt32] {
        names.look(up: name) { scan(Array(name.utf8), essential: false) }
    }

    /// Ids of the types whose name without `___flavour` is `name`.
    func types(essentiallyNamed name: String) -> [UInt32] {
        names.look(up: name + "___") { scan(Array(name.utf8), essential: true) }
    }

    private func scan(_ name: [UInt8], essential: Bool) -> [UInt32] {
        guard let first = name.first else { return [] }
        var result: [UInt32] = []
        let raw = unsafe bytes.span.bytes
        for id in 1..<max(1, offsets.count) {
            let at = Int(offsets[id])
            let offset = unsafe raw.unsafeLoadUnaligned(fromByteOffset: at, as: UInt32.self)
            let start = strings.lowerBound + Int(offset)
            guard offset != 0, bytes[start] == first, start + name.count < strings.upperBound else { continue }
            var length = 1
            while length < name.count, bytes[start + length] == name[length] { length += 1 }
            guard length == name.count else { continue }
            if bytes[start + length] == 0
                || essential && essentialLength(bytes, range(offset)) == name.count
            {
                result.append(UInt32(id))
            }
        }
        return result
    }
}

/// Length of a name without its `___flavour` (libbpf `bpf_core_essential_name_len`).
func essentialLength(_ bytes: [UInt8], _ name: Range<Int>) -> Int {
    let underscore = UInt8(ascii: "_")
    var at = name.upperBound - 5
    while at >= name.lowerBound {
        if bytes[at] != underscore, bytes[at + 1] == underscore, bytes[at + 2] == underscore,
            bytes[at + 3] == underscore, bytes[at + 4] != underscore
        {
            return at + 1 - name.lowerBound
        }
        at -= 1
    }
    return name.count
}

/// Remembers which types a name has; shared by the copies of one `BTF`.
private final class NameCache: Sendable {
    private let ids = Mutex<[String: [UInt32]]>([:])

    func look(up name: String, _ scan: () -> [UInt32]) -> [UInt32] {
        ids.withLock { ids in
            if let known = ids[name] { return known }
            let found = scan()
            ids[name] = found
            return found
        }
    }
}
