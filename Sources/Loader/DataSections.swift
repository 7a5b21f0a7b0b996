internal import ISA

/// Makes maps of the sections that hold global data.
struct DataSections {
    let btf: BTF?
    let file: ELFFile

    /// The map of a section; nil if the section is no global data.
    func map(_ section: ELFSection) -> MapSpec? {
        // SHT_PROGBITS, SHT_NOBITS
        guard section.isAllocated, section.type == 1 || section.type == 8, !section.isCode, section.size > 0 else {
            return nil
        }
        guard Self.isData(section.name) else { return nil }
        let isReadOnly = Self.isNamed(section.name, ".rodata")
        let variables = variables(section, isReadOnly: isReadOnly)
        return MapSpec(
            name: section.name,
            type: .array,
            keySize: 4,
            valueSize: section.size,
            maxEntries: 1,
            flags: isReadOnly ? MapFlags.readOnlyForPrograms : 0,
            valueType: dataSection(section.name)?.id ?? 0,
            contents: section.type == 8 ? [UInt8](repeating: 0, count: section.size) : section.bytes,
            isReadOnly: isReadOnly,
            variables: variables,
            innerMap: nil
        )
    }

    static func isData(_ name: String) -> Bool {
        isNamed(name, ".rodata") || isNamed(name, ".data") || isNamed(name, ".bss")
    }

    private static func isNamed(_ name: String, _ prefix: String) -> Bool {
        name == prefix || name.hasPrefix(prefix + ".")
    }

    /// The `.kconfig` map: variables whose values the caller fills in, zero until then.
    func kernelConfiguration() -> MapSpec? {
        guard let btf, let section = dataSection(".kconfig") else { return nil }
        var variables: [VariableSpec] = []
        var end = 0
        for index in 0..<section.count {
            let entry = btf.sectionVariable(section, index)
            guard let variable = btf[entry.type], variable.kind == .variable,
                let size = btf.size(of: variable.target), (1...4096).contains(size)
            else { continue }
            let alignment = size.isMultiple(of: 8) ? 8 : size.isMultiple(of: 4) ? 4 : size.isMultiple(of: 2) ? 2 : 1
            end = (end + alignment - 1) / alignment * alignment
            let name = btf.name(variable)
            variables.append(
                VariableSpec(
                    name: name,
                    offset: end,
                    size: size,
                    kind: kind(variable.target),
                    isOption: false,
                    isWeak: file.symbols.contains { $0.name == name && $0.isWeak },
                    type: variable.target
                )
            )
            end += size
        }
        if variables.isEmpty { return nil }
        return MapSpec(
            name: ".kconfig",
            type: .array,
            keySize: 4,
            valueSize: end,
            maxEntries: 1,
            flags: MapFlags.readOnlyForPrograms,
            contents: [UInt8](repeating: 0, count: end),
            isReadOnly: true,
            variables: variables,
            innerMap: nil
        )
    }

    /// Variables by the symbol table, which alone has their offsets; BTF adds the types.
    private func variables(_ section: ELFSection, isReadOnly: Bool) -> [VariableSpec] {
        var types: [String: UInt32] = [:]
        if let btf, let list = dataSection(section.name) {
            for index in 0..<list.count {
                guard let variable = btf[btf.sectionVariable(list, index).type], variable.kind == .variable else {
                    continue
                }
                types[btf.name(variable)] = variable.target
            }
        }
        var result: [VariableSpec] = []
        for symbol in file.symbols where symbol.section == section.index && symbol.kind == .object {
            guard !symbol.name.isEmpty, symbol.value <= section.size,
                symbol.size <= UInt64(section.size) - symbol.value
            else { continue }
            let type = types[symbol.name] ?? 0
            result.append(
                VariableSpec(
                    name: symbol.name,
                    offset: Int(symbol.value),
                    size: Int(symbol.size),
                    kind: type == 0 ? .other : kind(type),
                    isOption: isReadOnly && isConstVolatile(type),
                    type: type
                )
            )
        }
        return result.sorted { ($0.offset, $0.name) < ($1.offset, $1.name) }
    }

    func dataSection(_ name: String) -> BTFType? {
        guard let btf else { return nil }
        return btf.types(named: name).lazy.compactMap { btf[$0] }.first { $0.kind == .dataSection }
    }

    private func isConstVolatile(_ id: UInt32) -> Bool {
        guard let btf else { return false }
        var id = id
        var isConst = false
        var isVolatile = false
        for _ in 0..<BTF.depthLimit {
            guard let type = btf[id] else { return false }
            switch type.kind {
            case .const: isConst = true
            case .volatile: isVolatile = true
            case .typedef, .restrict, .typeTag: break
            // The qualifiers of an array stand at its elements.
            case .array:
                id = btf.array(type).element
                continue
            case .void, .integer, .pointer, .structure, .union, .enumeration, .forward, .function, .functionPrototype,
                .variable, .dataSection, .float, .declTag, .enum64:
                return isConst && isVolatile
            }
            id = type.target
        }
        return false
    }

    private func kind(_ id: UInt32) -> VariableSpec.Kind {
        guard let btf, let type = btf.underlying(id) else { return .other }
        switch type.kind {
        case .integer:
            let encoding = btf.encoding(type)
            if encoding & 4 != 0 { return .bool }
            if encoding & 2 != 0 || isCharacter(type) { return .character }
            return encoding & 1 != 0 ? .signed : .unsigned
        case .enumeration, .enum64: return type.flag ? .signed : .unsigned
        case .float: return .float
        case .array:
            guard let element = btf.underlying(btf.array(type).element), isCharacter(element) else { return .other }
            return .character
        case .void, .pointer, .structure, .union, .forward, .typedef, .volatile, .const, .restrict, .function,
            .functionPrototype, .variable, .dataSection, .declTag, .typeTag:
            return .other
        }
    }

    /// clang does not set `BTF_INT_CHAR`, so the name decides.
    private func isCharacter(_ type: BTFType) -> Bool {
        type.kind == .integer && type.size == 1 && btf?.name(type) == "char"
    }
}

/// Flags of `BPF_MAP_CREATE` that the loader itself sets.
enum MapFlags {
    /// `BPF_F_RDONLY_PROG`.
    static let readOnlyForPrograms: UInt32 = 0x80
}
