internal import CELF
internal import Glibc

/// What the dynamic loader does with a file, as far as a thread of its process is made of it.
package struct LoaderLayout: Sendable {
    /// The template of a module's thread-local variables (PT_TLS); addresses are those in the file.
    package struct ThreadStorage: Equatable, Sendable {
        package var address: UInt64
        package var fileSize: UInt64
        package var memorySize: UInt64
        package var alignment: UInt64
        /// A slot that the loader fills with an offset from the thread pointer (R_X86_64_TPOFF64), and the offset in the module's block
        /// that it is for.
        package var offsetSlot: Slot?
    }

    package struct Slot: Equatable, Sendable {
        package var address: UInt64
        package var target: UInt64
    }

    /// Address and size of the dynamic section in memory.
    package var dynamic: Range<UInt64>?
    package var threadStorage: ThreadStorage?

    package init(path: String) throws(SymbolsError) {
        let file = try ELFFile(path: path)
        if let segment = file.segments.first(where: { $0.type == UInt32(PT_DYNAMIC) }) {
            dynamic = segment.address..<segment.address &+ max(segment.memorySize, 1)
        }
        if let segment = file.segments.first(where: { $0.type == UInt32(PT_TLS) }), segment.memorySize > 0 {
            threadStorage = ThreadStorage(
                address: segment.address,
                fileSize: segment.fileSize,
                memorySize: segment.memorySize,
                alignment: max(segment.alignment, 1),
                offsetSlot: Self.offsetSlot(file)
            )
        }
    }

    /// The first relocation of that kind against a variable of the module itself (x86-64 psABI 4.4.1).
    private static func offsetSlot(_ file: ELFFile) -> Slot? {
        guard let table = file.dynamicValue(DT_RELA), let size = file.dynamicValue(DT_RELASZ),
            let start = file.fileOffset(of: table)
        else { return nil }
        let symbols = file.dynamicValue(DT_SYMTAB).flatMap(file.fileOffset(of:))
        for offset in stride(from: start, to: start &+ size, by: MemoryLayout<Elf64_Rela>.size) {
            guard let entry = file.image.load(offset, as: Elf64_Rela.self) else { return nil }
            guard entry.r_info & 0xFFFF_FFFF == UInt64(R_X86_64_TPOFF64) else { continue }
            var target = UInt64(bitPattern: entry.r_addend)
            let index = entry.r_info >> 32
            if index != 0 {
                guard let symbols,
                    let symbol = file.image.load(
                        symbols &+ index * UInt64(MemoryLayout<Elf64_Sym>.size),
                        as: Elf64_Sym.self
                    ), symbol.st_shndx != 0
                else { continue }
                target &+= symbol.st_value
            }
            return Slot(address: entry.r_offset, target: target)
        }
        return nil
    }
}

extension ModuleSymbols {
    /// The address in the file of an exported variable.
    package func exportedVariable(_ name: String) -> UInt64? {
        guard let symbols = file.sections.first(where: { $0.type == UInt32(SHT_DYNSYM) }),
            Int(symbols.link) < file.sections.count
        else { return nil }
        let strings = file.sections[Int(symbols.link)]
        for index in 0..<symbols.size / UInt64(MemoryLayout<Elf64_Sym>.size) {
            let offset = symbols.offset &+ index * UInt64(MemoryLayout<Elf64_Sym>.size)
            guard let symbol = file.image.load(offset, as: Elf64_Sym.self) else { return nil }
            guard symbol.st_info & 0xF == UInt8(STT_OBJECT), symbol.st_shndx != 0,
                file.image.string(strings.offset &+ UInt64(symbol.st_name), limit: strings.offset &+ strings.size)
                    == name
            else { continue }
            return symbol.st_value
        }
        return nil
    }
}
