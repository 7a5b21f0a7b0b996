internal import CELF
internal import Glibc

/// The functions of one ELF file: `.symtab`, `.dynsym` and a separate debug file.
///
/// Not for use by several threads at once: tables are sorted when first asked for.
package final class ModuleSymbols {
    package let path: String
    package let soname: String?
    package let buildID: String?
    /// The separate debug file that was found, or nil.
    package let debugPath: String?
    /// Position-independent: the load bias is not zero.
    package let isPositionIndependent: Bool
    let file: ELFFile
    private let tables: [SymbolTable]

    /// Opens the file; `root` is put before the paths of separate debug files (another mount namespace).
    package init(path: String, root: String = "") throws(SymbolsError) {
        self.path = path
        file = try ELFFile(path: path)
        soname = file.soname
        buildID = file.buildID
        isPositionIndependent = file.type == UInt16(ET_DYN)
        var tables: [SymbolTable] = []
        if let table = SymbolTable(file, type: SHT_SYMTAB) { tables.append(table) }
        let debug = tables.isEmpty ? Self.openDebugFile(for: file, root: root) : nil
        if let debug, let table = SymbolTable(debug, type: SHT_SYMTAB) { tables.append(table) }
        if let table = SymbolTable(file, type: SHT_DYNSYM) { tables.append(table) }
        debugPath = debug?.path
        self.tables = tables
    }

    /// The loader changes its code when it relocates it (DT_TEXTREL).
    package var hasTextRelocations: Bool {
        file.dynamicValue(DT_TEXTREL) != nil || (file.dynamicValue(DT_FLAGS) ?? 0) & UInt64(DF_TEXTREL) != 0
    }

    /// A stripped module has no names but those of its dynamic symbols.
    package var isStripped: Bool {
        !file.sections.contains { $0.type == UInt32(SHT_SYMTAB) } && debugPath == nil
    }

    /// Where gdb looks, too: by build id, then by `.gnu_debuglink` (gdb manual, "Separate Debug Files").
    private static func openDebugFile(for file: ELFFile, root: String) -> ELFFile? {
        let buildID = file.buildID
        var candidates: [String] = []
        if let buildID, buildID.count > 2 {
            candidates.append("/usr/lib/debug/.build-id/\(buildID.prefix(2))/\(buildID.dropFirst(2)).debug")
        }
        if let link = file.section(named: ".gnu_debuglink"),
            let name = file.image.string(link.offset, limit: link.offset &+ link.size)
        {
            let directory = file.path.lastIndex(of: "/").map { String(file.path[..<$0]) } ?? "."
            candidates += ["\(directory)/\(name)", "\(directory)/.debug/\(name)", "/usr/lib/debug\(directory)/\(name)"]
        }
        for candidate in candidates where candidate != file.path {
            let path = candidate.hasPrefix("/usr/lib/debug") ? root + candidate : candidate
            guard let debug = try? ELFFile(path: path), debug.image.inode != file.image.inode else { continue }
            // A build id identifies the pair better than the link's checksum; without one the name must do.
            if buildID == nil || debug.buildID == buildID { return debug }
        }
        return nil
    }

    /// Functions with this name (`malloc`, `pthread_create@GLIBC_2.2.5`), one per address and version.
    package func functions(named name: String) -> [FunctionSymbol] {
        var base = name
        var version: String?
        if let at = name.firstIndex(of: "@"), at != name.startIndex {
            base = String(name[..<at])
            version = String(name[at...].drop { $0 == "@" })
        }
        var found: [FunctionSymbol] = []
        for table in tables {
            for symbol in table.named(Array(base.utf8)) where version == nil || symbol.version == version {
                if !found.contains(where: { $0.address == symbol.address && $0.version == symbol.version }) {
                    found.append(symbol)
                }
            }
        }
        return found
    }

    /// One symbol per address among `functions(named:)`, the default version first.
    package func definitions(of name: String) -> [FunctionSymbol] {
        var found: [FunctionSymbol] = []
        let candidates = functions(named: name)
        let preferred = candidates.filter { $0.isDefaultVersion || $0.version == nil }
        for symbol in preferred + candidates where !found.contains(where: { $0.address == symbol.address }) {
            found.append(symbol)
        }
        return found
    }

    /// All functions, sorted by address; every name of an address is kept.
    package private(set) lazy var functions: [FunctionSymbol] = {
        var seen: Set<FunctionSymbol> = []
        var all: [FunctionSymbol] = []
        for table in tables {
            for symbol in table.all() {
                var key = symbol
                key.size = 0
                key.isExported = true
                key.version = nil
                key.isDefaultVersion = false
                if symbol.version == nil {
                    guard seen.insert(key).inserted else { continue }
                } else {
                    seen.insert(key)
                    var versioned = key
                    versioned.version = symbol.version
                    guard seen.insert(versioned).inserted else { continue }
                }
                all.append(symbol)
            }
        }
        return all.sorted { ($0.address, $0.name) < ($1.address, $1.name) }
    }()

    /// Address ranges of functions, merged and sorted; cheaper than `functions`.
    package private(set) lazy var functionRanges: UnwindRanges = {
        var all: [Range<UInt64>] = []
        for table in tables { all += table.ranges() }
        all.sort { ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound) }
        var distinct: [Range<UInt64>] = []
        for range in all {
            if let last = distinct.last, last.lowerBound == range.lowerBound {
                distinct[distinct.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
            } else {
                distinct.append(range)
            }
        }
        return UnwindRanges(ranges: distinct)
    }()

    /// Ranges described by unwind tables.
    package private(set) lazy var unwindRanges = UnwindRanges(file)

    /// The function that holds a virtual address; among several the innermost with an exported name.
    package func function(containing address: UInt64) -> FunctionSymbol? {
        let all = functions
        var low = 0
        var high = all.count
        while low < high {
            let middle = (low + high) / 2
            if all[middle].address <= address { low = middle + 1 } else { high = middle }
        }
        var best: FunctionSymbol?
        // Nested symbols are rare; a few entries back are enough, and a start nearer to the address wins.
        var index = low - 1
        var looked = 0
        while index >= 0, looked < 64 {
            let candidate = all[index]
            if let best, candidate.address != best.address { break }
            if candidate.range.contains(address), best == nil || (candidate.isExported && best?.isExported == false) {
                best = candidate
            }
            index -= 1
            looked += 1
        }
        return best
    }

    /// Functions whose name fits a shell pattern (`*`, `?`, `[a-z]`).
    package func functions(matching pattern: String) -> [FunctionSymbol] {
        let glob = Glob(pattern)
        return functions.filter { glob.matches($0.name) }
    }

    /// Up to three names that a person may have meant.
    package func suggestions(for name: String) -> [String] {
        nearestNames(to: name, among: functions)
    }

    /// A copy of code at a virtual address, as it is in the file.
    package func code(at address: UInt64, count: UInt64) -> [UInt8] {
        file.bytes(at: address, upTo: count)
    }

    /// Where in the file the code at a virtual address is.
    package func fileOffset(of address: UInt64) -> UInt64? {
        for segment in file.segments
        where segment.type == UInt32(PT_LOAD) && address >= segment.address
            && address - segment.address < segment.fileSize
        {
            return address - segment.address + segment.offset
        }
        return nil
    }

    /// The executable segment that holds `address`: its start and all its bytes in the file.
    package func executableSegment(containing address: UInt64) -> (start: UInt64, bytes: [UInt8])? {
        for segment in file.segments
        where segment.type == UInt32(PT_LOAD) && segment.isExecutable && address >= segment.address
            && address - segment.address < segment.fileSize
        {
            guard let bytes = file.image.array(segment.offset, segment.fileSize) else { return nil }
            return (segment.address, bytes)
        }
        return nil
    }
}
