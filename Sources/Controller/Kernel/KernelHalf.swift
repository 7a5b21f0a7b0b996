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
        guard Self.isPermitted else {
            let warning = Failure.kernelSkipped(wanted.map { object.programs[$0].name })
            if options.isStrict || plan.requests.isEmpty { throw warning }
            messages.warning(warning)
            return nil
        }
        let half = KernelHalf(object, options, messages)
        try half.load(wanted, plan)
        return half.links.isEmpty ? nil : half
    }

    private init(_ object: ObjectSpec, _ options: RunOptions, _ messages: Messages) {
        self.object = object
        self.options = options
        self.messages = messages
        types = HeldTypes(object.btf) { messages.detail("the kernel does not take the object's types: \($0)") }
        attaching = KernelAttaching(pids: options.pids) { messages.detail($0) }
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
        let user = maps(usedBy: object.programs(reachedFrom: plan.requests.map(\.program)))
        var refusals: [Failure] = []
        for index in wanted {
            do throws(Failure) {
                try run(index, plan, sharing: user)
            } catch {
                let replaced = try replace(index, plan, sharing: user)
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
        let isFatal = links.isEmpty && plan.requests.isEmpty
        for refusal in isFatal ? refusals.dropLast() : refusals[...] { messages.warning(refusal) }
        if isFatal { throw refusals.last ?? Failure.nothingToAttach(object.name) }
        try fillProgramArrays()
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

    /// Loads and attaches one program.
    private func run(_ index: Int, _ plan: AttachPlan, sharing user: Set<Int>) throws(Failure) {
        try KernelAttaching.check(object.programs[index])
        try check(index, sharing: user)
        for reached in object.programs(reachedFrom: [index]) { try load(reached) }
        let places = plan.kernelRequests.filter { $0.program == index }
        guard let holder = programs[index] else { return }
        links.append((index, try attaching.attach(holder, places: places)))
    }

    /// Runs the programs tagged `instead-of:NAME` of a program that was refused; whether there are any, and all run.
    private func replace(_ refused: Int, _ plan: AttachPlan, sharing user: Set<Int>) throws(Failure) -> Bool {
        let name = object.programs[refused].name
        let names = object.btf.map { ObjectTags($0).names(tagged: "instead-of:\(name)", .function, in: $0) } ?? []
        let substitutes = object.programs.indices.filter { names.contains(object.programs[$0].name) }
        if substitutes.isEmpty { return false }
        let before = links.count
        for index in substitutes where !links.contains(where: { $0.program == index }) {
            do throws(Failure) { try run(index, plan, sharing: user) } catch {
                messages.detail(error.text(as: "note"))
                // All or none of them.
                links.removeLast(links.count - before)
                return false
            }
            messages.detail("program '\(object.programs[index].name)' runs instead of '\(name)'")
        }
        return true
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

    /// Refuses a program that writes to a map which programs in the process use as well.
    private func check(_ index: Int, sharing user: Set<Int>) throws(Failure) {
        let program = object.programs[index]
        for map in maps(usedBy: object.programs(reachedFrom: [index])).sorted() where user.contains(map) {
            // What nobody writes is the same in both.
            if object.maps[map].isReadOnly { continue }
            throw .sharedMap(program.name, map: object.maps[map].name)
        }
    }

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
        output.lookAtProcesses(maps.values)
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
    init?(_ types: BTF?, refused: (String) -> Void = { _ in }) {
        guard let types else { return nil }
        do throws(KernelError) { self.types = try KernelBTF(types) } catch {
            refused(error.description)
            return nil
        }
    }
}
