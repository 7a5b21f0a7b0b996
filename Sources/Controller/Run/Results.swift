import CSession
import Glibc
import ISA
import JSON
import Loader
import Runtime
import Symbols

/// Shows what a session has gathered: log lines and records as they come, maps at intervals and at the end.
final class Results {
    private let options: RunOptions
    private let sink: OutputSink
    private let messages: Messages
    private let recipe: Recipe?
    private let object: ObjectSpec
    private let maps: [String: Int]
    private let hidden: Set<String>
    private var probes: [TargetPlan.AttachedProbe]
    /// Modules of the targets when they joined; more come from the session.
    private var startModules: [ProcessMaps]
    /// What came of libraries that were waited for; told with the statistics.
    var libraries: [Failure] = []
    private var log: RingConsumer?
    private var rings: [RingConsumer] = []
    private var firstRing = 0
    private var symbolizer: (count: Int, Symbolizer)?
    private let records: RecordOutput

    init(
        _ assembly: SessionAssembly,
        probes: [TargetPlan.AttachedProbe],
        view: SessionView,
        options: RunOptions,
        recipe: Recipe?,
        sink: OutputSink,
        messages: Messages,
        modules: [ProcessMaps]
    ) throws(Failure) {
        self.options = options
        self.sink = sink
        self.messages = messages
        self.recipe = recipe
        object = assembly.object
        maps = assembly.maps
        let tagged = assembly.object.btf.map { TaggedView(ObjectTags($0)) }
        // What both halves have is shown once, by the kernel's.
        hidden = (assembly.object.btf.map { ObjectTags($0).hiddenMaps(in: $0) } ?? []).union(assembly.kernelMaps)
        records = try RecordOutput(assembly.object, events: options.events, view: tagged, sink: sink)
        self.probes = probes
        startModules = modules
        log = assembly.logMap.map { RingConsumer(MapView(view, $0)) }
        for index in maps.values.sorted() {
            let map = MapView(view, index)
            switch map.family {
            case .ringBuffer where map.isUserRing: break
            case .ringBuffer, .perfEventArray: rings.append(RingConsumer(map))
            default: break
            }
        }
    }

    /// Takes in another target.
    func add(probes: [TargetPlan.AttachedProbe], modules: ProcessMaps?) {
        self.probes = probes
        // A library that is opened again and again is one.
        if let modules, !startModules.contains(where: { $0.modules == modules.modules }) {
            startModules.append(modules)
        }
        symbolizer = nil
    }

    /// Whether anything comes as a stream.
    var hasStreams: Bool { log != nil || !rings.isEmpty }

    /// Prints what has come since the last call, for 100 ms at most: programs may send faster than records can be shown.
    ///
    /// `isFinal`: what is there is printed, for 10 s at most; a program that goes on without us may send on.
    func drain(isFinal: Bool = false) throws(Failure) {
        let end = monotonicNanoseconds() + (isFinal ? 10_000_000_000 : 100_000_000)
        while monotonicNanoseconds() < end, let record = log?.next() { try printLog(record) }
        // Whoever floods is first once in a while only.
        firstRing += 1
        for offset in rings.indices {
            let index = (firstRing + offset) % rings.count
            while monotonicNanoseconds() < end, let record = rings[index].next() {
                try show(record, of: rings[index].map.index)
            }
        }
    }

    /// The maps' state: at an interval, on SIGUSR1, or at the end.
    func report(_ view: SessionView, isFinal: Bool) throws(Failure) {
        try drain(isFinal: isFinal)
        switch recipe?.report {
        case .leaks: try reportLeaks(view, isFinal: isFinal)
        case .maps, nil: try reportMaps(view)
        }
        if isFinal { try reportStatistics(view) }
    }

    /// The elements of all maps that can be compared with those of another run.
    func collect(_ view: SessionView, into collector: MapCollector) {
        for map in object.maps where map.isCompared && !hidden.contains(map.name) {
            guard let index = maps[map.name] else { continue }
            let found = MapView(view, index)
            collector.take(map.name, found.entries(), stride: found.isPerCPU ? map.valueSize : nil)
        }
    }

    // MARK: Streams

    private func printLog(_ record: [UInt8]) throws(Failure) {
        guard record.count >= LogRecord.headerSize else { return }
        let tid = littleEndian(record, at: 8, size: 4)
        let comm = String(decoding: record[12..<28].prefix { $0 != 0 }, as: UTF8.self)
        var text = String(decoding: record[LogRecord.headerSize...], as: UTF8.self)
        if text.hasSuffix("\n") { text.removeLast() }
        switch sink.format {
        case .text: try sink.line("\(clockText()) \(comm)-\(tid): \(text)")
        case .json:
            try emit("printk") { data in
                data.member("ns", littleEndian(record, at: 0, size: 8))
                data.member("tid", tid)
                data.member("comm", comm)
                data.member("text", text)
            }
        }
    }

    private func show(_ record: [UInt8], of index: Int) throws(Failure) {
        guard let map = object.maps.first(where: { maps[$0.name] == index }) else { return }
        // One ring stands for the buffers of all CPUs: the CPU and the size come before the data.
        let isForAll = map.type == .perfEventArray && record.count >= 8
        _ = try records.show(
            isForAll ? Array(record[8...].prefix(Int(littleEndian(record, at: 4, size: 4)))) : record,
            map
        )
    }

    // MARK: Leaks

    private func reportLeaks(_ view: SessionView, isFinal: Bool) throws(Failure) {
        guard let allocations = maps["allocs"], let stacks = maps["stack_traces"] else { return }
        let selection = LeakSelection(top: options.top ?? 10, olderMilliseconds: options.olderMilliseconds ?? 0)
        let report: LeakReport
        if options.combinedOnly, let combined = maps["combined_allocs"] {
            report = LeakReport(combined: MapView(view, combined).entries())
        } else {
            let entries = MapView(view, allocations).entries().compactMap { Allocation(key: $0.key, value: $0.value) }
            report = LeakReport(entries, now: monotonicNanoseconds(), selection: selection)
        }
        let stackMap = MapView(view, stacks)
        let names = symbolizer(view)
        let lines = { (id: Int32) -> [StackLine] in
            guard id >= 0 else { return StackLine.missing(id) }
            guard let addresses = stackMap.stack(UInt32(id)) else {
                return [.note("(no stack: it is not in the stack map)")]
            }
            return StackLine.lines(addresses, names)
        }
        let printer = LeakPrinter(sink: sink, half: .process, selection: selection, isFinal: isFinal)
        try printer.show(report, calls: calls(view), stack: lines)
        if let lost = variable("lost_allocs", view), lost > 0,
            let map = object.maps.first(where: { $0.name == "allocs" })
        {
            try warn(Failure.allocationsLost(lost, maxEntries: map.maxEntries))
        }
        if report.missedStacks > 0 { try warn(Failure.stacksMissed(report.missedStacks, bytes: report.missedBytes)) }
    }

    /// A global variable's present value; nil where the object has none of that name.
    private func variable(_ name: String, _ view: SessionView) -> UInt64? {
        for map in object.maps where map.contents != nil {
            guard let found = map.variables.first(where: { $0.name == name }), found.size <= 8,
                let index = maps[map.name],
                let value = MapView(view, index).entries().first?.value, found.offset + found.size <= value.count
            else { continue }
            return littleEndian(value, at: found.offset, size: found.size)
        }
        return nil
    }

    /// How often the allocating and the freeing functions were entered.
    private func calls(_ view: SessionView) -> LeakReport.Calls? {
        var calls = LeakReport.Calls(allocations: 0, frees: 0)
        for (index, probe) in probes.enumerated() where !probe.isReturn {
            let hits = view.counters(index).hits
            if probe.symbol == "free" || probe.symbol == "munmap" {
                calls.frees += hits
            } else {
                calls.allocations += hits
            }
        }
        return calls
    }

    private func symbolizer(_ view: SessionView) -> Symbolizer {
        let noted = view.notedModules()
        if let symbolizer, symbolizer.count == noted.count { return symbolizer.1 }
        var modules = startModules.flatMap(\.modules).map {
            SymbolizerModule(path: $0.isVDSO ? $0.path : $0.openPath, start: $0.start, end: $0.end, bias: $0.bias)
        }
        for module in noted where !module.path.isEmpty && module.path.hasPrefix("/") {
            if modules.contains(where: { $0.start < module.end && module.start < $0.end }) { continue }
            modules.append(
                SymbolizerModule(path: module.path, start: module.start, end: module.end, bias: module.bias)
            )
        }
        let made = Symbolizer(modules: modules)
        symbolizer = (noted.count, made)
        return made
    }

    // MARK: Other maps

    private func reportMaps(_ view: SessionView) throws(Failure) {
        for map in object.maps where map.contents == nil && !hidden.contains(map.name) {
            guard let index = maps[map.name] else { continue }
            let entries = MapView(view, index).entries().filter { $0.value.contains { $0 != 0 } }
            guard !entries.isEmpty else { continue }
            switch sink.format {
            case .text:
                try sink.line("\(map.name):")
                for (key, value) in entries {
                    try sink.line("  \(shown(key, map.keySize)): \(shown(value, map.valueSize))")
                }
            case .json:
                try emit("map") { data in
                    data.member("name", map.name)
                    data.key("entries")
                    data.array { list in
                        for (key, value) in entries {
                            list.object { entry in
                                entry.member("key", shown(key, map.keySize))
                                entry.member("value", shown(value, map.valueSize))
                            }
                        }
                    }
                }
            }
        }
    }

    /// Numbers of up to 8 bytes in decimal, one for each CPU; anything longer in hexadecimal.
    private func shown(_ bytes: [UInt8], _ size: Int) -> String {
        guard size > 0, size <= 8 else { return hexadecimal(bytes: bytes) }
        return stride(from: 0, to: bytes.count, by: size)
            .map { String(littleEndian(bytes, at: $0, size: size)) }
            .joined(separator: " ")
    }

    // MARK: Statistics

    private func reportStatistics(_ view: SessionView) throws(Failure) {
        var hits: UInt64 = 0
        var missed: UInt64 = 0
        for (index, probe) in probes.enumerated() {
            let counters = view.counters(index)
            hits += counters.hits
            missed += counters.missed
            messages.detail(
                "\(probe.program) on \(probe.module):\(probe.symbol): \(counters.hits) hits, \(counters.missed) missed"
            )
            if counters.traps > 0 {
                let kind = Int(counters.last_trap >> 32)
                try warn(
                    Failure.programTrapped(
                        probe.program,
                        count: counters.traps,
                        kind: TrapKind.allCases.first { Int($0.code) == kind }.map { "\($0)" } ?? "trap \(kind)",
                        instruction: Int(counters.last_trap & 0xffff_ffff)
                    )
                )
            }
        }
        let stacks = unsafe view.sharedHeader.pointee
        if stacks.stack_hits + stacks.stack_misses > 0 {
            let checked = stacks.stack_crosscheck == 0 ? "" : ", \(stacks.stack_differences) differed from a walk"
            messages.detail("stacks: \(stacks.stack_hits) remembered, \(stacks.stack_misses) walked\(checked)")
        }
        if missed > 0 { try warn(Failure.hitsMissed(missed)) }
        for library in libraries { try warn(library) }
        for map in object.maps where map.contents == nil {
            guard let index = maps[map.name] else { continue }
            let found = MapView(view, index)
            let dropped = found.droppedRecords
            if dropped > 0 {
                switch found.family {
                case .ringBuffer, .perfEventArray: try warn(Failure.recordsLost(map.name, dropped))
                default: try warn(Failure.mapFull(map.name, maxEntries: map.maxEntries))
                }
            }
        }
        if sink.format == .json {
            try emit("stats") { data in
                data.member("calls", hits)
                data.member("missed", missed)
                data.key("probes")
                data.array { list in
                    for (index, probe) in probes.enumerated() {
                        let counters = view.counters(index)
                        list.object { entry in
                            entry.member("program", probe.program)
                            entry.member("symbol", probe.symbol)
                            entry.member("module", probe.module)
                            entry.member("return", probe.isReturn)
                            entry.member("hits", counters.hits)
                            entry.member("missed", counters.missed)
                            entry.member("traps", counters.traps)
                        }
                    }
                }
            }
        }
    }

    // MARK: Records

    private func warn(_ warning: Failure) throws(Failure) {
        messages.warning(warning)
        if sink.format == .json { try sink.line(warning.json(as: "warning")) }
    }

    private func emit(_ type: String, _ body: (inout JSONWriter) -> Void) throws(Failure) {
        try sink.line(jsonRecord(type, body))
    }
}

/// One NDJSON record: `{"type":…,"data":{…}}`.
func jsonRecord(_ type: String, _ body: (inout JSONWriter) -> Void) -> String {
    var writer = JSONWriter()
    writer.object { record in
        record.member("type", type)
        record.key("data")
        record.object(body)
    }
    return writer.text
}

/// CLOCK_MONOTONIC, as `bpf_ktime_get_ns` gives it.
func monotonicNanoseconds() -> UInt64 {
    var now = timespec()
    _ = unsafe clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// With one decimal.
func milliseconds(_ nanoseconds: UInt64) -> String { "\(nanoseconds / 1_000_000).\(nanoseconds / 100_000 % 10)" }
