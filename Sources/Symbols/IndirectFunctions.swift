internal import CELF
internal import Glibc

/// Finds what an IFUNC symbol of a running process resolves to, without running its resolver.
package enum IndirectFunctions {
    /// Run-time addresses that the process's GOT slots hold for `symbol`, distinct, in ascending order.
    ///
    /// The dynamic linker has stored the resolver's results: in the module's own IRELATIVE slots (x86-64 psABI, 4.4.1)
    /// and in slots of other modules that name the symbol. Slots not bound yet lead into a PLT and do not count.
    package static func implementations(
        of symbol: FunctionSymbol,
        in module: LoadedModule,
        symbols: ModuleSymbols,
        maps: ProcessMaps
    ) throws(SymbolsError) -> [UInt64] {
        var found: Set<UInt64> = []
        for user in maps.modules where !user.isVDSO {
            let isOwner = user == module
            guard let file = isOwner ? symbols.file : try? ELFFile(path: user.openPath) else { continue }
            for slot in slots(in: file, for: symbol, isOwner: isOwner) {
                guard let bytes = try? readMemory(pid: maps.reader, address: slot &+ user.bias, count: 8) else {
                    continue
                }
                let value = bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
                let address = value &- module.bias
                guard module.start <= value, value < module.end, address != symbol.address else { continue }
                let startsCode =
                    symbols.functionRanges.range(containing: address)?.lowerBound == address
                    || symbols.unwindRanges.range(containing: address)?.lowerBound == address
                if startsCode { found.insert(value) }
            }
        }
        return found.sorted()
    }

    /// Virtual addresses of GOT slots that get the symbol's address.
    private static func slots(in file: ELFFile, for symbol: FunctionSymbol, isOwner: Bool) -> [UInt64] {
        let dynamic = file.dynamic
        func value(_ tag: Int32) -> UInt64? { dynamic.first { $0.tag == Int64(tag) }?.value }
        let names = value(DT_STRTAB).flatMap(file.fileOffset(of:))
        let records = value(DT_SYMTAB).flatMap(file.fileOffset(of:))
        let wanted = Array(symbol.name.utf8) + [0]
        var found: [UInt64] = []
        for (start, size) in [(DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)] {
            guard let table = value(start).flatMap(file.fileOffset(of:)), let bytes = value(size) else { continue }
            for index in 0..<bytes / UInt64(MemoryLayout<Elf64_Rela>.size) {
                let offset = table &+ index * UInt64(MemoryLayout<Elf64_Rela>.size)
                guard let relocation = file.image.load(offset, as: Elf64_Rela.self) else { break }
                let type = Int32(truncatingIfNeeded: relocation.r_info & 0xFFFF_FFFF)
                if type == R_X86_64_IRELATIVE {
                    if isOwner, UInt64(bitPattern: relocation.r_addend) == symbol.address {
                        found.append(relocation.r_offset)
                    }
                    continue
                }
                guard type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT || type == R_X86_64_64, let names,
                    let records
                else { continue }
                let record = records &+ (relocation.r_info >> 32) &* UInt64(MemoryLayout<Elf64_Sym>.size)
                guard let entry = file.image.load(record, as: Elf64_Sym.self) else { continue }
                if file.image.array(names &+ UInt64(entry.st_name), UInt64(wanted.count)) == wanted {
                    found.append(relocation.r_offset)
                }
            }
        }
        return found
    }
}
