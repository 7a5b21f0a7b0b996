import Glibc
import Planner
import Symbols

/// How a function would be patched, for `ubpfrun explain`: tactic, bytes, relocation, risk.
package enum SiteExplanation {
    /// Explains `[BINARY:]SYMBOL[+OFFSET]` in a process, in a file, or in libc.
    package static func text(of word: String, pid: Int32?) throws(Failure) -> String {
        guard let place = Place(word) else {
            throw .badOption("explain", value: word, expects: "a code, or [BINARY:]SYMBOL[+OFFSET]")
        }
        do throws(SymbolsError) {
            return try text(of: place, pid: pid).joined(separator: "\n")
        } catch {
            throw Failure(error)
        }
    }

    private static func text(of place: Place, pid: Int32?) throws(SymbolsError) -> [String] {
        let maps: ProcessMaps
        var module = place.module ?? "libc"
        if let pid {
            maps = try ProcessMaps.read(pid: pid)
            module = place.module ?? maps.executable?.path ?? ""
        } else if module.contains("/") {
            maps = try ProcessMaps(file: module)
        } else {
            // ubpfrun itself has the C library loaded.
            maps = try ProcessMaps.read(pid: getpid())
        }
        let resolver = ProbeResolver(maps: maps)
        guard var planner = try? SitePlanner(allowsTraps: true) else { return ["no disassembler"] }
        var lines: [String] = []
        for target in try resolver.resolve(module: module, symbol: place.symbol, offset: place.offset) {
            let name = place.offset == 0 ? place.symbol : "\(place.symbol)+\(place.offset)"
            do {
                let plan = try planner.plan(target.function, offset: target.offset)
                lines.append("\(target.module.path): \(explain(plan, name: name))")
                lines += remarks(plan, target).map { "  " + $0 }
            } catch {
                lines += ["\(target.module.path): \(error.message)", "  help: \(error.help)"]
            }
        }
        return lines
    }

    private static func remarks(_ plan: PatchPlan, _ target: ProbeTarget) -> [String] {
        var lines: [String] = []
        switch plan.tactic {
        case .jump, .window:
            lines.append(
                "live: one byte is written, with its jump to \(hexadecimal(plan.punnedTarget)) if that place is free"
            )
            lines.append("risk: none known; where it is taken, all threads stand still for the change")
        case .island:
            lines.append(
                "risk: none known; all threads stand still, 5 bytes of dead padding stay changed after the detach"
            )
        case .trap:
            lines.append("risk: every hit is a signal (4 to 10 us); a thread that blocks SIGTRAP must not come here")
        }
        if let obstacle = ReturnProbes.obstacle(target.symbol.name) {
            lines.append("no return probe: \(obstacle.why)")
        } else if !plan.isFunctionEntry || plan.isLoopTarget {
            lines.append("no return probe: only a function's first instruction, reached by calls alone, takes one")
        }
        return lines
    }
}
