import CSession
import Glibc
import ISA
package import Loader
package import Planner
import Runtime
import Symbols
import UBPFVM
import Verifier
import VerifierInput

/// Puts a session together: maps, checked and linked programs, then the sites in one target.
///
/// Everything that can be refused without a target is refused by `init`.
package struct SessionAssembly {
    package let object: ObjectSpec
    /// Session indices of the object's maps that are used, by name.
    package private(set) var maps: [String: Int] = [:]
    /// Index of the ring that takes `bpf_printk` lines, if a program prints any.
    package private(set) var logMap: Int?
    /// Every probe of the session, in the session's order.
    package private(set) var probes: [AttachedProbe] = []
    private var builder: SessionBuilder
    /// Session indices by the object's.
    private var mapIndices: [Int: Int] = [:]
    private var programIndices: [Int: Int] = [:]

    package struct AttachedProbe: Equatable, Sendable {
        package var program: String
        package var symbol: String
        package var module: String
        package var isReturn: Bool
        package var address: UInt64
        /// Index of the patched site.
        package var site: Int
        /// Tactic, window and relocation, in a line.
        package var explanation: String
    }

    /// Checks and links `programs` (indices into the object's) and whatever they call by a program array.
    ///
    /// `warn` takes what the policy lets pass.
    package init(
        _ object: ObjectSpec,
        programs: [Int],
        policy: VerifierPolicy = VerifierPolicy(),
        warn: (Failure) -> Void = { _ in }
    ) throws(Failure) {
        self.object = object
        builder = SessionBuilder(cpuCount: max(1, Int(sysconf(Int32(_SC_NPROCESSORS_CONF)))))
        var chosen = programs
        let called = object.maps.flatMap(\.initialElements).compactMap { element -> Int? in
            guard case .program(let name) = element.value else { return nil }
            return object.programs.firstIndex { $0.name == name }
        }
        // Another type's programs read and write another context (Linux: `bpf_prog_map_compatible`).
        for index in called where object.programs[index].type != .kprobe {
            let program = object.programs[index]
            throw Failure(
                .rejected,
                "program '\(program.name)' is called by a tail call, but is of type \(program.type.name)",
                why: "what calls it is attached to a function, whose registers are the context",
                help: "put it into a section uprobe"
            )
        }
        chosen += called
        let unique = Array(Set(chosen)).sorted()
        var ready: [(Int, ProgramSpec)] = []
        let types = object.btf.map { TypeFacts($0) }
        var refused: [(program: String, error: VerifierError)] = []
        for index in unique {
            let program = try Preparation.relocate(object.programs[index], of: object)
            if let error = try Preparation.verify(program, of: object, types, policy) {
                refused.append((program.name, error))
            }
            ready.append((index, program))
        }
        if !policy.verifies { warn(.unverified(refused)) }
        try addMaps(usedBy: ready.map(\.1))
        for (index, program) in ready { programIndices[index] = try add(program) }
    }

    private mutating func addMaps(usedBy programs: [ProgramSpec]) throws(Failure) {
        var used: Set<Int> = []
        var prints = false
        for instruction in programs.flatMap(\.instructions) {
            switch instruction.opcode {
            case .loadMap: used.insert(Int(instruction.imm))
            case .loadMapValue: used.insert(Int(instruction.imm & 0xffff_ffff))
            case .callHelper where instruction.imm == 6: prints = true
            default: break
            }
        }
        for index in used.sorted() {
            let map = object.maps[index]
            let parameters = MapParameters(
                name: map.name,
                type: map.type,
                keySize: UInt32(clamping: map.keySize),
                valueSize: UInt32(clamping: map.valueSize),
                maxEntries: UInt32(clamping: map.maxEntries),
                flags: map.flags,
                contents: map.contents,
                isFrozen: map.isReadOnly
            )
            do { mapIndices[index] = try builder.addMap(parameters) } catch { throw Failure(error) }
            maps[map.name] = mapIndices[index]
        }
        if prints {
            do { logMap = try builder.addLogRing() } catch { throw Failure(error) }
        }
        builder.layoutMaps()
    }

    private mutating func add(_ program: ProgramSpec) throws(Failure) -> Int {
        var instructions = program.instructions
        for index in instructions.indices {
            switch instructions[index].opcode {
            case .loadMap:
                instructions[index].imm = Int64(mapIndices[Int(instructions[index].imm)] ?? 0)
            case .loadMapValue:
                let map = mapIndices[Int(instructions[index].imm & 0xffff_ffff)] ?? 0
                instructions[index].imm = instructions[index].imm & ~0xffff_ffff | Int64(map)
            default: break
            }
        }
        var locations: [Int: ValueLocation] = [:]
        for map in mapIndices.values { locations[map] = builder.valueLocation(map: map, offset: 0) }
        let linked: [LinkedInstruction]
        do {
            linked = try link(instructions, mapCount: mapIndices.count) { map, offset in
                locations[map].map { SegmentOffset(storage: Int($0.storage), offset: $0.offset + UInt64(offset)) }
            }
        } catch { throw Failure(error, in: program) }
        return builder.addProgram(name: program.name, type: program.type, instructions: linked)
    }

    /// Plans every request in the target; `skipped` takes what an optional request or a duplicate leaves out.
    package mutating func addSites(
        _ requests: [AttachRequest],
        _ resolver: ProbeResolver,
        skipped: (String) -> Void
    ) throws(Failure) {
        var planner: SitePlanner
        do { planner = try SitePlanner() } catch { throw Failure.internalError(error.description) }
        var sites: [UInt64: (plan: PatchPlan, entries: [Pending], returns: [Pending])] = [:]
        var order: [UInt64] = []
        for request in requests {
            for target in try targets(of: request, resolver, skipped) {
                let plan: PatchPlan
                do {
                    plan = try planner.plan(target.function, offset: target.offset)
                } catch {
                    if request.isOptional {
                        skipped("\(request.name): \(error.message)")
                        continue
                    }
                    throw Failure(error)
                }
                do { try resolver.verify(plan, in: target) } catch { throw Failure(error) }
                if request.isReturn, let obstacle = ReturnProbes.obstacle(target.symbol.name) {
                    throw Failure(
                        .cannotPatch,
                        "no return probe on '\(target.symbol.name)'",
                        why: obstacle.why,
                        help: "probe its entry instead"
                    )
                }
                if request.isReturn, !plan.isFunctionEntry || plan.isLoopTarget {
                    throw Failure(
                        .cannotPatch,
                        "no return probe at '\(request.place.symbol)+\(request.place.offset)'",
                        why: "a return probe needs the function's first instruction, reached by calls alone"
                    )
                }
                let pending = Pending(request: request, target: target, plan: plan)
                if sites[plan.address] == nil {
                    sites[plan.address] = (plan, [], [])
                    order.append(plan.address)
                }
                if request.isReturn {
                    sites[plan.address]?.returns.append(pending)
                } else {
                    sites[plan.address]?.entries.append(pending)
                }
            }
        }
        for address in order {
            guard let site = sites[address] else { continue }
            try add(site.plan, site.entries, site.returns)
        }
    }

    private struct Pending {
        var request: AttachRequest
        var target: ProbeTarget
        var plan: PatchPlan
    }

    private mutating func add(_ plan: PatchPlan, _ entries: [Pending], _ returns: [Pending]) throws(Failure) {
        let parameters = { (pending: Pending) in
            ProbeParameters(program: programIndices[pending.request.program] ?? 0, cookie: pending.request.cookie)
        }
        let site = SiteParameters(
            address: plan.address,
            island: plan.island,
            resume: plan.resume,
            window: plan.window,
            tactic: csession_tactic(rawValue: plan.tactic.rawValue),
            isFunction: plan.isFunctionEntry,
            original: plan.original,
            code: plan.code,
            fixups: plan.fixups.map { csession_fixup(target: $0.target, field: $0.field, end: $0.end) },
            boundaries: plan.boundaries.map { ($0.offset, $0.copy) },
            entries: entries.map(parameters),
            returns: returns.map(parameters)
        )
        let number: Int
        do { number = try builder.addSite(site) } catch { throw Failure(error) }
        for pending in entries + returns {
            probes.append(
                AttachedProbe(
                    program: pending.request.name,
                    symbol: pending.request.place.symbol,
                    module: pending.target.module.name,
                    isReturn: pending.request.isReturn,
                    address: plan.address,
                    site: number,
                    explanation: explain(plan, name: pending.request.place.symbol)
                )
            )
        }
    }

    private func targets(
        of request: AttachRequest,
        _ resolver: ProbeResolver,
        _ skipped: (String) -> Void
    ) throws(Failure) -> [ProbeTarget] {
        let place = request.place
        do throws(SymbolsError) {
            let module: String
            if let named = place.module {
                module = named
            } else {
                module = try definingModule(of: place.symbol, resolver)
            }
            return try resolver.resolve(module: module, symbol: place.symbol, offset: place.offset)
        } catch {
            guard request.isOptional else { throw Failure(error) }
            skipped("\(request.name): \(error.message)")
            return []
        }
    }

    /// Where a function is found that was named without a module: the program itself, a library of its own (another
    /// allocator), then libc.
    private func definingModule(of symbol: String, _ resolver: ProbeResolver) throws(SymbolsError) -> String {
        let loaded = resolver.maps.modules.filter { module in
            !module.isVDSO && !module.name.hasPrefix("ld-linux") && module.name != "libubpf.so"
        }
        let isLibc = { (module: LoadedModule) in module.name.hasPrefix("libc.so") || module.name.hasPrefix("libc-") }
        let order =
            loaded.filter(\.isExecutable) + loaded.filter { !$0.isExecutable && !isLibc($0) } + loaded.filter(isLibc)
        for module in order {
            if try !resolver.symbols(of: module).definitions(of: symbol).isEmpty { return module.path }
        }
        return "libc"
    }

    /// The finished session; the calling thread owns it.
    package consuming func makeSession() throws(Failure) -> Session {
        let programs = programIndices
        let object = object
        let indices = mapIndices
        let session = try Session.make(builder)
        // Program arrays start with what the object puts into them.
        for (index, map) in object.maps.enumerated() where map.type == .programArray {
            guard let number = indices[index] else { continue }
            for element in map.initialElements {
                guard case .program(let name) = element.value,
                    let found = object.programs.firstIndex(where: { $0.name == name }), let program = programs[found]
                else { continue }
                var key = UInt32(element.index)
                var value = UInt32(program)
                _ = unsafe MapView(session.view, number).update(&key, &value, flags: 0, tid: 0, slot: 0)
            }
        }
        return session
    }
}
