internal import Symbols

extension ProbeResolver {
    func moduleNotLoaded(_ name: String) -> SymbolsError {
        let loaded = maps.modules.filter { !$0.isVDSO }.map(\.name)
        return SymbolsError(
            kind: .moduleNotLoaded,
            place: name,
            code: "U201",
            message: "'\(name)' is not loaded in pid \(maps.pid)",
            why: "loaded are: \(loaded.joined(separator: ", "))",
            help: "without --strict, a library that is opened later is waited for"
        )
    }

    func symbolNotFound(_ symbol: String, in candidates: [LoadedModule]) -> SymbolsError {
        let module = candidates[0]
        var error = SymbolsError(
            kind: .symbolNotFound,
            place: "\(module.name):\(symbol)",
            code: "U201",
            message: "no function '\(symbol)' in \(module.name) (pid \(maps.pid))"
        )
        let tables = candidates.compactMap { try? symbols(of: $0) }
        for other in maps.modules where !other.isVDSO && !candidates.contains(other) {
            guard let symbols = try? symbols(of: other), !symbols.definitions(of: symbol).isEmpty else { continue }
            let short = other.name.split(separator: ".").first.map(String.init) ?? other.name
            error.help =
                "'\(symbol)' is in \(other.name): --attach PROG=\(other.isExecutable ? other.path : short):\(symbol)"
            return error
        }
        let names = tables.flatMap { $0.suggestions(for: symbol) }
        if let first = names.first {
            error.help = "did you mean '\(first)'?"
            let others = names.dropFirst().prefix(2)
            if !others.isEmpty { error.help += " (also: \(others.joined(separator: ", ")))" }
        }
        if tables.contains(where: \.isStripped) {
            error.why = "\(module.name) is stripped: it has no names of static functions"
            if error.help.isEmpty {
                error.help = "install its -dbgsym or -dbg package, or give an address: \(module.name):0xADDR"
            }
        }
        return error
    }

    func resolverOnly(_ symbol: FunctionSymbol, _ module: LoadedModule) -> SymbolsError {
        SymbolsError(
            kind: .resolverOnly,
            place: "\(module.name):\(symbol.name)",
            code: "U202",
            message: "cannot patch '\(symbol.name)' (an IFUNC: the symbol is a resolver, not the function)",
            why: "no slot in the process holds its choice yet",
            help: "probe the implementation itself; ubpfrun list '\(module.name):*\(symbol.name)*' shows their names"
        )
    }
}

/// One line about a plan, for `--explain`.
package func explain(_ plan: PatchPlan, name: String) -> String {
    let bytes = plan.original.prefix(Int(plan.window)).map { byte in
        (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }.joined(separator: " ")
    let how: String
    switch plan.tactic {
    case .jump: how = "T0: jmp rel32 over one instruction"
    case .window: how = "T2: jmp rel32 over several instructions"
    case .trap: how = "T3: int3, a signal for every hit"
    case .island: how = "T1: jmp rel8 to an island at 0x\(String(plan.island, radix: 16))"
    }
    let moved = plan.code.count == Int(plan.window) ? "copied" : "rewritten in \(plan.code.count) bytes"
    var line = "\(name) at 0x\(String(plan.address, radix: 16)): \(how); \(plan.window) bytes (\(bytes)) \(moved)"
    if !plan.fixups.isEmpty {
        line += ", \(plan.fixups.count) displacement\(plan.fixups.count == 1 ? "" : "s") adjusted"
    }
    if plan.isLoopTarget { line += "; a loop leads back to it" }
    return line
}
