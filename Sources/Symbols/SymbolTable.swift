internal import CELF
internal import Glibc

/// One function symbol of a module.
package struct FunctionSymbol: Equatable, Hashable, Sendable {
    package var name: String
    /// The symbol's version (`GLIBC_2.34`), or nil.
    package var version: String?
    /// Whether the version is the one that new programs link to (`name@@VERSION`).
    package var isDefaultVersion: Bool
    /// Virtual address in the file; add the load bias.
    package var address: UInt64
    package var size: UInt64
    /// `STT_GNU_IFUNC`: the address is that of a resolver, which returns the function.
    package var isIndirect: Bool
    /// Neither static nor hidden.
    package var isExported: Bool

    package init(
        name: String,
        version: String?,
        isDefaultVersion: Bool,
        address: UInt64,
        size: UInt64,
        isIndirect: Bool,
        isExported: Bool
    ) {
        self.name = name
        self.version = version
        self.isDefaultVersion = isDefaultVersion
        self.address = address
        self.size = size
        self.isIndirect = isIndirect
        self.isExported = isExported
    }

    package var range: Range<UInt64> { address..<address &+ max(size, 1) }

    /// The name with its version as `nm` writes it.
    package var versionedName: String {
        guard let version else { return name }
        return name + (isDefaultVersion ? "@@" : "@") + version
    }
}

/// A `.symtab` or `.dynsym` of one file.
struct SymbolTable {
    private let file: ELFFile
    private let symbols: ELFFile.Section
    private let strings: ELFFile.Section
    /// Version index of each symbol (`.gnu.version`), only for `.dynsym`.
    private let versions: ELFFile.Section?
    private let versionNames: [UInt16: String]

    init?(_ file: ELFFile, type: Int32) {
        guard let symbols = file.sections.first(where: { $0.type == UInt32(type) && $0.size > 0 }),
            Int(symbols.link) < file.sections.count
        else { return nil }
        self.file = file
        self.symbols = symbols
        strings = file.sections[Int(symbols.link)]
        guard file.image.contains(symbols.offset, symbols.size), file.image.contains(strings.offset, strings.size)
        else {
            return nil
        }
        if type == SHT_DYNSYM {
            versions = file.sections.first { $0.type == 0x6FFF_FFFF }  // SHT_GNU_versym
            versionNames = Self.readVersionNames(file)
        } else {
            versions = nil
            versionNames = [:]
        }
    }

    /// Names of the versions a file defines (`.gnu.version_d`; LSB Core 10.7.2).
    private static func readVersionNames(_ file: ELFFile) -> [UInt16: String] {
        guard let section = file.sections.first(where: { $0.type == 0x6FFF_FFFD }),  // SHT_GNU_verdef
            Int(section.link) < file.sections.count
        else { return [:] }
        let strings = file.sections[Int(section.link)]
        var names: [UInt16: String] = [:]
        var offset = section.offset
        for _ in 0..<section.info {
            guard let definition = file.image.load(offset, as: Elf64_Verdef.self),
                let first = file.image.load(offset &+ UInt64(definition.vd_aux), as: Elf64_Verdaux.self)
            else { break }
            names[definition.vd_ndx] = file.image.string(
                strings.offset &+ UInt64(first.vda_name),
                limit: strings.offset &+ strings.size
            )
            if definition.vd_next == 0 { break }
            offset &+= UInt64(definition.vd_next)
        }
        return names
    }

    /// Calls `body` with every defined function's index and record; `name` is a C string inside the table.
    private func forEach(_ body: (Int, Elf64_Sym, UnsafeRawBufferPointer) -> Void) {
        unsafe file.image.withBytes(symbols.offset, symbols.size) { records in
            unsafe file.image.withBytes(strings.offset, strings.size) { names in
                for index in 0..<(records.count / MemoryLayout<Elf64_Sym>.size) {
                    let offset = index * MemoryLayout<Elf64_Sym>.size
                    let info = unsafe records[offset + 4] & 0xF
                    guard info == UInt8(STT_FUNC) || info == UInt8(STT_GNU_IFUNC) else { continue }
                    let record = unsafe records.loadUnaligned(fromByteOffset: offset, as: Elf64_Sym.self)
                    guard record.st_shndx != 0, Int(record.st_name) < names.count, record.st_value != 0 else {
                        continue
                    }
                    let name = unsafe UnsafeRawBufferPointer(rebasing: names[Int(record.st_name)...])
                    unsafe body(index, record, name)
                }
            }
        }
    }

    private func symbol(_ index: Int, _ record: Elf64_Sym, _ name: UnsafeRawBufferPointer) -> FunctionSymbol {
        let length = unsafe name.firstIndex(of: 0) ?? name.count
        let whole = unsafe String(decoding: name[..<length], as: UTF8.self)
        var symbol = FunctionSymbol(
            name: whole,
            version: nil,
            isDefaultVersion: false,
            address: record.st_value,
            size: record.st_size,
            isIndirect: record.st_info & 0xF == UInt8(STT_GNU_IFUNC),
            isExported: record.st_info >> 4 != UInt8(STB_LOCAL) && record.st_other & 3 != UInt8(STV_HIDDEN)
        )
        if let versions, let raw = file.image.load(versions.offset &+ UInt64(index * 2), as: UInt16.self),
            raw & 0x7FFF > 1
        {
            symbol.version = versionNames[raw & 0x7FFF]
            symbol.isDefaultVersion = raw & 0x8000 == 0
        } else if let at = whole.firstIndex(of: "@"), at != whole.startIndex {
            // The linker spells versions out in .symtab.
            let rest = whole[whole.index(after: at)...]
            symbol.name = String(whole[..<at])
            symbol.isDefaultVersion = rest.first == "@"
            symbol.version = String(rest.drop { $0 == "@" })
        }
        return symbol
    }

    /// Every function.
    func all() -> [FunctionSymbol] {
        var found: [FunctionSymbol] = []
        unsafe forEach { unsafe found.append(symbol($0, $1, $2)) }
        return found
    }

    /// Functions with exactly this name, in any version.
    func named(_ name: [UInt8]) -> [FunctionSymbol] {
        var found: [FunctionSymbol] = []
        unsafe forEach { index, record, text in
            guard text.count > name.count else { return }
            for position in name.indices where unsafe text[position] != name[position] { return }
            let end = unsafe text[name.count]
            guard end == 0 || end == UInt8(ascii: "@") else { return }
            unsafe found.append(symbol(index, record, text))
        }
        return found
    }

    /// Start and end of every function, without names.
    func ranges() -> [Range<UInt64>] {
        var found: [Range<UInt64>] = []
        unsafe forEach { _, record, _ in found.append(record.st_value..<record.st_value &+ max(record.st_size, 1)) }
        return found
    }
}
