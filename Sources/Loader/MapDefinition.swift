internal import ISA

/// Reads the BTF-defined maps of the `.maps` section (libbpf `parse_btf_map_def`).
///
/// `__uint(name, v)` is a pointer to an array of v elements, `__type(name, T)` a pointer to T, `__array(values, T)` an
/// array of T; newer headers also write numbers as enums (`__ulong`).
struct MapDefinition {
    private let btf: BTF
    private let map: String
    private(set) var type: UInt32 = 0
    private(set) var maxEntries: UInt32 = 0
    private(set) var flags: UInt32 = 0
    private(set) var extra: UInt64 = 0
    private(set) var keySize = 0
    private(set) var valueSize = 0
    private(set) var keyType: UInt32 = 0
    private(set) var valueType: UInt32 = 0
    /// Offset in bytes of `values` in the definition, where relocations name the elements.
    private(set) var valuesOffset: Int?
    private(set) var inner: InnerMapSpec?
    private(set) var isPinned = false
    private(set) var notes: [String] = []

    /// - Parameter type: the struct that defines the map.
    init(_ btf: BTF, map: String, type id: UInt32, isInner: Bool = false) throws(LoaderError) {
        self.btf = btf
        self.map = map
        guard let definition = btf.underlying(id), definition.kind == .structure else {
            throw .badMap(map, "its type is not a struct")
        }
        for index in 0..<definition.count {
            let member = btf.member(definition, index)
            try read(btf.name(member), member, isInner: isInner)
        }
        if type == 0 { throw .badMap(map, "it has no type") }
        if MapType(rawValue: type) == nil { throw .unknownMapType(map, type) }
        let isNested = type == MapType.arrayOfMaps.rawValue || type == MapType.hashOfMaps.rawValue
        if isNested || type == MapType.programArray.rawValue, valueSize == 0 { valueSize = 4 }
        if type == MapType.programArray.rawValue || type == MapType.arrayOfMaps.rawValue, keySize == 0 { keySize = 4 }
    }

    private mutating func read(_ name: String, _ member: BTF.Member, isInner: Bool) throws(LoaderError) {
        switch name {
        case "type": type = try number32(member, name)
        case "max_entries": maxEntries = try number32(member, name)
        case "map_flags": flags = try number32(member, name)
        case "map_extra": extra = try number(member, name)
        case "numa_node":
            _ = try number(member, name)
            notes.append("map '\(map)': numa_node is ignored")
        case "pinning":
            let kind = try number(member, name)
            guard kind <= 1 else { throw .badMap(map, "pinning \(kind) is neither none (0) nor by name (1)") }
            isPinned = kind == 1
        case "key_size": try setSize(&keySize, Int(number32(member, name)), "key")
        case "value_size": try setSize(&valueSize, Int(number32(member, name)), "value")
        case "key":
            keyType = try pointee(member, name)
            try setSize(&keySize, sizeOf(keyType, name), "key")
        case "value":
            valueType = try pointee(member, name)
            try setSize(&valueSize, sizeOf(valueType, name), "value")
        case "values": try readValues(member, isInner: isInner)
        default: throw .badMap(map, "it has the unknown attribute '\(name)'")
        }
    }

    private mutating func readValues(_ member: BTF.Member, isInner: Bool) throws(LoaderError) {
        if isInner { throw .badMap(map, "maps of maps of maps do not exist") }
        guard let array = btf.underlying(member.type), array.kind == .array,
            let pointer = btf.underlying(btf.array(array).element), pointer.kind == .pointer,
            let target = btf.underlying(pointer.target)
        else { throw .badMap(map, "'values' is not an array of pointers") }
        valuesOffset = member.bitOffset / 8
        switch target.kind {
        case .functionPrototype: break
        case .structure:
            let definition = try MapDefinition(btf, map: "\(map).inner", type: target.id, isInner: true)
            guard let type = MapType(rawValue: definition.type) else { throw .unknownMapType(map, definition.type) }
            inner = InnerMapSpec(
                type: type,
                keySize: definition.keySize,
                valueSize: definition.valueSize,
                maxEntries: Int(definition.maxEntries),
                flags: definition.flags,
                extra: definition.extra,
                keyType: definition.keyType,
                valueType: definition.valueType
            )
            notes += definition.notes
        default: throw .badMap(map, "'values' holds neither maps nor programs")
        }
    }

    private func setSize(_ size: inout Int, _ new: Int, _ what: String) throws(LoaderError) {
        if size != 0, size != new { throw .badMap(map, "its \(what) has the sizes \(size) and \(new)") }
        size = new
    }

    private func number32(_ member: BTF.Member, _ name: String) throws(LoaderError) -> UInt32 {
        UInt32(truncatingIfNeeded: try number(member, name))
    }

    private func number(_ member: BTF.Member, _ name: String) throws(LoaderError) -> UInt64 {
        if let type = btf.underlying(member.type) {
            if type.isEnumeration, type.count == 1 { return btf.enumerator(type, 0).value }
            if type.kind == .pointer, let array = btf.underlying(type.target), array.kind == .array {
                return UInt64(btf.array(array).count)
            }
        }
        throw .badMap(map, "'\(name)' is not a number written with __uint")
    }

    private func pointee(_ member: BTF.Member, _ name: String) throws(LoaderError) -> UInt32 {
        guard let type = btf.underlying(member.type), type.kind == .pointer else {
            throw .badMap(map, "'\(name)' is not a type written with __type")
        }
        return type.target
    }

    private func sizeOf(_ type: UInt32, _ name: String) throws(LoaderError) -> Int {
        guard let size = btf.size(of: type), size < 1 << 31 else {
            throw .badMap(map, "the type of '\(name)' has no size")
        }
        return size
    }
}
