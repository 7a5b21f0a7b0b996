import Glibc
import ISA
import Kernel
import Loader
import Symbols

/// A program's place in the kernel, for as long as the run lasts.
final class KernelLinkHolder {
    let link: KernelLink

    init(_ link: consuming KernelLink) { self.link = link }
}

/// Attaches loaded programs to what their sections name.
final class KernelAttaching {
    /// The processes that uprobes are for; all where it is empty.
    var processes: [Process]
    /// What a run with -v says.
    private let note: (String) -> Void
    private var trace: TraceHolder?

    /// A process, and where its files are found.
    struct Process {
        var pid: Int32
        /// The program that it is about to become, where it does not have its modules yet.
        var program: String?
    }

    final class TraceHolder {
        let files: TraceFiles

        init() throws(KernelError) { files = try TraceFiles() }
    }

    /// Samples a second that `SEC("perf_event")` gets, as profilers take them: not in step with timers.
    private static let frequency: UInt64 = 99

    init(pids: [Int32], note: @escaping (String) -> Void) {
        processes = pids.map { Process(pid: $0) }
        self.note = note
    }

    /// The tracepoint that sees what a probe on a function would, if this kernel has one.
    func substitute(for function: String) -> String? {
        KernelSubstitutes.tracepoint(for: function) { name in
            guard let files = try? traceFiles() else { return false }
            return files.files.identifier(name) != nil
        }
    }

    /// Refuses, before anything is loaded, what has no way to be attached here.
    static func check(_ spec: ProgramSpec) throws(Failure) {
        switch spec.attach {
        case .kernel(let hook, _):
            let kinds: Set<String> = [
                "tp", "tracepoint", "raw_tp", "raw_tracepoint", "tp_btf", "fentry", "fexit", "fmod_ret", "lsm", "iter",
                "kprobe", "kretprobe", "ksyscall", "kretsyscall", "kprobe.multi", "kretprobe.multi",
            ]
            guard !kinds.contains(kind(of: hook)) else { return }
            throw .noKernelHook(spec.name, section: spec.section, why: "ubpfrun does not attach programs of '\(hook)'")
        case .uprobe, .usdt, .none: return
        }
    }

    /// A section's first part without `.s` (sleepable) and `.w` (writable).
    static func kind(of hook: String) -> String {
        hook.hasSuffix(".s") || hook.hasSuffix(".w") ? String(hook.dropLast(2)) : hook
    }

    /// The links of one program; `places` are those of a uprobe program.
    func attach(_ holder: KernelProgramHolder, places: [AttachRequest]) throws(Failure) -> [KernelLinkHolder] {
        let spec = holder.spec
        switch spec.attach {
        case .kernel(let hook, let target):
            switch hook {
            case "kprobe.multi", "kretprobe.multi": return try kprobes(holder, hook, pattern: target)
            default: return [try kernelHook(holder, hook: hook, target: target)]
            }
        case .none(let hook):
            return hook == "perf_event" ? try sampling(holder) : []
        case .uprobe, .usdt:
            var links: [KernelLinkHolder] = []
            for place in places { links += try uprobe(holder, place) }
            return links
        }
    }

    func traceFiles() throws(Failure) -> TraceHolder {
        if let trace { return trace }
        do throws(KernelError) {
            let made = try TraceHolder()
            trace = made
            return made
        } catch { throw .noTraceFiles("it has the numbers of tracepoints", error.description) }
    }

    func checked(
        _ spec: ProgramSpec,
        _ body: () throws(KernelError) -> KernelLink
    ) throws(Failure) -> KernelLinkHolder {
        do throws(KernelError) { return KernelLinkHolder(try body()) } catch {
            throw .kernelAttachFailed(spec.name, section: spec.section, error.description)
        }
    }

    private func kernelHook(
        _ holder: KernelProgramHolder,
        hook: String,
        target: String
    ) throws(Failure) -> KernelLinkHolder {
        let spec = holder.spec
        let kind = Self.kind(of: hook)
        switch kind {
        case "tp", "tracepoint": return try tracepoint(holder, target)
        case "raw_tp", "raw_tracepoint":
            do throws(KernelError) {
                return KernelLinkHolder(try KernelLink.rawTracepoint(holder.program, name: target))
            } catch {
                guard error.errno == ENOENT else {
                    throw .kernelAttachFailed(spec.name, section: spec.section, error.description)
                }
                throw .noTracepoint(spec.name, name: target, near: near(target, isRaw: true))
            }
        case "tp_btf", "fentry", "fexit", "fmod_ret", "lsm":
            return try checked(spec) { () throws(KernelError) in
                try KernelLink.rawTracepoint(holder.program, name: nil)
            }
        case "iter":
            return try checked(spec) { () throws(KernelError) in try KernelLink.iterator(holder.program) }
        case "kprobe", "kretprobe", "ksyscall", "kretsyscall": return try kprobe(holder, kind, target)
        default:
            throw .noKernelHook(spec.name, section: spec.section, why: "ubpfrun does not attach programs of '\(kind)'")
        }
    }

    private func tracepoint(_ holder: KernelProgramHolder, _ target: String) throws(Failure) -> KernelLinkHolder {
        let spec = holder.spec
        let trace = try traceFiles()
        guard let identifier = trace.files.identifier(target) else {
            throw .noTracepoint(spec.name, name: target, near: near(target, isRaw: false))
        }
        return try checked(spec) { () throws(KernelError) in
            try KernelLink.tracepoint(holder.program, identifier: identifier)
        }
    }

    private func near(_ name: String, isRaw: Bool) -> String? {
        guard let trace = try? traceFiles() else { return nil }
        let known = trace.files.tracepoints()
        guard isRaw || !name.contains("/") else { return nearest(name, among: known) }
        // Raw tracepoints are named without their category.
        let bare = known.map { String($0.split(separator: "/").last ?? "") }
        guard isRaw else { return known.first { $0.hasSuffix("/\(name)") } ?? nearest(name, among: bare) }
        return nearest(name, among: bare)
    }

    private func kprobe(
        _ holder: KernelProgramHolder,
        _ kind: String,
        _ target: String
    ) throws(Failure) -> KernelLinkHolder {
        let spec = holder.spec
        let isCall = kind.hasSuffix("syscall")
        let place = Place(isCall ? "__x64_sys_\(target)" : target)
        let function = place?.symbol ?? target
        do throws(KernelError) {
            let link = try KernelLink.kprobe(
                holder.program,
                function: function,
                offset: place?.offset ?? 0,
                isReturn: kind.hasPrefix("kret")
            )
            return KernelLinkHolder(link)
        } catch { throw refusal(error, spec, function: function) }
    }

    private func refusal(_ error: KernelError, _ spec: ProgramSpec, function: String) -> Failure {
        // The kernel has no such kind of event at all.
        if error.call.hasPrefix("open("), error.errno == ENOENT {
            return .noKprobes(spec.name, function: function, substitute: substitute(for: function))
        }
        if error.errno == ENOENT || error.errno == ESRCH {
            return .noKernelFunction(spec.name, function: function, near: nearFunction(function))
        }
        return .kernelAttachFailed(spec.name, section: spec.section, error.description)
    }

    private func nearFunction(_ name: String) -> String? {
        // Thousands of names: only those that begin alike.
        let start = name.prefix(4)
        return nearest(name, among: KernelSymbols.shared.functions { $0.hasPrefix(start) })
    }

    /// Functions by a pattern: with one link where the kernel has such links, else one by one.
    private func kprobes(
        _ holder: KernelProgramHolder,
        _ hook: String,
        pattern: String
    ) throws(Failure) -> [KernelLinkHolder] {
        let spec = holder.spec
        let isReturn = hook.hasPrefix("kret")
        let functions = tracedFunctions(pattern)
        guard !functions.isEmpty else {
            throw .noKernelFunction(spec.name, function: pattern, near: nearFunction(pattern))
        }
        if holder.isForMany {
            do throws(KernelError) {
                let link = try KernelLink.kprobes(holder.program, functions: functions, isReturn: isReturn)
                return [KernelLinkHolder(link)]
            } catch { throw refusal(error, spec, function: functions[0]) }
        }
        var links: [KernelLinkHolder] = []
        var first: KernelError?
        for function in functions {
            do throws(KernelError) {
                let link = try KernelLink.kprobe(holder.program, function: function, offset: 0, isReturn: isReturn)
                links.append(KernelLinkHolder(link))
            } catch { first = first ?? error }
        }
        if links.isEmpty, let first { throw refusal(first, spec, function: functions[0]) }
        if links.count < functions.count {
            note("\(spec.name): \(functions.count - links.count) of \(functions.count) functions cannot be probed")
        }
        return links
    }

    /// Functions that fit a pattern and can be traced; one name is taken as it is.
    private func tracedFunctions(_ pattern: String) -> [String] {
        guard Glob.isPattern(pattern) else { return [pattern] }
        let glob = Glob(pattern)
        if let trace = try? traceFiles(), let known = trace.files.tracedFunctions() {
            // Functions of the kernel that are gone: start-up code, and weak ones that others replaced.
            return Set(known.filter { glob.matches($0) && !$0.hasPrefix("__ftrace_invalid_address") }).sorted()
        }
        return Set(KernelSymbols.shared.functions { glob.matches($0) }).sorted()
    }

    /// One event for every CPU: of the CPU's counter of cycles, else of the kernel's clock.
    private func sampling(_ holder: KernelProgramHolder) throws(Failure) -> [KernelLinkHolder] {
        var refusal: KernelError?
        for clock in KernelLink.Clock.allCases {
            var links: [KernelLinkHolder] = []
            refusal = nil
            for cpu in 0..<Int32(possibleCPUs) {
                do throws(KernelError) {
                    let link = try KernelLink.sampling(holder.program, cpu: cpu, frequency: Self.frequency, by: clock)
                    links.append(KernelLinkHolder(link))
                } catch {
                    // ENODEV: a CPU that is offline.
                    if error.errno == ENODEV { continue }
                    refusal = error
                    break
                }
            }
            if refusal == nil, !links.isEmpty {
                note("\(holder.spec.name) takes \(Self.frequency) samples a second of every CPU, by \(clock.name)")
                return links
            }
        }
        let reason = refusal?.description ?? "no CPU is online"
        throw .kernelAttachFailed(holder.spec.name, section: holder.spec.section, reason)
    }
}
