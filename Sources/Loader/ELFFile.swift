internal import CELF
internal import Glibc

/// A section of an object, with its bytes; `.bss` has none.
struct ELFSection: Sendable {
    var index: Int
    var name: String
    var type: UInt32
    var flags: UInt64
    var size: Int
    var link: Int
    var info: Int
    var bytes: [UInt8]

    var isCode: Bool { type == 1 && flags & 4 != 0 }
    var isAllocated: Bool { flags & 2 != 0 }
}

/// A symbol; `section` is nil for undefined, absolute and common ones.
struct ELFSymbol: Sendable {
    enum Kind: UInt8 {
        case none, object, function, section, file, common, tls
    }

    var name: String
    var kind: Kind
    var isLocal: Bool
    var isWeak: Bool
    /// Seen by nobody outside the object (STV_HIDDEN, STV_INTERNAL).
    var isHidden = false
    var isUndefined: Bool
    var section: Int?
    var value: UInt64
    var size: UInt64
}

/// One `Elf64_Rel`.
struct ELFRelocation: Sendable {
    /// Bytes from the start of the relocated section.
    var offset: UInt64
    var type: UInt32
    var symbol: Int
}

/// A BPF object file taken apart: sections, symbols and relocations, nothing interpreted.
struct ELFFile: Sendable {
    var sections: [ELFSection]
    var symbols: [ELFSymbol]
    /// Relocations by the index of the section that they patch.
    var relocations: [Int: [ELFRelocation]]

    func section(named name: String) -> ELFSection? { sections.first { $0.name == name } }
}

extension ELFFile {
    init(_ bytes: [UInt8], name: String) throws(LoaderError) {
        try Self.checkHeader(bytes, name)
        guard let image = ELFImage.open(bytes) else { throw .truncated(name, "the ELF header") }
        guard let headers = image.sectionHeaders() else { throw .truncated(name, "the section header table") }
        sections = []
        var relocationHeaders: [ELFSection] = []
        for (index, header) in headers.enumerated() {
            guard let title = image.sectionName(header) else {
                throw .malformed("\(name): section \(index)", "its name lies outside of the string table")
            }
            let place = "\(name): section '\(title)'"
            // SHT_NOBITS, SHT_NULL
            let isEmpty = header.sh_type == 8 || header.sh_type == 0
            guard let content = isEmpty ? [] : bytes.slice(at: header.sh_offset, size: header.sh_size) else {
                throw .truncated(place, "its content")
            }
            guard header.sh_size < 1 << 31 else { throw .malformed(place, "it is larger than 2 GiB") }
            let section = ELFSection(
                index: index,
                name: title,
                type: header.sh_type,
                flags: header.sh_flags,
                size: Int(header.sh_size),
                link: Int(header.sh_link),
                info: Int(header.sh_info),
                bytes: content
            )
            sections.append(section)
            switch header.sh_type {
            case 9: relocationHeaders.append(section)
            case 4 where section.size > 0:
                throw .unsupportedRelocation(place, "RELA records, which BPF does not use", help: compilerHelp)
            default: break
            }
        }
        symbols = try Self.symbols(sections, name)
        relocations = [:]
        for section in relocationHeaders {
            guard sections.indices.contains(section.info), section.info > 0 else {
                throw .malformed("\(name): section '\(section.name)'", "it relocates a section that does not exist")
            }
            if section.size == 0 { continue }
            let records = try Self.relocations(section, symbolCount: symbols.count, name)
            if relocations.updateValue(records, forKey: section.info) != nil {
                throw .malformed("\(name): section '\(section.name)'", "it is the second one for the same section")
            }
        }
    }

    /// A section of any ELF file; nil where there is none, or the file is damaged.
    static func bytes(ofSection name: String, in bytes: [UInt8]) -> [UInt8]? {
        guard let image = ELFImage.open(bytes), let headers = image.sectionHeaders() else { return nil }
        let found = headers.first { $0.sh_type != 8 && image.sectionName($0) == name }
        return found.flatMap { bytes.slice(at: $0.sh_offset, size: $0.sh_size) }
    }

    /// Class, byte order, machine and type, with a message for each way to hold the wrong file.
    private static func checkHeader(_ bytes: [UInt8], _ name: String) throws(LoaderError) {
        if bytes.isEmpty { throw .notELF(name, looksLike: "empty") }
        guard bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46]) else {
            let isText = bytes.prefix(512).allSatisfy { $0 >= 9 && $0 != 127 }
            if isText, name.hasSuffix(".c") {
                throw .notELF(name, looksLike: "C source", help: "its name must end in .bpf.c to be compiled: mv it")
            }
            throw .notELF(name, looksLike: isText ? "a text file" : "something else")
        }
        guard bytes.count >= 64 else { throw .truncated(name, "the ELF header") }
        let isBigEndian = bytes[5] == 2
        let machine =
            isBigEndian ? UInt16(bytes[18]) << 8 | UInt16(bytes[19]) : UInt16(bytes[19]) << 8 | UInt16(bytes[18])
        guard machine == 247 else { throw .otherMachine(name, machineName(machine)) }
        if isBigEndian { throw .bigEndian(name) }
        guard bytes[4] == 2 else { throw .notELF64(name) }
        guard bytes[5] == 1 else { throw .malformed(name, "the ELF header names no byte order") }
        guard bytes[16] == 1, bytes[17] == 0 else { throw .notRelocatable(name) }
        // The table lies at the end of what compilers write: a file that was cut off has lost it, and libelf shows no section.
        let table = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[0x28 + $1]) << UInt64(8 * $1) }
        let count = UInt64(bytes[0x3c]) | UInt64(bytes[0x3d]) << 8
        guard table <= UInt64(bytes.count), UInt64(bytes.count) - table >= max(1, count) * 64 else {
            throw .truncated(name, "the section header table")
        }
    }

    private static func symbols(_ sections: [ELFSection], _ name: String) throws(LoaderError) -> [ELFSymbol] {
        guard let table = sections.first(where: { $0.type == 2 }) else { return [] }
        let place = "\(name): section '\(table.name)'"
        guard table.size % 24 == 0 else { throw .malformed(place, "its size is no multiple of a symbol's") }
        guard sections.indices.contains(table.link), sections[table.link].type == 3 else {
            throw .malformed(place, "it has no string table")
        }
        let strings = sections[table.link].bytes
        var result: [ELFSymbol] = []
        result.reserveCapacity(table.size / 24)
        for at in stride(from: 0, to: table.bytes.count, by: 24) {
            guard let nameOffset = table.bytes.u32(at: at), let info = table.bytes.u8(at: at + 4),
                let other = table.bytes.u8(at: at + 5), let index = table.bytes.u16(at: at + 6),
                let value = table.bytes.u64(at: at + 8),
                let size = table.bytes.u64(at: at + 16)
            else { throw .truncated(place, "symbol \(at / 24)") }
            let title = nameOffset == 0 ? "" : strings.cString(at: Int(nameOffset))
            guard let title else {
                throw .malformed(place, "the name of symbol \(at / 24) lies outside of the string table")
            }
            // SHN_LORESERVE and above are no indices of sections.
            guard index >= 0xff00 || Int(index) < sections.count else {
                throw .malformed(place, "symbol '\(title)' is in section \(index), which does not exist")
            }
            result.append(
                ELFSymbol(
                    name: title,
                    kind: ELFSymbol.Kind(rawValue: info & 15) ?? .none,
                    isLocal: info >> 4 == 0,
                    isWeak: info >> 4 == 2,
                    isHidden: other & 3 == 1 || other & 3 == 2,
                    isUndefined: index == 0,
                    section: index == 0 || index >= 0xff00 ? nil : Int(index),
                    value: value,
                    size: size
                )
            )
        }
        return result
    }

    private static func relocations(
        _ section: ELFSection,
        symbolCount: Int,
        _ name: String
    ) throws(LoaderError) -> [ELFRelocation] {
        let place = "\(name): section '\(section.name)'"
        guard section.size % 16 == 0 else { throw .malformed(place, "its size is no multiple of a record's") }
        var result: [ELFRelocation] = []
        result.reserveCapacity(section.size / 16)
        for at in stride(from: 0, to: section.bytes.count, by: 16) {
            guard let offset = section.bytes.u64(at: at), let info = section.bytes.u64(at: at + 8) else {
                throw .truncated(place, "record \(at / 16)")
            }
            guard info >> 32 < UInt64(symbolCount) else {
                throw .badRelocation(place, "record \(at / 16) names symbol \(info >> 32) of \(symbolCount)")
            }
            result.append(
                ELFRelocation(offset: offset, type: UInt32(truncatingIfNeeded: info), symbol: Int(info >> 32))
            )
        }
        return result
    }
}

private let compilerHelp = "compile with clang 14 or newer"

private func machineName(_ machine: UInt16) -> String {
    switch machine {
    case 3: "an i386"
    case 8: "a MIPS"
    case 21: "a PowerPC64"
    case 22: "an s390"
    case 40: "an ARM"
    case 62: "an x86-64"
    case 183: "an AArch64"
    case 243: "a RISC-V"
    case 258: "a LoongArch"
    default: "a machine-\(machine)"
    }
}

/// Owns a libelf descriptor and the bytes that it reads.
@safe private struct ELFImage: ~Copyable {
    private let elf: OpaquePointer
    private let buffer: UnsafeMutableRawBufferPointer

    private init(elf: OpaquePointer, buffer: UnsafeMutableRawBufferPointer) {
        unsafe self.elf = elf
        unsafe self.buffer = buffer
    }

    deinit {
        unsafe elf_end(elf)
        unsafe buffer.deallocate()
    }

    static func open(_ bytes: [UInt8]) -> ELFImage? {
        guard elf_version(UInt32(EV_CURRENT)) != UInt32(EV_NONE) else { return nil }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
        unsafe buffer.copyBytes(from: bytes)
        let start = unsafe buffer.baseAddress?.assumingMemoryBound(to: CChar.self)
        guard let elf = unsafe elf_memory(start, bytes.count) else {
            unsafe buffer.deallocate()
            return nil
        }
        return unsafe ELFImage(elf: elf, buffer: buffer)
    }

    /// All section headers; nil if one lies outside of the file.
    func sectionHeaders() -> [GElf_Shdr]? {
        var count = 0
        guard unsafe elf_getshdrnum(elf, &count) == 0, unsafe count <= buffer.count / 64 else { return nil }
        var result: [GElf_Shdr] = []
        result.reserveCapacity(count)
        for index in 0..<count {
            var header = GElf_Shdr()
            guard let section = unsafe elf_getscn(elf, index), unsafe gelf_getshdr(section, &header) != nil else {
                return nil
            }
            result.append(header)
        }
        return result
    }

    func sectionName(_ header: GElf_Shdr) -> String? {
        var names = 0
        guard unsafe elf_getshdrstrndx(elf, &names) == 0 else { return nil }
        // The null section may be asked for a name in a file without any.
        if names == 0, header.sh_name == 0 { return "" }
        guard let name = unsafe elf_strptr(elf, names, Int(header.sh_name)) else { return nil }
        return unsafe String(cString: name)
    }
}
