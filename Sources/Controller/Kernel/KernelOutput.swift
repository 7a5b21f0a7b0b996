import ISA
import JSON
import Kernel
import Loader

/// Shows what programs in the kernel send and gather, typed by the object's BTF.
final class KernelOutput {
    private let object: ObjectSpec
    private let sink: OutputSink
    private let messages: Messages
    private let records: RecordOutput
    private let options: RunOptions
    private let recipe: Recipe?
    private let stacks: KernelStacks
    private let view: TaggedView?
    /// Entries with stacks that are shown of a map.
    private let top: Int
    /// Maps and variables tagged `btf_decl_tag("hide")`: what programs only remember between their runs.
    private let hidden: Set<String>

    init(
        _ object: ObjectSpec,
        maps: [KernelMapHolder],
        options: RunOptions,
        sink: OutputSink,
        messages: Messages
    ) throws(Failure) {
        self.object = object
        self.options = options
        recipe = Recipe.matching(object)
        top = options.top ?? 20
        self.sink = sink
        self.messages = messages
        let stacks = KernelStacks(maps.filter { $0.spec.type == .stackTrace })
        self.stacks = stacks
        if let btf = object.btf {
            let tags = ObjectTags(btf)
            view = TaggedView(tags) { stacks.lines($0, $1, of: $2) }
            hidden = tags.hiddenMaps(in: btf)
        } else {
            view = nil
            hidden = []
        }
        records = try RecordOutput(object, events: options.events, view: view, sink: sink)
    }

    // MARK: Streams

    func show(_ item: KernelStreams.Item) throws(Failure) {
        switch item {
        case .line(let line): try show(line)
        case .record(let bytes, let map):
            if try !records.show(bytes, map) { messages.warning(.untypedRecords(map.name)) }
        }
    }

    private func show(_ line: TraceInstance.Line) throws(Failure) {
        switch sink.format {
        case .text: try sink.line("\(clockText()) \(printable(line.comm))-\(line.thread): \(printable(line.text))")
        case .json:
            try emit("printk") { data in
                data.member("time", timeText())
                data.member("tid", line.thread)
                data.member("comm", line.comm)
                data.member("text", line.text)
            }
        }
    }

    // MARK: Maps

    /// When processes were last looked at.
    private var lastLook: UInt64 = 0
    /// The process whose stacks a leak report has.
    private var process: Int32?

    /// Looks at the processes of the run, and at those whose stacks are in maps: they may have ended when those are shown.
    func lookAtProcesses(_ maps: some Sequence<KernelMapHolder>, _ processes: [Int32]) {
        process = processes.first
        if recipe?.report == .leaks { for process in processes { stacks.look(at: process) } }
        let now = monotonicNanoseconds()
        guard now >= lastLook + 200_000_000, let btf = object.btf else { return }
        lastLook = now
        for holder in maps where view?.hasStack(holder.spec.keyType, in: btf) == true {
            for key in holder.keys(limit: 4096) {
                let value = TypedValue(key, type: holder.spec.keyType, in: btf)
                if let process = value.flatMap({ TaggedView.process(of: $0) }) { stacks.look(at: process) }
            }
        }
    }

    /// The contents of maps, and of variables that programs have written.
    func report(_ maps: [KernelMapHolder], isFinal: Bool) throws(Failure) {
        if recipe?.report == .leaks { return try reportLeaks(maps, isFinal: isFinal) }
        if !isFinal, sink.format == .text { try sink.line("[\(clockText())]") }
        for holder in maps where !hidden.contains(holder.spec.name) {
            if holder.spec.contents != nil {
                if !holder.spec.isReadOnly, let bytes = holder.globals() { try showVariables(holder.spec, bytes) }
            } else if holder.isShown {
                try show(holder, try holder.entries())
            }
        }
    }

    /// memleak's: of the process where its programs run here, and of the kernel itself.
    private func reportLeaks(_ maps: [KernelMapHolder], isFinal: Bool) throws(Failure) {
        let named = { (name: String) in maps.first { $0.spec.name == name } }
        for half in LeakHalf.allCases {
            guard let table = named(half.table), let traces = named(half.stacks) else { continue }
            let selection = LeakSelection(top: options.top ?? 10, olderMilliseconds: options.olderMilliseconds ?? 0)
            let report: LeakReport
            if options.combinedOnly, half == .process, let combined = named("combined_allocs") {
                report = LeakReport(combined: try combined.entries())
            } else {
                let found = try table.entries().compactMap { Allocation(key: $0.key, value: $0.value) }
                report = LeakReport(found, now: monotonicNanoseconds(), selection: selection)
            }
            let stacks = stacks
            let process = process
            let printer = LeakPrinter(sink: sink, half: half, selection: selection, isFinal: isFinal)
            try printer.show(report, calls: nil) { id in
                if id < 0 { return StackLine.missing(id) }
                guard let addresses = traces.stack(UInt32(id)) else {
                    return [.note("(no stack: it is not in the stack map)")]
                }
                return stacks.lines(half == .kernel ? .kernel : .user, .addresses(addresses), of: process)
            }
            if report.missedStacks > 0 {
                messages.warning(.stacksMissed(report.missedStacks, bytes: report.missedBytes))
            }
        }
        let lost = [
            (LeakHalf.process, number("lost_allocs", maps)),
            (.kernel, try named("kernel_lost")?.entries().first.map { littleEndian($0.value, at: 0, size: 8) }),
        ]
        for (half, count) in lost {
            guard let count, count > 0, let table = named(half.table) else { continue }
            messages.warning(.allocationsLost(count, maxEntries: table.spec.maxEntries, map: table.spec.name))
        }
    }

    /// A global variable's present value; nil where these maps have none of that name.
    private func number(_ name: String, _ maps: [KernelMapHolder]) -> UInt64? {
        for holder in maps where holder.spec.contents != nil && !holder.spec.isReadOnly {
            guard let found = holder.spec.variables.first(where: { $0.name == name }), found.size <= 8,
                let bytes = holder.globals(), found.offset + found.size <= bytes.count
            else { continue }
            return littleEndian(bytes, at: found.offset, size: found.size)
        }
        return nil
    }

    /// Variables that are not zero: counters and histograms that need no map.
    private func showVariables(_ map: MapSpec, _ bytes: [UInt8]) throws(Failure) {
        guard let btf = object.btf else { return }
        for variable in map.variables where variable.type != 0 && variable.offset + variable.size <= bytes.count {
            if hidden.contains(variable.name) { continue }
            let own = Array(bytes[variable.offset..<variable.offset + variable.size])
            guard own.contains(where: { $0 != 0 }),
                let value = TypedValue(own, type: variable.type, in: btf, view: view)
            else {
                continue
            }
            guard case .list(let elements) = value, elements.contains(where: { $0["slots"]?.numbers != nil }) else {
                try show(Shown(name: variable.name, key: nil, value: value))
                continue
            }
            for (index, element) in elements.enumerated()
            where element["slots"]?.numbers?.contains(where: { $0 != 0 }) == true {
                try show(Shown(name: variable.name, key: .unsigned(UInt64(index)), value: element))
            }
        }
    }

    /// One element, typed.
    private struct Shown {
        var name: String
        var key: TypedValue?
        var value: TypedValue

        /// The counts, where the value is or has an array `slots`.
        var slots: [UInt64]? { value["slots"]?.numbers }

        /// What the value says beside its slots: `comm` of runqlat, for one.
        var rest: [TypedValue.Field] {
            guard case .record(let fields) = value else { return [] }
            return fields.filter { $0.name != "slots" }
        }
    }

    private func show(
        _ holder: KernelMapHolder,
        _ entries: [(key: [UInt8], value: [UInt8])]
    ) throws(Failure) {
        let spec = holder.spec
        let ranked = entries.map { entry in
            (entry, rank: Self.rank(value(entry.value, of: holder, nil)))
        }.sorted { $0.rank < $1.rank }
        // Naming addresses takes long, and hundreds of stacks are not read.
        let isLimited = hasStacks(spec) && ranked.count > top
        let shown = (isLimited ? ranked.suffix(top) : ranked[...]).map { ranked in
            Shown(
                name: spec.name,
                key: typed(ranked.0.key, spec.keyType, view),
                value: value(ranked.0.value, of: holder, view)
            )
        }
        if shown.isEmpty { return }
        if isLimited {
            messages.status("\(spec.name): \(ranked.count - top) smaller ones of \(ranked.count) are not shown (--top)")
        }
        let isHistogram = shown.contains { $0.slots != nil }
        if sink.format == .text, !isHistogram { try sink.line("\(spec.name):") }
        if sink.format == .json, !isHistogram {
            return try emit("map") { data in
                data.member("name", spec.name)
                if isLimited { data.member("omitted", ranked.count - top) }
                data.key("entries")
                data.array { list in
                    for element in shown {
                        list.object { entry in
                            entry.key("key")
                            element.key?.write(to: &entry)
                            entry.key("value")
                            element.value.write(to: &entry)
                        }
                    }
                }
            }
        }
        for element in shown {
            if isHistogram {
                try show(element)
            } else {
                try sink.line("  \(element.key?.text ?? ""): \(element.value.text)")
                let lines = (element.key?.stackLines ?? []) + element.value.stackLines
                if !lines.isEmpty { try sink.line(lines.joined(separator: "\n")) }
            }
        }
    }

    private func show(_ element: Shown) throws(Failure) {
        let slots = element.slots
        let histogram = Log2Histogram(slots: slots ?? [])
        switch sink.format {
        case .text:
            let title = element.key.map { "\(element.name)[\($0.text)]" } ?? element.name
            guard slots != nil else { return try sink.line("\(title): \(element.value.text)") }
            let rest = element.rest.map { " \($0.name)=\($0.value.text)" }.joined()
            try sink.line(([title + ":" + rest] + histogram.lines).joined(separator: "\n"))
        case .json:
            try emit(slots == nil ? "variable" : "hist") { data in
                data.member("name", element.name)
                if let key = element.key {
                    data.key("key")
                    key.write(to: &data)
                }
                guard slots != nil else {
                    data.key("value")
                    return element.value.write(to: &data)
                }
                for field in element.rest {
                    data.key(field.name)
                    field.value.write(to: &data)
                }
                data.key("buckets")
                data.array { list in
                    for bucket in histogram.buckets {
                        list.object { entry in
                            entry.member("min", bucket.min)
                            entry.member("max", bucket.max)
                            entry.member("count", bucket.count)
                        }
                    }
                }
            }
        }
    }

    /// Numbers, and histograms by all they count, in ascending order as bpftrace sorts; everything else as the kernel has it.
    private static func rank(_ value: TypedValue) -> Double {
        switch value {
        case .signed(let number): Double(number)
        case .unsigned(let number): Double(number)
        case .record: value["slots"]?.numbers.map { Double($0.reduce(0, &+)) } ?? 0
        case .flag, .float, .address, .text, .list, .time, .stack: 0
        }
    }

    private func hasStacks(_ spec: MapSpec) -> Bool {
        guard let btf = object.btf, let view else { return false }
        return [spec.keyType, spec.valueType].contains { view.hasStack($0, in: btf) }
    }

    private func value(_ bytes: [UInt8], of holder: KernelMapHolder, _ view: TaggedView?) -> TypedValue {
        holder.isPerCPU ? perCPU(bytes, holder.spec, view) : typed(bytes, holder.spec.valueType, view)
    }

    private func typed(_ bytes: [UInt8], _ type: UInt32, _ view: TaggedView?) -> TypedValue {
        if type != 0, let btf = object.btf, let value = TypedValue(bytes, type: type, in: btf, view: view) {
            return value
        }
        guard bytes.count <= 8, !bytes.isEmpty else { return .text(hexadecimal(bytes: bytes)) }
        return .unsigned(littleEndian(bytes, at: 0, size: bytes.count))
    }

    /// The copies of all CPUs; those of a histogram are added up.
    private func perCPU(_ bytes: [UInt8], _ spec: MapSpec, _ view: TaggedView?) -> TypedValue {
        let stride = (spec.valueSize + 7) / 8 * 8
        let copies = (0..<bytes.count / max(1, stride)).map { index in
            typed(Array(bytes[index * stride..<index * stride + spec.valueSize]), spec.valueType, view)
        }
        let slots = copies.compactMap { $0["slots"]?.numbers }
        guard slots.count == copies.count, let first = slots.first else { return .list(copies) }
        let sums = first.indices.map { index in TypedValue.unsigned(slots.reduce(0) { $0 &+ $1[index] }) }
        return .record([TypedValue.Field(name: "slots", value: .list(sums))])
    }

    private func emit(_ type: String, _ body: (inout JSONWriter) -> Void) throws(Failure) {
        try sink.line(jsonRecord(type, body))
    }

    /// What an iterator printed.
    func show(_ text: String, of program: String) throws(Failure) {
        switch sink.format {
        case .text: try sink.line(text.hasSuffix("\n") ? String(text.dropLast()) : text)
        case .json:
            try emit("iterator") { data in
                data.member("program", program)
                data.member("text", text)
            }
        }
    }
}
