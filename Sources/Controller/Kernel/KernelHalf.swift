import Glibc
import ISA
import Kernel
package import Loader
import VerifierInput

/// The programs of an object that run in the kernel, with their maps, from loading to the last report.
///
/// One program that the kernel refuses does not cost the others: it is left out with a warning, which `--strict` makes an
/// error. When this goes, or this process is killed, the kernel detaches and frees everything.
package final class KernelHalf {
    private let options: RunOptions
    private let messages: Messages
    private let object: ObjectSpec
    private let attaching: KernelAttaching
    /// The object's types in the kernel.
    private let types: HeldTypes?
    private var maps: [Int: KernelMapHolder] = [:]
    private var programs: [Int: KernelProgramHolder] = [:]
    private var links: [(program: Int, links: [KernelLinkHolder])] = []
    /// Programs on functions of processes that have not been started yet.
    private var waiting: [AttachRequest] = []
    private var attached: Set<Int32> = []
    /// Maps that programs in the process use.
    private let inProcess: Set<Int>
    private var streams: KernelStreams?
    private var output: KernelOutput?

    /// Places where programs are attached.
    var attachedCount: Int { links.reduce(0) { $0 + $1.links.count } }

    /// Names of the programs that are attached.
    var attachedNames: [String] { links.map { object.programs[$0.program].name } }

    /// Loads what a plan has for the kernel; nil where privileges are missing and the rest goes on without it.
    package static func load(
        _ object: ObjectSpec,
        _ plan: AttachPlan,
        _ options: RunOptions,
        _ messages: Messages
    ) throws(Failure) -> KernelHalf? {
        let wanted = plan.kernelPrograms + Set(plan.kernelRequests.map(\.program)).sorted()
        guard !wanted.isEmpty else { return nil }
        if !plan.kernelRequests.isEmpty, options.followsFork || options.followsExec {
            throw .followsNobody(plan.kernelRequests)
        }
        guard Self.isPermitted else {
            let warning = Failure.kernelSkipped(wanted.map { object.programs[$0].name })
            if options.isStrict || plan.requests.isEmpty { throw warning }
            messages.warning(warning)
            return nil
        }
        let half = KernelHalf(object, plan, options, messages)
        try half.load(wanted, plan)
        return half.links.isEmpty && half.waiting.isEmpty ? nil : half
    }

    private init(_ object: ObjectSpec, _ plan: AttachPlan, _ options: RunOptions, _ messages: Messages) {
        self.object = object
        self.options = options
        self.messages = messages
        types = HeldTypes(object) { messages.detail("the kernel does not take the object's types: \($0)") }
        attaching = KernelAttaching(pids: options.pids) { messages.detail($0) }
        inProcess = object.mapsUsed(by: plan.requests.map(\.program))
    }

    /// Whether a program that does nothing is taken; capabilities alone do not say (sysctls, seccomp, security modules).
    package static var isPermitted: Bool {
        do throws(KernelError) {
            _ = try KernelProgram(
                [Instruction(.mov64Imm, dst: .r0, imm: 0), Instruction(.exit)],
                type: .tracepoint
            )
            return true
        } catch { return error.errno != EPERM && error.errno != ENOSYS }
    }

    // MARK: Loading

    private func load(_ wanted: [Int], _ plan: AttachPlan) throws(Failure) {
        var refusals: [Failure] = []
        // Whose process is to come: a command's, or that of a program that started us.
        let isEarly = !options.command.isEmpty || options.helperSocket != nil
        for index in wanted {
            do throws(Failure) {
                try run(index, plan, isEarly: isEarly)
            } catch {
                let replaced = try replace(index, plan)
                if replaced {
                    messages.detail(error.text(as: "note"))
                    continue
                }
                if options.isStrict { throw error }
                refusals.append(error)
            }
        }
        links.removeAll { $0.links.isEmpty }
        // With nothing left, the last one is the run's error.
        let isFatal = links.isEmpty && waiting.isEmpty && plan.requests.isEmpty
        for refusal in isFatal ? refusals.dropLast() : refusals[...] { messages.warning(refusal) }
        if isFatal { throw refusals.last ?? Failure.nothingToAttach(object.name) }
        try fillProgramArrays()
        for map in maps.values { try map.pin() }
        for pid in options.pids { try name(pid) }
        let prints = programs.values.contains { holder in
            // bpf_trace_printk, bpf_trace_vprintk
            holder.spec.instructions.contains { $0.opcode == .callHelper && ($0.imm == 6 || $0.imm == 177) }
        }
        streams = try KernelStreams(maps.sorted { $0.key < $1.key }.map(\.value), prints: prints) {
            (warning) throws(Failure) in
            if options.isStrict { throw warning }
            messages.warning(warning)
        }
    }

    /// Loads one program and attaches it, unless its process is to come.
    private func run(_ index: Int, _ plan: AttachPlan, isEarly: Bool) throws(Failure) {
        try KernelAttaching.check(object.programs[index])
        try check(index)
        for reached in object.programs(reachedFrom: [index]) { try load(reached) }
        let places = plan.kernelRequests.filter { $0.program == index }
        guard let holder = programs[index] else { return }
        if isEarly, !places.isEmpty {
            waiting += places
        } else {
            links.append((index, try attaching.attach(holder, places: places)))
        }
    }

    /// Attaches programs to functions of a process that has not run yet.
    func attach(to process: KernelAttaching.Process) throws(Failure) {
        // A program that a process executes is still that process.
        guard attached.insert(process.pid).inserted else { return }
        try name(process.pid)
        guard !waiting.isEmpty else { return }
        attaching.processes = [process]
        var refusals: [Failure] = []
        for program in Set(waiting.map(\.program)).sorted() {
            guard let holder = programs[program] else { continue }
            do throws(Failure) {
                let made = try attaching.attach(holder, places: waiting.filter { $0.program == program })
                if !made.isEmpty { links.append((program, made)) }
            } catch {
                if options.isStrict { throw error }
                refusals.append(error)
            }
        }
        if links.isEmpty, inProcess.isEmpty, let last = refusals.popLast() { throw last }
        for refusal in refusals { messages.warning(refusal) }
    }

    /// Runs the programs tagged `instead-of:NAME` of a program that was refused; whether there are any, and all run.
    private func replace(_ refused: Int, _ plan: AttachPlan) throws(Failure) -> Bool {
        let name = object.programs[refused].name
        let substitutes = object.substitutes(for: refused)
        if substitutes.isEmpty { return false }
        let before = links.count
        for index in substitutes where !links.contains(where: { $0.program == index }) {
            do throws(Failure) { try run(index, plan, isEarly: false) } catch {
                messages.detail(error.text(as: "note"))
                // All or none of them.
                links.removeLast(links.count - before)
                return false
            }
            messages.detail("program '\(object.programs[index].name)' runs instead of '\(name)'")
        }
        return true
    }

    /// Puts a process into the maps that are tagged to have those of the run.
    private func name(_ process: Int32) throws(Failure) {
        guard let btf = object.btf else { return }
        let names = ObjectTags(btf).names(tagged: "processes", .variable, in: btf)
        for holder in maps.values where names.contains(holder.spec.name) {
            try holder.set(Int(process), to: [1] + [UInt8](repeating: 0, count: max(0, holder.spec.valueSize - 1)))
        }
    }

    private func load(_ index: Int) throws(Failure) {
        guard programs[index] == nil else { return }
        for map in maps(usedBy: [index]).sorted() { try make(map, for: object.programs[index].name) }
        let messages = messages
        let attaching = attaching
        programs[index] = try KernelProgramHolder(
            object.programs[index],
            of: object,
            maps: maps,
            types: types?.descriptor,
            substitute: attaching.substitute(for:),
            log: { messages.detail($0) }
        )
    }

    private func make(_ index: Int, for program: String) throws(Failure) {
        guard maps[index] == nil else { return }
        var spec = object.maps[index]
        try KernelConfiguration.fill(&spec, of: program)
        if isMapped(index) { spec.flags |= Placement.mappable }
        let holder = try KernelMapHolder(spec, types: types?.descriptor)
        maps[index] = holder
        for element in spec.initialElements {
            switch element.value {
            case .program: break
            case .map(let inner):
                try make(inner, for: program)
                if let inner = maps[inner] { try holder.set(element.index, to: inner.map.descriptor) }
            case .controlGroup(let path):
                try ControlGroups.withDirectory(path, for: spec.name) { directory throws(Failure) in
                    try holder.set(element.index, to: directory)
                }
            }
        }
    }

    private func fillProgramArrays() throws(Failure) {
        for holder in maps.values where holder.spec.type == .programArray {
            for element in holder.spec.initialElements {
                guard case .program(let name) = element.value,
                    let program = programs.values.first(where: { $0.spec.name == name })
                else { continue }
                try holder.set(element.index, to: program.program.descriptor)
            }
        }
    }

    /// Refuses a program that uses a map which programs in the process use as well, and which cannot be there.
    private func check(_ index: Int) throws(Failure) {
        let shared = object.mapsUsed(by: [index]).intersection(inProcess)
        guard let map = shared.filter({ Placement.shared($0, of: object) == .kernel }).min() else { return }
        throw .sharedMap(object.programs[index].name, map: object.maps[map].name, type: object.maps[map].type.name)
    }

    private func isMapped(_ map: Int) -> Bool {
        inProcess.contains(map) && Placement.shared(map, of: object) == .mapped
    }

    /// Arrays whose memory the process is to have mapped: their descriptors, by index into the object's maps.
    var arrays: [Int: Int32] { maps.filter { isMapped($0.key) }.mapValues { $0.map.descriptor } }

    private func maps(usedBy programs: [Int]) -> Set<Int> {
        var used: Set<Int> = []
        for instruction in programs.flatMap({ object.programs[$0].instructions }) {
            switch instruction.opcode {
            case .loadMap, .loadMapValue: used.insert(Int(instruction.imm & 0xffff_ffff))
            default: break
            }
        }
        return used.filter { object.maps.indices.contains($0) }
    }

    // MARK: Results

    /// Where results go, once that is known.
    func begin(_ sink: OutputSink) throws(Failure) {
        output = try KernelOutput(
            object,
            maps: maps.sorted { $0.key < $1.key }.map(\.value),
            options: options,
            sink: sink,
            messages: messages
        )
    }

    /// Shows what has come since the last call, for 100 ms at most: programs may send faster than records can be shown.
    ///
    /// `isFinal`: nothing is attached any more, and what is there is shown, for 10 s at most; the programs of others print on.
    func drain(isFinal: Bool = false) throws(Failure) {
        guard let output, let streams else { return }
        let end = monotonicNanoseconds() + (isFinal ? 10_000_000_000 : 100_000_000)
        try streams.drain(until: end) { (item) throws(Failure) in try output.show(item) }
        output.lookAtProcesses(maps.values, options.pids + attached)
    }

    /// Shows the maps: at an interval, on SIGUSR1, or at the end.
    func report(isFinal: Bool) throws(Failure) {
        try drain(isFinal: isFinal)
        guard let output else { return }
        for (index, links) in links {
            guard case .kernel(let hook, _) = object.programs[index].attach, hook.hasPrefix("iter") else { continue }
            for holder in links {
                do throws(KernelError) {
                    let text = try holder.link.read()
                    do throws(Failure) { try output.show(text, of: object.programs[index].name) } catch {
                        throw KernelError(call: error.what, errno: 0)
                    }
                } catch {
                    throw .kernelAttachFailed(
                        object.programs[index].name,
                        section: object.programs[index].section,
                        error.description
                    )
                }
            }
        }
        let shown = maps.sorted { $0.key < $1.key }.map(\.value)
        try output.report(shown, isFinal: isFinal)
        guard isFinal else { return }
        for (map, count) in streams?.lost.sorted(by: { $0.key < $1.key }) ?? [] {
            messages.warning(.recordsLost(map, count))
        }
    }

    /// The elements of all maps that can be compared with those of another run.
    func collect(into collector: MapCollector) throws(Failure) {
        let hidden = object.btf.map { ObjectTags($0).hiddenMaps(in: $0) } ?? []
        for holder in maps.values where holder.spec.isCompared && !hidden.contains(holder.spec.name) {
            let stride = holder.isPerCPU ? (holder.spec.valueSize + 7) / 8 * 8 : nil
            collector.take(holder.spec.name, try holder.entries(), stride: stride)
        }
    }

    /// Takes the programs out; what they gathered stays until the report.
    func detach() {
        // Iterators run when they are read.
        links.removeAll { entry in
            guard case .kernel(let hook, _) = object.programs[entry.program].attach else { return true }
            return !hook.hasPrefix("iter")
        }
    }
}

/// Types of an object in the kernel, for as long as its maps and programs are made.
final class HeldTypes {
    private let types: KernelBTF

    var descriptor: Int32 { types.descriptor }

    /// Nil without types, and for a kernel that does not take them: most programs work without.
    init?(_ object: ObjectSpec, refused: (String) -> Void = { _ in }) {
        guard let types = object.btf else { return nil }
        let hidden = object.programs.flatMap(\.functions).filter(\.isHidden).map(\.type)
        do throws(KernelError) { self.types = try KernelBTF(types, statics: Set(hidden)) } catch {
            refused(error.description)
            return nil
        }
    }
}
