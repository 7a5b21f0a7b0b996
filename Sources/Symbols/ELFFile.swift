internal import CELF
internal import Glibc

/// Headers of an x86-64 ELF file, read straight from its mapped bytes.
final class ELFFile {
    struct Segment {
        var type: UInt32
        var flags: UInt32
        var offset: UInt64
        var address: UInt64
        var fileSize: UInt64
        var memorySize: UInt64
        var alignment: UInt64 = 0

        var isExecutable: Bool { flags & UInt32(PF_X) != 0 }
    }

    struct Section {
        var name: String
        var type: UInt32
        var link: UInt32
        var address: UInt64
        var offset: UInt64
        var size: UInt64
        var info: UInt32
    }

    let image: FileImage
    let type: UInt16
    let segments: [Segment]
    let sections: [Section]

    var path: String { image.path }

    init(path: String) throws(SymbolsError) {
        image = try FileImage(path: path)
        guard let ident = image.array(0, 16), ident.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else {
            throw .notELF(path, reason: "it does not start with the ELF magic")
        }
        guard ident[Int(EI_CLASS)] == UInt8(ELFCLASS64), ident[Int(EI_DATA)] == UInt8(ELFDATA2LSB) else {
            throw .notELF(path, reason: "it is 32-bit or big-endian")
        }
        guard let header = image.load(0, as: Elf64_Ehdr.self) else {
            throw .malformed(path, reason: "the ELF header is cut off")
        }
        guard header.e_machine == UInt16(EM_X86_64) else {
            throw .notELF(path, reason: "its machine is \(header.e_machine)")
        }
        type = header.e_type
        segments = try Self.readSegments(image, header)
        sections = try Self.readSections(image, header)
    }

    private static func readSegments(_ image: FileImage, _ header: Elf64_Ehdr) throws(SymbolsError) -> [Segment] {
        var segments: [Segment] = []
        for index in 0..<UInt64(header.e_phnum) {
            let (offset, overflow) = header.e_phoff.addingReportingOverflow(index * UInt64(header.e_phentsize))
            guard !overflow, let entry = image.load(offset, as: Elf64_Phdr.self) else {
                throw .malformed(image.path, reason: "program header \(index) lies beyond the end")
            }
            segments.append(
                Segment(
                    type: entry.p_type,
                    flags: entry.p_flags,
                    offset: entry.p_offset,
                    address: entry.p_vaddr,
                    fileSize: entry.p_filesz,
                    memorySize: entry.p_memsz,
                    alignment: entry.p_align
                )
            )
        }
        return segments
    }

    private static func readSections(_ image: FileImage, _ header: Elf64_Ehdr) throws(SymbolsError) -> [Section] {
        guard header.e_shoff != 0, header.e_shnum != 0 else { return [] }
        var raw: [Elf64_Shdr] = []
        for index in 0..<UInt64(header.e_shnum) {
            let (offset, overflow) = header.e_shoff.addingReportingOverflow(index * UInt64(header.e_shentsize))
            guard !overflow, let entry = image.load(offset, as: Elf64_Shdr.self) else {
                throw .malformed(image.path, reason: "section header \(index) lies beyond the end")
            }
            raw.append(entry)
        }
        let names = Int(header.e_shstrndx) < raw.count ? raw[Int(header.e_shstrndx)] : nil
        return raw.map { entry in
            let name = names.flatMap { table in
                image.string(
                    table.sh_offset &+ UInt64(entry.sh_name),
                    limit: table.sh_offset &+ table.sh_size
                )
            }
            return Section(
                name: name ?? "",
                type: entry.sh_type,
                link: entry.sh_link,
                address: entry.sh_addr,
                offset: entry.sh_offset,
                size: entry.sh_type == UInt32(SHT_NOBITS) ? 0 : entry.sh_size,
                info: entry.sh_info
            )
        }
    }

    func section(named name: String) -> Section? {
        sections.first { $0.name == name }
    }

    /// The file offset of a virtual address that a loadable segment takes from the file.
    func fileOffset(of address: UInt64) -> UInt64? {
        for segment in segments where segment.type == UInt32(PT_LOAD) {
            if address >= segment.address, address - segment.address < segment.fileSize {
                return segment.offset &+ (address - segment.address)
            }
        }
        return nil
    }

    /// Bytes at a virtual address, as many as the segment has, at most `count`.
    func bytes(at address: UInt64, upTo count: UInt64) -> [UInt8] {
        for segment in segments where segment.type == UInt32(PT_LOAD) {
            guard address >= segment.address, address - segment.address < segment.fileSize else { continue }
            let start = segment.offset &+ (address - segment.address)
            return image.array(start, min(count, segment.fileSize - (address - segment.address))) ?? []
        }
        return []
    }

    /// The GNU build id in lower-case hex.
    var buildID: String? {
        for (name, type, description) in notes() where name == "GNU" && type == UInt32(NT_GNU_BUILD_ID) {
            return description.map { byte in
                let text = String(byte, radix: 16)
                return byte < 16 ? "0" + text : text
            }.joined()
        }
        return nil
    }

    /// Every note: name, type, descriptor bytes (elf(5), "Notes").
    func notes() -> [(name: String, type: UInt32, description: [UInt8])] {
        var ranges: [(UInt64, UInt64)] = []
        for segment in segments where segment.type == UInt32(PT_NOTE) {
            ranges.append((segment.offset, segment.fileSize))
        }
        if ranges.isEmpty {
            for section in sections where section.type == UInt32(SHT_NOTE) {
                ranges.append((section.offset, section.size))
            }
        }
        var notes: [(name: String, type: UInt32, description: [UInt8])] = []
        for (start, size) in ranges where image.contains(start, size) {
            var offset = start
            while offset + 12 <= start + size, let header = image.load(offset, as: Elf64_Nhdr.self) {
                let nameStart = offset + 12
                let nameEnd = nameStart + (UInt64(header.n_namesz) + 3) & ~3
                let end = nameEnd + (UInt64(header.n_descsz) + 3) & ~3
                guard end <= start + size, let description = image.array(nameEnd, UInt64(header.n_descsz)) else {
                    break
                }
                let name = image.string(nameStart, limit: nameEnd) ?? ""
                notes.append((name, header.n_type, description))
                offset = end
            }
        }
        return notes
    }

    /// Entries of the dynamic section: tag and value.
    var dynamic: [(tag: Int64, value: UInt64)] {
        guard let segment = segments.first(where: { $0.type == UInt32(PT_DYNAMIC) }) else { return [] }
        var entries: [(tag: Int64, value: UInt64)] = []
        var offset = segment.offset
        while offset < segment.offset &+ segment.fileSize, let tag = image.load(offset, as: Int64.self),
            let value = image.load(offset + 8, as: UInt64.self)
        {
            if tag == Int64(DT_NULL) { break }
            entries.append((tag, value))
            offset += 16  // sizeof(Elf64_Dyn): the union in it keeps Swift from loading it whole
        }
        return entries
    }

    func dynamicValue(_ tag: Int32) -> UInt64? {
        dynamic.first { $0.tag == Int64(tag) }?.value
    }

    /// Strings that entries with `tag` of the dynamic section name (DT_NEEDED, DT_SONAME).
    func dynamicStrings(_ tag: Int32) -> [String] {
        guard let table = dynamicValue(DT_STRTAB).flatMap(fileOffset(of:)), let size = dynamicValue(DT_STRSZ) else {
            return []
        }
        return dynamic.filter { $0.tag == Int64(tag) }.compactMap {
            image.string(table &+ $0.value, limit: table &+ size)
        }
    }

    var soname: String? { dynamicStrings(DT_SONAME).first }

    /// The program interpreter, or nil.
    var interpreter: String? {
        guard let segment = segments.first(where: { $0.type == UInt32(PT_INTERP) }) else { return nil }
        return image.string(segment.offset, limit: segment.offset &+ segment.fileSize)
    }
}
