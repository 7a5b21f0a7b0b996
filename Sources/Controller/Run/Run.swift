import CLinux
import CSession
import Glibc
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
            return try run(options)
        } catch {
            if options.format == .json { _ = writeAll(1, error.json() + "\n") }
            Messages.error(error)
            return error.code.exitCode
        }
    }

    private func run(_ given: RunOptions) throws(Failure) -> Int32 {
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
        if options.usesKernel { plan.moveToKernel() }
        for note in object.notes { messages.detail(note) }
        let begun = monotonicNanoseconds()
        if !plan.requests.isEmpty { try requireTarget(options) }
        let kernel = try KernelHalf.load(object, plan, options, messages)
        if let kernel, !plan.requests.isEmpty {
            messages.status("attached \(counted(kernel.attachedNames.count, "kernel program"))")
        }
        if plan.requests.isEmpty, let kernel {
            let run = KernelRun(half: kernel, options: options, messages: messages, tool: object.name)
            return try run.execute(since: begun)
        }
        let policy = VerifierPolicy(
            verifies: !options.skipsVerifier,
            strictLeaks: options.strictLeaks,
            permissions: options.permissions
        )
        let assembly = try SessionAssembly(object, programs: plan.requests.map(\.program), policy: policy) {
            messages.warning($0)
        }
        for map in object.maps where map.isPinned && assembly.maps[map.name] != nil {
            messages.detail("map '\(map.name)' is in the memory of the processes, and not pinned")
        }
        let loop = try EventLoop.make(interval: options.interval, duration: options.duration, hasRings: true)
        let listener = options.followsExec ? try Listener() : nil
        let follow = Self.name(of: listener)
        var supervision = Supervision(options, messages, plan, assembly, recipe, listener)
        supervision.kernel = kernel
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
        try recipe?.apply(to: &object, chosen: chosen)
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
        "--follow-fork", "--follow-exec", "--event", "--backend", "--pid", "--help", "--version",
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
