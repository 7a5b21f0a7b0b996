import CLinux
import CSession
import Glibc
import ISA
package import Loader
import Planner
import Symbols

/// One run of `ubpfrun`: an object on a command, or on the process that started us as its helper.
package struct Run {
    private let options: RunOptions
    private let messages: Messages

    package init(_ options: RunOptions) {
        self.options = options
        messages = Messages(isQuiet: options.isQuiet, isVerbose: options.isVerbose)
    }

    /// Runs to the end; the process's exit code.
    package func execute() -> Int32 {
        var options = options
        do throws(Failure) {
            try options.fillFromEnvironment(environmentValue)
            return try options.comparesBackends ? compare(options) : run(options)
        } catch {
            if options.format == .json { _ = writeAll(1, error.json() + "\n") }
            Messages.error(error)
            return error.code.exitCode
        }
    }

    /// Runs where the options say, or in the kernel what cannot run in the process.
    private func run(_ options: RunOptions) throws(Failure) -> Int32 {
        guard options.backend == .auto else { return try runOnce(options) }
        do throws(Failure) { return try runOnce(options) } catch {
            guard error.isOfProcess, options.helperSocket == nil, !options.followsFork, !options.followsExec,
                !isGo(options), KernelHalf.isPermitted
            else {
                throw error
            }
            messages.status("\(error.what): programs run in the kernel, where each hit costs more (--backend user)")
            var options = options
            options.backend = .kernel
            return try runOnce(options)
        }
    }

    /// Runs the same twice and says how the maps differ.
    private func compare(_ given: RunOptions) throws(Failure) -> Int32 {
        guard KernelHalf.isPermitted else { throw .kernelSkipped(["--compare-backends"]) }
        // Addresses are keys, too; children inherit it. ADDR_NO_RANDOMIZE (personality(2)).
        _ = clinux_syscall(135, 0x4_0000, 0, 0, 0, 0, 0)
        var options = given
        options.output = "/dev/null"
        options.format = .text
        options.interval = nil
        options.readyDescriptor = nil
        let (user, kernel) = (MapCollector(), MapCollector())
        for (backend, collector) in [(RunOptions.Backend.user, user), (.kernel, kernel)] {
            options.backend = backend
            collector.status = try runOnce(options, collector)
        }
        let sink = try OutputSink(format: given.format ?? .text, path: given.output, pid: kernel.process)
        guard let object = user.object else { throw Failure.internalError("nothing was compared") }
        let isSame = try Comparison(object, user: user, kernel: kernel).show(sink)
        return isSame ? ExitCode.success : ExitCode.testsFailed
    }

    /// Programs of Go move their stacks, which the kernel's return probes do not survive.
    private func isGo(_ options: RunOptions) -> Bool {
        let paths =
            options.pids.map { "/proc/\($0)/exe" } + ((try? Preflight(plain: options.command)).map { [$0.path] } ?? [])
        return paths.contains { (try? BinaryInfo.inspect($0))?.isGo != false }
    }

    /// `collector` takes the maps at the end, and only programs on functions run then.
    private func runOnce(_ given: RunOptions, _ collector: MapCollector? = nil) throws(Failure) -> Int32 {
        var options = given
        let installation = Installation.current
        var object = try LoadedProgram.load(options.program, events: options.events, types: options.types, installation)
        let recipe = Recipe.matching(object)
        let own = try ProgramArguments(
            options.rest,
            variables: ObjectVariables(object),
            ownOptions: RunOptions.longOptions
        )
        options.interval = options.interval ?? own.interval
        options.count = options.count ?? own.count
        try configure(&object, recipe, own, options)
        if options.combinedOnly, !object.maps.contains(where: { $0.name == "combined_allocs" }) {
            throw Failure(.badOption, "--combined-only needs a map 'combined_allocs'", why: "\(object.name) has none")
        }
        var plan = try AttachPlan(object, attach: options.attach, recipe: recipe)
        if let collector {
            collector.object = object
            plan.kernelPrograms = []
            if plan.requests.isEmpty { throw Failure.nothingToAttach(object.name) }
        }
        switch options.backend {
        case .user: break
        case .kernel: plan.moveToKernel()
        case .auto: share(&plan, object)
        }
        for note in object.notes { messages.detail(note) }
        let begun = monotonicNanoseconds()
        if !plan.requests.isEmpty { try requireTarget(options) }
        let kernel = try KernelHalf.load(object, plan, options, messages)
        if let kernel, !plan.requests.isEmpty {
            messages.status("attached \(counted(kernel.attachedNames.count, "kernel program"))")
        }
        if plan.requests.isEmpty, let kernel {
            let run = KernelRun(
                half: kernel,
                options: options,
                messages: messages,
                tool: object.name,
                collector: collector
            )
            return try run.execute(since: begun)
        }
        let policy = VerifierPolicy(
            verifies: !options.skipsVerifier,
            strictLeaks: options.strictLeaks,
            permissions: options.permissions
        )
        let assembly = try SessionAssembly(
            object,
            programs: plan.requests.map(\.program),
            policy: policy,
            arrays: kernel?.arrays ?? [:]
        ) { messages.warning($0) }
        for map in object.maps where map.isPinned && assembly.maps[map.name] != nil {
            messages.detail("map '\(map.name)' is in the memory of the processes, and not pinned")
        }
        let loop = try EventLoop.make(interval: options.interval, duration: options.duration, hasRings: true)
        let listener = options.followsExec ? try Listener() : nil
        let follow = Self.name(of: listener)
        var supervision = Supervision(options, messages, plan, assembly, recipe, listener)
        supervision.kernel = kernel
        supervision.collector = collector
        if let socket = options.helperSocket {
            let host = Target(.host, pid: 0, pidfd: nil, channel: Channel(Descriptor(adopting: socket)))
            return try supervision.run([host], loop, since: monotonicNanoseconds())
        }
        let started = monotonicNanoseconds()
        if !options.pids.isEmpty {
            supervision.turn = Turn(options.pids)
            let plans = try Target.inspect(options.pids)
            let library = try installation.library()
            var targets: [Target] = []
            do throws(Failure) {
                for plan in plans { targets.append(try Target.attach(plan, library: library)) }
            } catch {
                for target in targets { target.release() }
                throw error
            }
            return try supervision.run(targets, loop, since: started)
        }
        let child = try Target.start(
            try Preflight(options.command),
            library: try installation.library(),
            follow: follow
        )
        return try supervision.run([child], loop, since: started)
    }

    /// Has programs run in the kernel that share a map with programs there which the process cannot have.
    private func share(_ plan: inout AttachPlan, _ object: ObjectSpec) {
        guard !plan.requests.isEmpty, !plan.kernelPrograms.isEmpty, KernelHalf.isPermitted else { return }
        // In the kernel probes are for a process alone.
        if options.followsFork || options.followsExec { return }
        let user = Set(plan.requests.map(\.program)).sorted()
        let kernel = plan.kernelPrograms + plan.kernelPrograms.flatMap { object.substitutes(for: $0) }
        let moved = Placement(object, user: user, kernel: kernel).moved
        if moved.isEmpty { return }
        for (map, programs) in Dictionary(grouping: moved, by: \.value).sorted(by: { $0.key < $1.key }) {
            let names = programs.map(\.key).sorted().map { object.programs[$0].name }.joined(separator: ", ")
            let (name, type) = (object.maps[map].name, object.maps[map].type.name)
            messages.status("in the kernel, with others that use map '\(name)' (\(type)): \(names)")
        }
        plan.moveToKernel { moved[$0] != nil }
    }

    /// Programs in processes need one.
    private func requireTarget(_ options: RunOptions) throws(Failure) {
        guard options.command.isEmpty, options.pids.isEmpty, options.helperSocket == nil else { return }
        throw Failure.usage(
            "nothing to run \(options.program) on",
            help: "ubpfrun \(options.program) -- COMMAND, or -p PID"
        )
    }

    private static func name(of listener: borrowing Listener?) -> String? {
        switch listener {
        case .some(let listener): listener.name
        case .none: nil
        }
    }

    /// Sets variables and map sizes: the recipe's, then the object's own options, then `--set`.
    private func configure(
        _ object: inout ObjectSpec,
        _ recipe: Recipe?,
        _ own: ProgramArguments,
        _ options: RunOptions
    ) throws(Failure) {
        var chosen = Set(own.assignments.map(\.name))
        for assignment in options.assignments {
            if let equals = assignment.firstIndex(of: "=") { chosen.insert(String(assignment[..<equals])) }
        }
        try recipe?.apply(to: &object, chosen: chosen, inKernel: options.backend == .kernel)
        for assignment in own.assignments {
            try ObjectVariables.set(assignment.name, to: assignment.value, in: &object)
        }
        for assignment in options.assignments { try ObjectVariables.set(assignment: assignment, in: &object) }
    }
}

extension RunOptions {
    /// The long options of `ubpfrun` itself, for suggestions.
    package static let longOptions = [
        "--attach", "--set", "--interval", "--count", "--duration", "--format", "--json", "--output", "--quiet",
        "--verbose", "--strict", "--ready-fd", "--top", "--older", "--combined-only", "--no-verify", "--strict-leaks",
        "--allow-write", "--allow-override", "--btf",
        "--follow-fork", "--follow-exec", "--event", "--backend", "--compare-backends", "--pid", "--help", "--version",
    ]
}

/// An object by any of its names: file, source or tool.
package enum LoadedProgram {
    /// `events` are structs that a source's BTF is to have; `types` is a file with the types of another kernel.
    package static func load(
        _ word: String,
        events: [EventChoice] = [],
        types: String? = nil,
        _ installation: Installation
    ) throws(Failure) -> ObjectSpec {
        var object = try load(word, events, installation)
        if let types {
            do { object.kernelTypes = try BTF.load(path: types) } catch { throw Failure(error) }
        }
        return object
    }

    private static func load(
        _ word: String,
        _ events: [EventChoice],
        _ installation: Installation
    ) throws(Failure) -> ObjectSpec {
        switch try installation.find(word) {
        case .object(let path): return try load(path)
        case .source(let path):
            let compiled = try CompiledObject.compile(path, events: events, installation: installation)
            var object = try load(compiled.path)
            object.name = fileName(of: path)
            return object
        }
    }

    private static func load(_ path: String) throws(Failure) -> ObjectSpec {
        do { return try loadObject(path: path) } catch { throw Failure(error) }
    }
}
