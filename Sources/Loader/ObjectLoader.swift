internal import Glibc
internal import ISA

/// Reads an object file; the result depends on nothing but its bytes and name.
package func loadObject(path: String) throws(LoaderError) -> ObjectSpec {
    try loadObject(bytes: readFile(path), name: path)
}

/// Reads an object from memory; `name` is a path or anything that tells the user which one it is.
package func loadObject(bytes: [UInt8], name: String) throws(LoaderError) -> ObjectSpec {
    var loader = try ObjectLoader(bytes, name)
    return try loader.load()
}

/// All bytes of a file.
package func readFile(_ path: String) throws(LoaderError) -> [UInt8] {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .unreadable(path, unsafe String(cString: strerror(errno))) }
    defer { close(descriptor) }
    var result: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let size = chunk.count
        let count = unsafe chunk.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, size) }
        if count == 0 { return result }
        if count < 0 {
            if errno == EINTR { continue }
            throw .unreadable(path, unsafe String(cString: strerror(errno)))
        }
        result += chunk[..<count]
        if result.count > 1 << 30 { throw .unreadable(path, "it is larger than 1 GiB") }
    }
}

/// From sections to a spec: maps first, then programs that refer to them.
private struct ObjectLoader {
    private let name: String
    private let file: ELFFile
    private let btf: BTF?
    private let details: BTFExtension
    private var maps: [MapSpec] = []
    private var externs: [ExternSpec] = []
    private var notes: [String] = []

    init(_ bytes: [UInt8], _ name: String) throws(LoaderError) {
        self.name = name
        file = try ELFFile(bytes, name: name)
        if let section = file.section(named: ".BTF"), section.size > 0 {
            btf = try BTF(section.bytes, name: "\(name): section '.BTF'")
        } else {
            btf = nil
        }
        if let btf, let section = file.section(named: ".BTF.ext"), section.size > 0 {
            details = try BTFExtension(section.bytes, strings: btf)
        } else {
            details = BTFExtension()
        }
    }

    mutating func load() throws(LoaderError) -> ObjectSpec {
        var symbols = SymbolTable(
            file: file,
            code: [:],
            maps: [:],
            mapsSection: file.section(named: ".maps")?.index,
            data: [:],
            configuration: nil,
            configurationOffsets: [:],
            externs: [:],
            externSpecs: []
        )
        try readSections(&symbols)
        try checkNames()
        readExterns(&symbols)
        let programs = try readPrograms(symbols)
        try fillElements(symbols, programs)
        var license = ""
        if let section = file.section(named: "license") {
            guard let text = section.bytes.cString(at: 0) else {
                throw .malformed("\(name): section 'license'", "it holds no zero-terminated string")
            }
            license = text
        }
        return ObjectSpec(
            name: baseName(name),
            license: license,
            maps: maps,
            programs: programs,
            externs: externs,
            btf: btf,
            notes: notes
        )
    }

    // MARK: Maps

    private mutating func readSections(_ symbols: inout SymbolTable) throws(LoaderError) {
        if file.section(named: "maps") != nil { throw .legacyMaps(name) }
        try readMaps(&symbols)
        let data = DataSections(btf: btf, file: file)
        for section in file.sections {
            if section.isCode {
                if section.size > 0 { symbols.code[section.index] = try CodeSection(section, file) }
            } else if let map = data.map(section) {
                symbols.data[section.index] = maps.count
                maps.append(map)
                if file.relocations[section.index] != nil {
                    notes.append("section '\(section.name)': pointers in global data stay 0")
                }
            } else if section.isAllocated, section.size > 0, !knownSections.contains(section.name) {
                notes.append("section '\(section.name)' is ignored")
            }
        }
        if let map = data.kernelConfiguration() {
            symbols.configuration = maps.count
            for variable in map.variables { symbols.configurationOffsets[variable.name] = variable.offset }
            maps.append(map)
        }
    }

    private mutating func readMaps(_ symbols: inout SymbolTable) throws(LoaderError) {
        guard let section = symbols.mapsSection else { return }
        let definitions = file.symbols.filter { $0.section == section && $0.kind == .object }
            .sorted { ($0.value, $0.name) < ($1.value, $1.name) }
        if definitions.isEmpty { return }
        guard let btf else { throw .noBTF(name, needs: "its maps") }
        var types: [String: UInt32] = [:]
        if let list = DataSections(btf: btf, file: file).dataSection(".maps") {
            for index in 0..<list.count {
                guard let variable = btf[btf.sectionVariable(list, index).type], variable.kind == .variable else {
                    continue
                }
                types[btf.name(variable)] = variable.target
            }
        }
        for symbol in definitions {
            guard let type = types[symbol.name] else { throw .badMap(symbol.name, "it has no type in BTF") }
            let definition = try MapDefinition(btf, map: symbol.name, type: type)
            guard let mapType = MapType(rawValue: definition.type) else {
                throw .unknownMapType(symbol.name, definition.type)
            }
            notes += definition.notes
            if symbols.maps.updateValue(maps.count, forKey: symbol.value) != nil {
                throw .badMap(symbol.name, "another map is at the same place")
            }
            maps.append(
                MapSpec(
                    name: symbol.name,
                    type: mapType,
                    keySize: definition.keySize,
                    valueSize: definition.valueSize,
                    maxEntries: Int(definition.maxEntries),
                    flags: definition.flags,
                    extra: definition.extra,
                    keyType: definition.keyType,
                    valueType: definition.valueType,
                    contents: nil,
                    isReadOnly: false,
                    variables: [],
                    innerMap: definition.inner,
                    isPinned: definition.isPinned
                )
            )
            if let offset = definition.valuesOffset {
                elementOffsets[maps.count - 1] = symbol.value &+ UInt64(offset)
            }
        }
    }

    /// Where in `.maps` the elements of a map begin.
    private var elementOffsets: [Int: UInt64] = [:]

    /// Relocations of `.maps` name the initial elements of maps of maps and arrays of programs.
    private mutating func fillElements(_ symbols: SymbolTable, _ programs: [ProgramSpec]) throws(LoaderError) {
        guard let section = symbols.mapsSection else { return }
        for relocation in file.relocations[section] ?? [] {
            let place = "\(name): section '.maps', offset \(relocation.offset)"
            let symbol = file.symbols[relocation.symbol]
            let owner = elementOffsets.filter { $0.value <= relocation.offset }.max { $0.value < $1.value }
            guard relocation.type == RelocationType.absolute64, let owner else {
                throw .badRelocation(place, "no map has elements there")
            }
            let distance = relocation.offset - owner.value
            guard distance % 8 == 0, distance < 1 << 32 else {
                throw .badRelocation(place, "it is not at the start of an element")
            }
            let value: MapSpec.InitialElement.Value
            if symbol.section == section, let map = symbols.maps[symbol.value] {
                value = .map(map)
            } else if programs.contains(where: { $0.name == symbol.name }), symbol.kind == .function {
                value = .program(symbol.name)
            } else {
                throw .badRelocation(place, "'\(symbol.name)' is neither a map nor a program")
            }
            maps[owner.key].initialElements.append(.init(index: Int(distance / 8), value: value))
        }
    }

    private func checkNames() throws(LoaderError) {
        var seen: Set<String> = []
        for map in maps where !seen.insert(map.name).inserted { throw .duplicateName("map", map.name) }
        seen = []
        for section in file.sections where section.isCode && section.size > 0 {
            // BTF.ext refers to sections by name.
            if !seen.insert(section.name).inserted { throw .duplicateName("section", section.name) }
        }
    }

    // MARK: Programs

    private mutating func readExterns(_ symbols: inout SymbolTable) {
        guard let btf, let list = DataSections(btf: btf, file: file).dataSection(".ksyms") else { return }
        let weak = Set(file.symbols.filter { $0.isUndefined && $0.isWeak }.map(\.name))
        for index in 0..<list.count {
            guard let type = btf[btf.sectionVariable(list, index).type],
                type.kind == .variable || type.kind == .function
            else { continue }
            let title = btf.name(type)
            symbols.externs[title] = externs.count
            externs.append(
                ExternSpec(
                    name: title,
                    isFunction: type.kind == .function,
                    isWeak: weak.contains(title),
                    type: type.target
                )
            )
        }
        symbols.externSpecs = externs
    }

    private mutating func readPrograms(_ symbols: SymbolTable) throws(LoaderError) -> [ProgramSpec] {
        let builder = ProgramBuilder(btf: btf, details: details)
        var programs: [ProgramSpec] = []
        var seen: Set<String> = []
        for index in symbols.code.keys.sorted() {
            guard let section = symbols.code[index], section.name != ".text" else { continue }
            if section.functions.isEmpty { throw .noFunctions(section.name) }
            for function in section.functions {
                if function.isLocal {
                    notes.append("function '\(function.name)' in section '\(section.name)' is static, so no program")
                    continue
                }
                if !seen.insert(function.name).inserted { throw .duplicateName("program", function.name) }
                let linked = try Linker.link(function, symbols)
                programs.append(try builder.build(function, section: section, linked, symbols.code))
            }
        }
        return programs
    }
}

/// Sections that say nothing to a loader.
private let knownSections: Set<String> = [".maps", "license", "version", ".eh_frame", ".BTF", ".BTF.ext", "maps"]

/// `memleak` for `/x/memleak.bpf.o`.
private func baseName(_ path: String) -> String {
    var base = path.split(separator: "/").last.map(String.init) ?? path
    for suffix in [".bpf.o", ".o"] where base.hasSuffix(suffix) && base.count > suffix.count {
        base.removeLast(suffix.count)
        return base
    }
    return base
}
