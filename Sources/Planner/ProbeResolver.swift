package import Symbols

/// One place in a process that a probe can be put on.
package struct ProbeTarget {
    package var module: LoadedModule
    package var symbol: FunctionSymbol
    package var function: FunctionCode
    /// From the function's start.
    package var offset: UInt64

    package var address: UInt64 { function.range.lowerBound &+ offset }
}

/// Turns `libc:malloc` into addresses in one process; symbol tables are kept for the next question.
package final class ProbeResolver {
    package let maps: ProcessMaps
    private var symbolsOf: [String: ModuleSymbols] = [:]
    private var texts: [UInt64: ModuleText] = [:]
    /// Bytes of the program that jumps of our own sessions stand on now, by address.
    package var ourPatches: [UInt64: [UInt8]] = [:]

    /// The process has an agent already, which knows the places that it changed itself and refuses other changes.
    package var leavesChecksToAgent = false

    /// Names mean this one alone.
    package var only: LoadedModule?

    package init(maps: ProcessMaps) {
        self.maps = maps
    }

    package convenience init(pid: Int32) throws(SymbolsError) {
        self.init(maps: try ProcessMaps.read(pid: pid))
    }

    /// The symbol tables of a module; opened once.
    package func symbols(of module: LoadedModule) throws(SymbolsError) -> ModuleSymbols {
        if let known = symbolsOf[module.openPath] { return known }
        // A file of another mount namespace has its debug files there, too.
        let root = module.openPath.hasPrefix("/proc/\(maps.reader)/root/") ? "/proc/\(maps.reader)/root" : ""
        let symbols = try ModuleSymbols(path: module.openPath, root: root)
        symbolsOf[module.openPath] = symbols
        return symbols
    }

    /// The modules that a name means, best first: a path, a file name, a soname, a prefix (`libc`), "" for the executable.
    package func modules(named name: String) -> [LoadedModule] {
        let loaded = only.map { [$0] } ?? maps.modules.filter { !$0.isVDSO }
        if name.isEmpty { return loaded.filter(\.isExecutable) }
        if name.contains("/") {
            let exact = loaded.filter { $0.path == name }
            return exact.isEmpty ? loaded.filter { isSameFile($0.openPath, name) } : exact
        }
        let exact = loaded.filter { $0.name == name }
        if !exact.isEmpty { return exact }
        let byPrefix = loaded.filter { $0.name.hasPrefix(name + ".so") || isVersioned($0.name, name) }
        if !byPrefix.isEmpty { return byPrefix }
        return loaded.filter { (try? symbols(of: $0))?.soname == name }
    }

    /// Whether a name means a module that the process has.
    package func isLoaded(_ name: String) -> Bool {
        !modules(named: name).isEmpty || (Self.isPartOfLibc(name) && !modules(named: "libc").isEmpty)
    }

    /// `libc-2.31.so` is libc, `libc-client.so` is not.
    private func isVersioned(_ file: String, _ name: String) -> Bool {
        guard file.hasPrefix(name + "-"), file.contains(".so") else { return false }
        return file.dropFirst(name.count + 1).first?.isNumber == true
    }

    /// Whether a name means a library whose functions moved into libc with glibc 2.34.
    private static func isPartOfLibc(_ name: String) -> Bool {
        let file = name.split(separator: "/").last ?? ""
        return ["libpthread", "libdl", "librt", "libutil", "libanl"].contains {
            file == $0 || file.hasPrefix($0 + ".so") || file.hasPrefix($0 + "-2.")
        }
    }

    /// Places of `symbol`+`offset` in a module.
    ///
    /// More than one when several static functions have the name, or an IFUNC is bound to several implementations.
    package func resolve(module name: String, symbol: String, offset: UInt64 = 0) throws(SymbolsError) -> [ProbeTarget]
    {
        var candidates = modules(named: name)
        if Self.isPartOfLibc(name) { candidates += modules(named: "libc") }
        guard !candidates.isEmpty else { throw moduleNotLoaded(name) }
        for module in candidates {
            let symbols = try symbols(of: module)
            var definitions = symbols.definitions(of: symbol)
            // Programs of today link to the default version; older ones often call through to it.
            let preferred = definitions.filter(\.isDefaultVersion)
            if !preferred.isEmpty, !symbol.contains("@") { definitions = preferred }
            if definitions.isEmpty { continue }
            var targets: [ProbeTarget] = []
            for definition in definitions { targets += try self.targets(definition, offset, module, symbols) }
            return targets
        }
        throw symbolNotFound(symbol, in: candidates)
    }

    /// A place given by its address in the file, as stripped programs need it.
    ///
    /// With `known`, what to call it, the symbol tables of a large module need not be sorted.
    package func resolve(
        module name: String,
        fileAddress: UInt64,
        known: String? = nil
    ) throws(SymbolsError) -> ProbeTarget {
        guard let module = modules(named: name).first else { throw moduleNotLoaded(name) }
        let symbols = try symbols(of: module)
        guard let text = try text(of: module, symbols: symbols, around: fileAddress),
            let range = text.functions.range(containing: fileAddress &+ module.bias)
                ?? text.unwind.range(containing: fileAddress &+ module.bias)
        else {
            throw SymbolsError(
                kind: .offsetOutside,
                place: module.path,
                code: "U201",
                message: "0x\(String(fileAddress, radix: 16)) is in no function of \(module.name)"
            )
        }
        let start = range.lowerBound &- module.bias
        let symbol =
            (known == nil ? symbols.function(containing: fileAddress) : nil)
            ?? FunctionSymbol(
                name: known ?? "\(module.name)+0x\(String(start, radix: 16))",
                version: nil,
                isDefaultVersion: false,
                address: start,
                size: UInt64(range.count),
                isIndirect: false,
                isExported: false
            )
        let function = FunctionCode(name: symbol.name, range: range, text: text)
        return ProbeTarget(module: module, symbol: symbol, function: function, offset: fileAddress &- start)
    }

    /// Compares what a plan would change with the process's memory.
    package func verify(_ plan: PatchPlan, in target: ProbeTarget) throws(SymbolsError) {
        try compare(plan.original[...], at: plan.address, target.symbol.name)
        if plan.island != 0 {
            try compare(target.function.text.code(plan.island..<plan.island + 5), at: plan.island, target.symbol.name)
        }
    }

    private func targets(
        _ symbol: FunctionSymbol,
        _ offset: UInt64,
        _ module: LoadedModule,
        _ symbols: ModuleSymbols
    ) throws(SymbolsError) -> [ProbeTarget] {
        var starts = [symbol.address]
        if symbol.isIndirect {
            let found = try IndirectFunctions.implementations(of: symbol, in: module, symbols: symbols, maps: maps)
            guard !found.isEmpty else { throw resolverOnly(symbol, module) }
            starts = found.map { $0 &- module.bias }
        }
        var targets: [ProbeTarget] = []
        for start in starts {
            guard let text = try text(of: module, symbols: symbols, around: start) else {
                throw SymbolsError(
                    kind: .malformed,
                    place: module.path,
                    code: "U207",
                    message: "'\(symbol.name)' of \(module.name) is not in an executable segment"
                )
            }
            let size = symbol.isIndirect ? 0 : symbol.size
            let range = extent(start &+ module.bias, size: size, in: text)
            guard offset < UInt64(range.count) else {
                throw SymbolsError(
                    kind: .offsetOutside,
                    place: "\(symbol.name)+\(offset)",
                    code: "U201",
                    message: "'\(symbol.name)' of \(module.name) has only \(range.count) bytes"
                )
            }
            try compare(text.code(range).prefix(65536), at: range.lowerBound, symbol.name)
            let function = FunctionCode(name: symbol.name, range: range, text: text)
            targets.append(ProbeTarget(module: module, symbol: symbol, function: function, offset: offset))
        }
        return targets
    }

    /// A function's range: by its symbol, else by unwind information, else up to the next function.
    private func extent(_ start: UInt64, size: UInt64, in text: ModuleText) -> Range<UInt64> {
        if size > 0 { return start..<start + size }
        if let range = text.functions.range(containing: start), range.lowerBound == start, range.count > 1 {
            return range
        }
        if let range = text.unwind.range(containing: start) { return start..<range.upperBound }
        let next = text.functions.ranges.first { $0.lowerBound > start }?.lowerBound ?? text.end
        return start..<max(start + 1, min(next, text.end))
    }

    private func text(
        of module: LoadedModule,
        symbols: ModuleSymbols,
        around address: UInt64
    ) throws(SymbolsError) -> ModuleText? {
        if let known = texts.values.first(where: {
            $0.start <= address &+ module.bias && address &+ module.bias < $0.end
        }) {
            return known
        }
        let text = ModuleText(symbols: symbols, containing: address, bias: module.bias)
        if let text { texts[text.start] = text }
        return text
    }

    private func compare(_ expected: ArraySlice<UInt8>, at address: UInt64, _ name: String) throws(SymbolsError) {
        // A file on its own has no memory that could differ.
        if leavesChecksToAgent || maps.mappings.isEmpty { return }
        var found = try readMemory(pid: maps.reader, address: address, count: expected.count)
        for (patch, original) in ourPatches {
            for (index, byte) in original.enumerated() {
                let place = patch &+ UInt64(index) &- address
                if place < UInt64(found.count) { found[Int(place)] = byte }
            }
        }
        guard let difference = zip(found, expected).enumerated().first(where: { $0.element.0 != $0.element.1 }) else {
            return
        }
        let who: String
        switch difference.element.0 {
        case 0xCC: who = "there is a breakpoint: a debugger or a kernel uprobe is on it"
        case 0xE9, 0xEB, 0xFF, 0xE8: who = "there is a jump: another tool has hooked it"
        default: who = "its code differs from the file"
        }
        throw SymbolsError(
            kind: .bytesChanged,
            place: "0x\(String(address + UInt64(difference.offset), radix: 16))",
            code: "U202",
            message: "cannot patch '\(name)' (already changed at +\(difference.offset))",
            why: who,
            help: "end the other tool first; if the program was updated while it runs, restart it"
        )
    }
}
