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
    private let pids: [Int32]
    private var trace: TraceHolder?

    private final class TraceHolder {
        let files: TraceFiles

        init() throws(KernelError) { files = try TraceFiles() }
    }

    /// Samples a second that `SEC("perf_event")` gets, as profilers take them: not in step with timers.
    private static let frequency: UInt64 = 99

    /// `pids` are the processes that uprobes are for; all where it is empty.
    init(pids: [Int32]) { self.pids = pids }

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
        case .usdt:
            throw .noKernelHook(spec.name, section: spec.section, why: "USDT probes are not attached in the kernel")
        case .kernel(let hook, _):
            let kinds: Set<String> = [
                "tp", "tracepoint", "raw_tp", "raw_tracepoint", "tp_btf", "fentry", "fexit", "fmod_ret", "lsm", "iter",
                "kprobe", "kretprobe", "ksyscall", "kretsyscall",
            ]
            guard !kinds.contains(kind(of: hook)) else { return }
            throw .noKernelHook(spec.name, section: spec.section, why: "ubpfrun does not attach programs of '\(hook)'")
        case .uprobe, .none: return
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
            return [try kernelHook(holder, hook: hook, target: target)]
        case .none(let hook):
            return hook == "perf_event" ? try sampling(holder) : []
        case .uprobe:
            var links: [KernelLinkHolder] = []
            for place in places { links += try uprobe(holder, place) }
            return links
        case .usdt: return []
        }
    }

    private func traceFiles() throws(Failure) -> TraceHolder {
        if let trace { return trace }
        do throws(KernelError) {
            let made = try TraceHolder()
            trace = made
            return made
        } catch { throw .noTraceFiles("it has the numbers of tracepoints", error.description) }
    }

    private func checked(
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
        } catch {
            // The kernel has no such kind of event at all.
            if error.call.hasPrefix("open("), error.errno == ENOENT {
                throw .noKprobes(spec.name, function: function, substitute: substitute(for: function))
            }
            throw .kernelAttachFailed(spec.name, section: spec.section, error.description)
        }
    }

    /// One event for every CPU: software clocks, as virtual machines have no counters.
    private func sampling(_ holder: KernelProgramHolder) throws(Failure) -> [KernelLinkHolder] {
        var links: [KernelLinkHolder] = []
        for cpu in 0..<Int32(possibleCPUs) {
            do throws(KernelError) {
                let link = try KernelLink.sampling(holder.program, cpu: cpu, frequency: Self.frequency)
                links.append(KernelLinkHolder(link))
            } catch {
                if error.errno == ENODEV { continue }
                throw .kernelAttachFailed(holder.spec.name, section: holder.spec.section, error.description)
            }
        }
        return links
    }

    // MARK: Functions of files

    private func uprobe(_ holder: KernelProgramHolder, _ request: AttachRequest) throws(Failure) -> [KernelLinkHolder] {
        let spec = holder.spec
        do throws(Failure) {
            let path = try file(of: request)
            let offset = try Self.offset(of: request.place, in: path)
            var links: [KernelLinkHolder] = []
            for pid in pids.isEmpty ? [nil] : pids.map(Optional.some) {
                links.append(
                    try checked(spec) { () throws(KernelError) in
                        try KernelLink.uprobe(
                            holder.program,
                            path: path,
                            offset: offset,
                            isReturn: request.isReturn,
                            pid: pid
                        )
                    }
                )
            }
            return links
        } catch {
            if request.isOptional { return [] }
            throw error
        }
    }

    /// The file that a place is in: a path, a command of PATH, or a library by the start of its name.
    private func file(of request: AttachRequest) throws(Failure) -> String {
        let module = request.place.module ?? "libc.so.6"
        if module.contains("/") { return module }
        var directories = [
            "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/local/lib",
        ]
        directories += (environmentValue("PATH") ?? "").split(separator: ":").map(String.init)
        for name in [module, "\(module).so.6", "\(module).so.1", "\(module).so"] {
            for directory in directories where unsafe access("\(directory)/\(name)", R_OK) == 0 {
                return "\(directory)/\(name)"
            }
        }
        throw Failure(
            .fileMissing,
            "no file '\(module)' for program '\(request.name)'",
            why: "it is neither a library nor a command here",
            help: "--attach \(request.name)=/path/to/file:\(request.place.symbol)"
        )
    }

    /// Where a function's code is in its file.
    private static func offset(of place: Place, in path: String) throws(Failure) -> UInt64 {
        let symbols: ModuleSymbols
        do { symbols = try ModuleSymbols(path: path) } catch { throw Failure(error) }
        guard let found = symbols.definitions(of: place.symbol).first,
            let offset = symbols.fileOffset(of: found.address &+ place.offset)
        else {
            throw Failure(
                .symbolNotFound,
                "no function '\(place.symbol)' in \(path)",
                help: symbols.suggestions(for: place.symbol).first.map { "did you mean '\($0)'?" }
            )
        }
        return offset
    }
}
