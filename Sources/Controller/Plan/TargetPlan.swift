import CSession
package import Planner
package import Runtime
import Symbols

/// What is patched in one target: the sites that a session's requests become there.
package struct TargetPlan {
    /// Every probe, in the order of its statistics.
    package private(set) var probes: [AttachedProbe] = []
    package var builder: PlanBuilder
    /// Bytes behind the first ones of each site that change with it.
    package private(set) var windows: [Range<UInt64>] = []
    /// The dynamic loader's own function is among the sites.
    package let watchesLoader: Bool
    private let programIndices: [Int: Int]

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

    /// What each probe is, whatever the addresses.
    package var names: [String] { probes.map { "\($0.program) \($0.isReturn) \($0.module) \($0.symbol)" } }

    /// Plans every request; `skipped` takes what an optional request or a duplicate leaves out.
    ///
    /// `programs` are the session's indices by the object's; `arguments` takes those of static probes.
    package init(
        _ requests: [AttachRequest],
        _ resolver: ProbeResolver,
        programs: [Int: Int],
        allowsTraps: Bool = false,
        watchesLoader: Bool = false,
        arguments: StaticProbeMap? = nil,
        skipped: (String) -> Void
    ) throws(Failure) {
        builder = PlanBuilder()
        self.watchesLoader = watchesLoader
        programIndices = programs
        var planner: SitePlanner
        do { planner = try SitePlanner(allowsTraps: allowsTraps) } catch {
            throw Failure.internalError(error.description)
        }
        var sites: [UInt64: (plan: PatchPlan, entries: [Pending], returns: [Pending])] = [:]
        var order: [UInt64] = []
        for given in requests {
            for place in try Self.targets(of: given, resolver, arguments, skipped) {
                let target = place.target
                var request = given
                request.cookie = place.cookie
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
                if request.overrides, request.isReturn || !plan.isFunctionEntry || plan.isLoopTarget {
                    throw Failure(
                        .cannotPatch,
                        "'\(request.name)' cannot override a return at '\(target.symbol.name)'",
                        why: "bpf_override_return needs the function's first instruction, reached by calls alone",
                        help: "probe the function's entry"
                    )
                }
                let pending = Pending(request: request, target: target, plan: plan, counter: place.counter)
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
        var loader: PatchPlan?
        if watchesLoader {
            let plan = try Self.loaderSite(resolver, &planner)
            if sites[plan.address] == nil {
                sites[plan.address] = (plan, [], [])
                order.append(plan.address)
            }
            loader = plan
        }
        for address in order {
            guard let site = sites[address] else { continue }
            try add(site.plan, site.entries, site.returns, isLoader: address == loader?.address)
        }
    }

    /// The empty function that the dynamic loader calls before and after it changes its list of modules (`r_debug.r_brk`,
    /// <link.h>).
    private static func loaderSite(_ resolver: ProbeResolver, _ planner: inout SitePlanner) throws(Failure) -> PatchPlan
    {
        // Its libc's name for it: ld-linux-x86-64.so.2, ld-2.31.so.
        for module in resolver.maps.modules where module.name.hasPrefix("ld-") || module.name.hasPrefix("ld.so") {
            let target: ProbeTarget
            do {
                let found = try resolver.resolve(module: module.path, symbol: "_dl_debug_state", offset: 0)
                guard let first = found.first else { continue }
                target = first
            } catch { throw .loaderUnwatched(error.message) }
            let plan: PatchPlan
            do { plan = try planner.plan(target.function, offset: 0) } catch { throw .loaderUnwatched(error.why) }
            do { try resolver.verify(plan, in: target) } catch { throw .loaderUnwatched(error.message) }
            return plan
        }
        throw Failure.loaderUnwatched("its dynamic loader is unknown")
    }

    private struct Pending {
        var request: AttachRequest
        var target: ProbeTarget
        var plan: PatchPlan
        /// Address of a static probe's semaphore, or 0.
        var counter: UInt64
    }

    /// Where a request goes.
    private struct Place {
        var target: ProbeTarget
        var cookie: UInt64
        var counter: UInt64 = 0
    }

    private mutating func add(
        _ plan: PatchPlan,
        _ entries: [Pending],
        _ returns: [Pending],
        isLoader: Bool
    ) throws(Failure) {
        let parameters = { (pending: Pending) in
            ProbeParameters(program: programIndices[pending.request.program] ?? 0, cookie: pending.request.cookie)
        }
        var site = SiteParameters(
            address: plan.address,
            island: plan.island,
            resume: plan.resume,
            window: plan.window,
            tactic: csession_tactic(rawValue: plan.tactic.rawValue),
            isFunction: plan.isFunctionEntry,
            original: plan.original,
            code: plan.code,
            fixups: plan.fixups.map { csession_fixup(target: $0.target, field: $0.field, end: $0.end) },
            entries: entries.map(parameters),
            returns: returns.map(parameters)
        )
        site.isLoader = isLoader
        site.counter = entries.lazy.map(\.counter).first { $0 != 0 } ?? 0
        let number: Int
        do { number = try builder.addSite(site) } catch { throw Failure(error) }
        if plan.window > 1 { windows.append(plan.address + 1..<plan.address + UInt64(min(plan.window, 5))) }
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

    private static func targets(
        of request: AttachRequest,
        _ resolver: ProbeResolver,
        _ arguments: StaticProbeMap?,
        _ skipped: (String) -> Void
    ) throws(Failure) -> [Place] {
        let place = request.place
        if let probe = place.staticProbe { return try staticTargets(request, probe, resolver, arguments) }
        do throws(SymbolsError) {
            let module: String
            if let named = place.module {
                module = named
            } else {
                module = try definingModule(of: place.symbol, resolver)
            }
            return try resolver.resolve(module: module, symbol: place.symbol, offset: place.offset)
                .map { Place(target: $0, cookie: request.cookie) }
        } catch {
            guard request.isOptional else { throw Failure(error) }
            skipped("\(request.name): \(error.message)")
            return []
        }
    }

    /// The nops of a static probe, which may be anywhere in functions.
    private static func staticTargets(
        _ request: AttachRequest,
        _ name: (provider: String, name: String),
        _ resolver: ProbeResolver,
        _ arguments: StaticProbeMap?
    ) throws(Failure) -> [Place] {
        let module = request.place.module ?? ""
        let symbol = request.place.symbol
        let known: [StaticProbe]
        var targets: [(target: ProbeTarget, probe: StaticProbe)] = []
        do throws(SymbolsError) {
            guard let loaded = resolver.modules(named: module).first else {
                // Says that it is not loaded.
                return try resolver.resolve(module: module, symbol: symbol).map { Place(target: $0, cookie: 0) }
            }
            known = try resolver.symbols(of: loaded).staticProbes
            for probe in known where (probe.provider, probe.name) == name {
                let place = try resolver.resolve(module: module, fileAddress: probe.address, known: symbol)
                targets.append((place, probe))
            }
        } catch { throw Failure(error) }
        if targets.isEmpty { throw .noStaticProbe(symbol, path: module, known: known) }
        var result: [Place] = []
        for (target, probe) in targets {
            let counter = probe.semaphore == 0 ? 0 : probe.semaphore &+ target.module.bias
            if counter != 0, resolver.maps.mapping(containing: counter)?.isWritable == false {
                throw .counterNotWritable(request.name, name: symbol)
            }
            result.append(Place(target: target, cookie: try arguments?.number(of: probe) ?? 0, counter: counter))
        }
        return result
    }

    /// Where a function is found that was named without a module: the program itself, a library of its own (another
    /// allocator), then libc.
    private static func definingModule(of symbol: String, _ resolver: ProbeResolver) throws(SymbolsError) -> String {
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
}
