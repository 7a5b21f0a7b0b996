/// A section with code or something that belongs to one.
struct ELFSection {
    /// `sh_type`: 1 bytes, 2 symbols, 9 relocations.
    var type: UInt32
    var flags: UInt64
    var link: UInt32
    var info: UInt32
    var name: UInt32
    /// Its bytes; none for `.bss`.
    var bytes: ByteView

    var isCode: Bool { type == 1 && flags & 4 != 0 && bytes.count != 0 }
}

/// A function: slots of a section.
struct ELFFunction {
    var section: Int
    var start: Int
    var end: Int
    /// In the string table; 0 for a section without function symbols.
    var name: UInt32
}

/// An instruction that refers to a symbol.
struct ELFRelocation {
    /// The section and the slot of the instruction.
    var section: Int
    var slot: Int
    var type: UInt32
    var symbol: Int
}

/// What a symbol stands for.
struct ELFSymbol {
    var name: UInt32
    var kind: UInt8
    var section: Int
    var value: UInt64
    var size: UInt64
}

/// A relocatable BPF object, as clang writes them (System V ABI, chapter 4; LLVM `ELFRelocs/BPF.def`).
///
/// Only what programs without maps and global data need. Sections that together are longer than the file, which overlapping
/// ones could be, are refused: that bounds all work by the size of the file.
struct ELFObject {
    private(set) var sections: [ELFSection] = []
    /// By section and start, without overlaps.
    private(set) var functions: [ELFFunction] = []
    /// Those of code, by section and slot.
    private(set) var relocations: [ELFRelocation] = []
    private var names = ByteView([])
    private var symbols = ByteView([])
    private var strings = ByteView([])

    private static let headerSize: UInt64 = 64
    private static let sectionSize: UInt64 = 64
    private static let symbolSize = 24
    private static let relocationSize = 16
    /// Bytes of a name that are read to show it.
    private static let nameLimit = 64

    init(_ bytes: [UInt8]) throws(EmbeddingError) {
        let file = ByteView(bytes)
        guard file.u32(0) == 0x464c_457f else { throw .notELF }
        guard file.part(0, Self.headerSize) != nil else { throw .truncated("the file header") }
        // 64 bits, little-endian, ET_REL, EM_BPF.
        guard file.u8(4) == 2, file.u8(5) == 1, file.u16(16) == 1, file.u16(18) == 247 else { throw .notBPF }
        try readSections(file)
        try readSymbols()
        try readFunctions()
        try readRelocations()
    }

    private mutating func readSections(_ file: ByteView) throws(EmbeddingError) {
        let count = UInt64(file.u16(60))
        guard count != 0, UInt64(file.u16(58)) == Self.sectionSize else { throw .malformed("it has no section table") }
        guard let table = file.part(file.u64(40), count * Self.sectionSize) else {
            throw .truncated("the section table")
        }
        var total: UInt64 = 0
        for index in 0..<Int(count) {
            let at = index * Int(Self.sectionSize)
            let type = table.u32(at + 4)
            var bytes = ByteView([])
            // SHT_NULL and SHT_NOBITS have no bytes.
            if type != 0, type != 8 {
                guard let part = file.part(table.u64(at + 24), table.u64(at + 32)) else {
                    throw .truncated("a section")
                }
                bytes = part
                total += UInt64(part.count)
                guard total <= UInt64(file.count) else { throw .malformed("its sections overlap") }
            }
            sections.append(
                ELFSection(
                    type: type,
                    flags: table.u64(at + 8),
                    link: table.u32(at + 40),
                    info: table.u32(at + 44),
                    name: table.u32(at),
                    bytes: bytes
                )
            )
        }
        let namesIndex = Int(file.u16(62))
        guard namesIndex < sections.count else { throw .malformed("it has no section names") }
        names = sections[namesIndex].bytes
    }

    private mutating func readSymbols() throws(EmbeddingError) {
        guard let table = sections.first(where: { $0.type == 2 }) else { return }
        guard Int(table.link) < sections.count, table.bytes.count % Self.symbolSize == 0 else {
            throw .malformed("its symbol table has no strings or ends inside a symbol")
        }
        symbols = table.bytes
        strings = sections[Int(table.link)].bytes
    }

    private mutating func readFunctions() throws(EmbeddingError) {
        for index in 0..<symbols.count / Self.symbolSize {
            // STT_FUNC
            guard let symbol = symbol(index), symbol.kind == 2, symbol.section < sections.count,
                sections[symbol.section].isCode
            else { continue }
            let size = UInt64(sections[symbol.section].bytes.count)
            guard symbol.value < size, symbol.size <= size - symbol.value, symbol.value % 8 == 0, symbol.size % 8 == 0
            else { throw .malformed("a function lies outside its section or between instructions") }
            functions.append(
                ELFFunction(
                    section: symbol.section,
                    start: Int(symbol.value / 8),
                    end: Int((symbol.value + symbol.size) / 8),
                    name: symbol.name
                )
            )
        }
        functions.sort { ($0.section, $0.start, $0.end) < ($1.section, $1.start, $1.end) }
        for index in functions.indices {
            let function = functions[index]
            var limit = sections[function.section].bytes.count / 8
            if index + 1 < functions.count, functions[index + 1].section == function.section {
                limit = functions[index + 1].start
            }
            // Assembler without `.size`.
            if function.end == function.start { functions[index].end = limit }
            guard functions[index].start < functions[index].end, functions[index].end <= limit else {
                throw .malformed("two functions overlap")
            }
        }
    }

    private mutating func readRelocations() throws(EmbeddingError) {
        for table in sections where Int(table.info) < sections.count && sections[Int(table.info)].isCode {
            // SHT_RELA has addends, which clang does not make for BPF.
            if table.type == 4 { throw .malformed("its relocations have addends") }
            guard table.type == 9 else { continue }
            guard table.bytes.count % Self.relocationSize == 0 else {
                throw .malformed("a table ends inside a relocation")
            }
            let section = Int(table.info)
            for at in stride(from: 0, to: table.bytes.count, by: Self.relocationSize) {
                let offset = table.bytes.u64(at)
                guard offset % 8 == 0, offset < UInt64(sections[section].bytes.count) else {
                    throw .malformed("a relocation lies outside its section or between instructions")
                }
                relocations.append(
                    ELFRelocation(
                        section: section,
                        slot: Int(offset / 8),
                        type: table.bytes.u32(at + 8),
                        symbol: Int(table.bytes.u32(at + 12))
                    )
                )
            }
        }
        relocations.sort { ($0.section, $0.slot) < ($1.section, $1.slot) }
    }

    // MARK: Questions

    func symbol(_ index: Int) -> ELFSymbol? {
        guard index >= 0, index < symbols.count / Self.symbolSize else { return nil }
        let at = index * Self.symbolSize
        return ELFSymbol(
            name: symbols.u32(at),
            kind: symbols.u8(at + 4) & 15,
            section: Int(symbols.u16(at + 6)),
            value: symbols.u64(at + 8),
            size: symbols.u64(at + 16)
        )
    }

    func name(of symbol: ELFSymbol) -> ArraySlice<UInt8> {
        // STT_SECTION has its section's name.
        symbol.kind == 3 && symbol.section < sections.count
            ? names.string(sections[symbol.section].name, limit: Self.nameLimit)
            : strings.string(symbol.name, limit: Self.nameLimit)
    }

    func name(of function: ELFFunction) -> ArraySlice<UInt8> {
        function.name == 0
            ? names.string(sections[function.section].name, limit: Self.nameLimit)
            : strings.string(function.name, limit: Self.nameLimit)
    }

    /// The function of that name.
    func function(named name: [UInt8]) -> Int? {
        functions.firstIndex {
            $0.name != 0 && strings.string($0.name, limit: name.count + 1).elementsEqual(name)
        }
    }

    /// The section with code of that name.
    func codeSection(named name: [UInt8]) -> Int? {
        sections.firstIndex { $0.isCode && names.string($0.name, limit: name.count + 1).elementsEqual(name) }
    }

    /// The function that starts at a slot, or the first one behind it; `functions.count` if there is none.
    private func search(_ section: Int, _ slot: Int) -> Int {
        var low = 0
        var high = functions.count
        while low < high {
            let middle = (low + high) / 2
            if (functions[middle].section, functions[middle].start) < (section, slot) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }

    /// The function that starts at a slot of a section.
    func function(_ section: Int, at slot: Int) -> Int? {
        let index = search(section, slot)
        guard index < functions.count, functions[index].section == section, functions[index].start == slot else {
            return nil
        }
        return index
    }

    /// The first relocation of a section from a slot on; `relocations.count` if there is none.
    func firstRelocation(_ section: Int, from slot: Int) -> Int {
        var low = 0
        var high = relocations.count
        while low < high {
            let middle = (low + high) / 2
            if (relocations[middle].section, relocations[middle].slot) < (section, slot) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }

    /// The relocation of a slot, which `next` comes to.
    func relocation(_ section: Int, _ slot: Int, _ next: inout Int) throws(EmbeddingError) -> ELFRelocation? {
        func isAt(_ index: Int) -> Bool {
            index < relocations.count && relocations[index].section == section && relocations[index].slot == slot
        }
        guard isAt(next) else { return nil }
        next += 1
        if isAt(next) { throw .malformed("an instruction has two relocations") }
        return relocations[next - 1]
    }

    /// The function at the start of a section; where no symbol says so, the slots up to the first function.
    mutating func firstFunction(_ section: Int) -> Int {
        let index = search(section, 0)
        var end = sections[section].bytes.count / 8
        if index < functions.count, functions[index].section == section {
            if functions[index].start == 0 { return index }
            end = functions[index].start
        }
        functions.insert(ELFFunction(section: section, start: 0, end: end, name: 0), at: index)
        return index
    }
}
