import CLinux
import CSession
import Glibc
import Inject
import JSON
import Loader
import Planner
import Runtime
import Symbols

/// One session on its targets, from their joining to the final report.
struct Supervision: ~Copyable {
    private let options: RunOptions
    private let messages: Messages
    private let plan: AttachPlan
    private let assembly: SessionAssembly
    private let recipe: Recipe?
    private let book = ProbeBook()
    /// Of targets whose libraries are waited for, and what came of those that have ended.
    private var watches: [LibraryWatch] = []
    private var libraries = LibraryWatch.Outcome()
    private var listener: Listener?
    /// Where programs find the arguments of static probes, once there is a session.
    private var arguments: StaticProbeMap?
    /// The object's programs in the kernel, if it has any.
    var kernel: KernelHalf?
    /// Takes the maps at the end, instead of a report.
    var collector: MapCollector?
    /// Held until all targets have joined.
    var turn: Turn?

    init(
        _ options: RunOptions,
        _ messages: Messages,
        _ plan: AttachPlan,
        _ assembly: SessionAssembly,
        _ recipe: Recipe?,
        _ listener: consuming Listener?
    ) {
        self.options = options
        self.messages = messages
        self.plan = plan
        self.assembly = assembly
        self.recipe = recipe
        self.listener = listener
    }

    /// Runs the session on `targets` to its end; the exit code: a child's own, or 0 after Ctrl-C.
    ///
    /// `started` is when the user began to wait.
    mutating func run(_ targets: [Target], _ loop: borrowing EventLoop, since started: UInt64) throws(Failure) -> Int32
    {
        defer { for target in targets { target.release() } }
        do throws(Failure) {
            return try follow(targets, loop, started)
        } catch {
            guard let child = targets.first(where: { $0.kind == .child }) else { throw error }
            guard child.isRunning else {
                // It has not run a line of its own: it waits in the library's constructor for an answer.
                child.discard()
                throw error
            }
            // What failed is ours (the output, say); the program is not made to pay for it.
            if options.format == .json { _ = writeAll(1, error.json() + "\n") }
            Messages.error(error)
            // Programs that it executes from now on find nobody, and run without probes.
            listener = nil
            child.noteEnd()
            return error.code.exitCode
        }
    }

    private mutating func follow(
        _ given: [Target],
        _ loop: borrowing EventLoop,
        _ started: UInt64
    ) throws(Failure) -> Int32 {
        var targets = given
        let session = try assembly.makeSession(followsFork: options.followsFork || options.followsExec)
        for target in targets { try join(target, session, loop) }
        turn = nil
        let sink = try OutputSink(format: options.format ?? .text, path: options.output, pid: targets[0].pid)
        let results = try Results(
            assembly,
            probes: book.probes,
            view: session.view,
            options: options,
            recipe: recipe,
            sink: sink,
            messages: messages,
            modules: targets.compactMap(\.modules)
        )
        for watch in watches { try takeIn(watch.start(session, book, loop), watch, results) }
        try kernel?.begin(sink)
        try announce(targets, sink, milliseconds: (monotonicNanoseconds() - started) / 1_000_000)
        let end: End
        do throws(Failure) {
            end = try watch(&targets, loop, session, results)
        } catch {
            detach(targets, session, loop)
            throw error
        }
        detach(targets, session, loop)
        results.libraries = outcome.warnings
        kernel?.detach()
        if let collector {
            collector.process = targets[0].pid
            results.collect(session.view, into: collector)
        } else if end.wantsReport {
            try results.report(session.view, isFinal: true)
            try kernel?.report(isFinal: true)
        }
        session.end()
        restore(targets, loop)
        return end.status
    }

    private mutating func join(
        _ target: Target,
        _ session: borrowing Session,
        _ loop: borrowing EventLoop
    ) throws(Failure) {
        let requests = plan.requests
        let programs = assembly.programIndices
        let asksForGroups = assembly.asksForGroups
        let book = book
        let isStrict = options.isStrict
        let hadAgent = target.injection?.wasResident ?? false
        if arguments == nil, let index = assembly.maps[StaticProbeArguments.map] {
            arguments = StaticProbeMap(MapView(session.view, index))
        }
        let arguments = arguments
        let kernel = kernel
        let detail = messages.detail
        let began = monotonicNanoseconds()
        var awaited: [AttachRequest] = []
        var loader: Int32 = -1
        _ = try Conversation(target, name: commandName).join(session, loop, loader: &loader) {
            maps throws(Failure) in
            let resolver = ProbeResolver(maps: maps)
            resolver.leavesChecksToAgent = hadAgent
            awaited = Self.awaited(requests, resolver, isStrict: isStrict, isRunning: target.kind == .attached)
            var made = try TargetPlan(
                requests.filter { !awaited.contains($0) },
                resolver,
                programs: programs,
                // An int3 stays for as long as the probe: it would kill a thread that blocks its signal.
                allowsTraps: ThreadAudit.threads(of: target.pid, blocking: ThreadAudit.traps).isEmpty,
                watchesLoader: !awaited.isEmpty,
                arguments: arguments,
                skipped: { detail("left out: \($0)") }
            )
            if asksForGroups { made.builder.cgroups = try ControlGroups.ids(of: target.pid) }
            for probe in made.probes { detail(probe.explanation) }
            book.place(&made)
            // It stands still: neither half sees more of it than the other.
            if target.kind != .attached { try kernel?.attach(to: KernelAttaching.Process(pid: target.pid)) }
            return made
        }
        if let injection = target.injection {
            let loaded = milliseconds(injection.totalNanoseconds)
            let stood = injection.stoppedNanoseconds / 1000
            let placed = milliseconds(monotonicNanoseconds() - began)
            detail(
                "pid \(target.pid): library loaded in \(loaded) ms, a thread stood for \(stood) us; probes placed in \(placed) ms"
            )
        }
        // A program that one of those before only would have opened later.
        libraries.found.formUnion(requests.filter { !awaited.contains($0) }.compactMap(\.place.module))
        guard loader >= 0 else { return }
        watches.append(
            LibraryWatch(
                target,
                channel: Channel(Descriptor(adopting: loader)),
                requests: awaited,
                programs: programs,
                arguments: arguments,
                messages: messages
            )
        )
    }

    /// Requests whose module is not there yet, or may go.
    private static func awaited(
        _ requests: [AttachRequest],
        _ resolver: ProbeResolver,
        isStrict: Bool,
        isRunning: Bool
    ) -> [AttachRequest] {
        // A program that has just been started has only what stays.
        let permanent = isRunning ? resolver.maps.permanentModules() : resolver.maps.modules
        return requests.filter { request in
            guard let name = request.place.module else { return false }
            guard resolver.isLoaded(name) else { return !isStrict }
            let modules = resolver.modules(named: name)
            return !modules.isEmpty && !modules.contains { permanent.contains($0) }
        }
    }

    /// Takes in what a watch has found.
    private func takeIn(_ news: [LibraryWatch.News], _ watch: LibraryWatch, _ results: Results) throws(Failure) {
        for item in news {
            results.add(probes: book.probes, modules: item.maps)
            let text = "attached \(counted(item.plan.probes.count, "probe")) to \(item.name) of \(watch.target.name)"
            if item.isFirst { messages.status(text) } else { messages.detail(text) }
            if item.isFirst { for probe in item.plan.probes { messages.detail(probe.explanation) } }
        }
    }

    /// Lets go of the watches of targets that have ended.
    private mutating func retireWatches(_ targets: [Target]) {
        let gone = watches.filter { watch in watch.target.hasEnded || !targets.contains { $0 === watch.target } }
        for watch in gone { libraries.add(watch.outcome) }
        watches.removeAll { watch in gone.contains { $0 === watch } }
    }

    /// What came of the libraries that were waited for.
    private var outcome: LibraryWatch.Outcome {
        var outcome = libraries
        for watch in watches { outcome.add(watch.outcome) }
        return outcome
    }

    /// Takes the probes out of targets that go on without us.
    private func detach(_ targets: [Target], _ session: borrowing Session, _ loop: borrowing EventLoop) {
        for watch in watches { watch.close() }
        for target in targets where !target.hasEnded {
            guard target.kind == .attached, !Conversation(target, name: target.name).leave(session, loop) else {
                continue
            }
            messages.detail("\(target.name) did not say that its probes are out; they do nothing any more")
        }
    }

    /// Has the code of programs that we started, and that outlive us, put back.
    ///
    /// Their libraries went quiet once the probes were in place, so they are attached to for that; the session has ended
    /// before, or it would count what attaching allocates.
    private func restore(_ targets: [Target], _ loop: borrowing EventLoop) {
        for target in targets where target.kind != .attached && !target.hasEnded {
            if !revisit(target, loop) {
                messages.detail("the code of \(target.name) stays patched and does nothing; ubpfrun clean restores it")
            }
        }
    }

    private func revisit(_ target: Target, _ loop: borrowing EventLoop) -> Bool {
        guard let plan = try? Target.inspect([target.pid]).first, let library = try? Installation.current.library(),
            let visitor = try? Target.attach(plan, library: library)
        else { return false }
        defer { visitor.release() }
        let conversation = Conversation(visitor, name: target.name)
        do throws(Failure) {
            try conversation.meet(loop)
            return try conversation.sweep(loop) > 0
        } catch { return false }
    }

    private var commandName: String { options.command.first.map { fileName(of: $0) } ?? "the program" }

    private func announce(_ targets: [Target], _ sink: OutputSink, milliseconds: UInt64) throws(Failure) {
        let names = targets.map { "\($0.name) (pid \($0.pid))" }.joined(separator: ", ")
        let count = counted(book.probes.count, "probe")
        messages.status("attached \(count) to \(names) in \(milliseconds) ms, Ctrl-C to stop")
        let missing = outcome.missing
        if !missing.isEmpty { messages.status("waiting for \(missing.joined(separator: ", "))") }
        if sink.format == .json {
            var writer = JSONWriter()
            writer.object { record in
                record.member("type", "meta")
                record.member("schema", 1)
                record.member("tool", assembly.object.name)
                record.member("pid", targets[0].pid)
                record.member("time", timeText())
            }
            try sink.line(writer.text)
            try sink.line(jsonRecord("attached_probes") { $0.member("probes", book.probes.count) })
        }
        if let descriptor = options.readyDescriptor {
            _ = writeAll(descriptor, "ready\n")
            _ = close(descriptor)
        }
    }

    // MARK: Watching

    private struct End {
        var status: Int32 = 0
        var wantsReport = true
    }

    private mutating func watch(
        _ targets: inout [Target],
        _ loop: borrowing EventLoop,
        _ session: borrowing Session,
        _ results: Results
    ) throws(Failure) -> End {
        var reports = 0
        while true {
            let count = targets.count
            let events = try loop.wait(
                targets.map(\.endDescriptor) + targets.map(Self.watchedSocket) + [listenerDescriptor]
                    + watches.map(\.descriptor)
            )
            // A thread of a target waits for this.
            for (index, watch) in watches.enumerated() where events.ready[2 * count + 1 + index] {
                try takeIn(watch.answer(session, book, loop), watch, results)
                if watch.isClosed { messages.detail("\(watch.target.name) does not tell of its libraries any more") }
            }
            if events.pollRings {
                try results.drain()
                try kernel?.drain()
            }
            for (index, target) in targets.enumerated() {
                if events.ready[index] { target.noteEnd() }
                // EXITING or the end of the socket: either way the program has run its course.
                guard events.ready[count + index] else { continue }
                target.noteEnd()
                if let next = try successor(of: target, session, loop) {
                    targets.append(next)
                    results.add(probes: book.probes, modules: next.modules)
                    retireWatches(targets)
                    for watch in watches where watch.target === next {
                        try takeIn(watch.start(session, book, loop), watch, results)
                    }
                }
            }
            if events.ready[2 * count] { try welcome(&targets, loop, session, results) }
            if targets.allSatisfy(\.hasEnded) { return End(status: targets.compactMap(\.status).first ?? 0) }
            if events.printNow { try report(session, results) }
            if events.ticks > 0 {
                reports += 1
                // The last one is the final report.
                if let count = options.count, reports >= count { return End() }
                try report(session, results)
            }
            if events.durationOver { return End() }
            if events.stops > 1 { return End(wantsReport: false) }
            if events.stops > 0 { return try lastMoment(targets, loop) }
        }
    }

    private func report(_ session: borrowing Session, _ results: Results) throws(Failure) {
        try results.report(session.view, isFinal: false)
        try kernel?.report(isFinal: false)
    }

    /// A child's library has closed its end; the others keep it to say that the target ends.
    private static func watchedSocket(_ target: Target) -> Int32 {
        switch target.kind {
        case .child, .follower: -1
        case .host, .attached: target.hasEnded ? -1 : target.channel.descriptor
        }
    }

    private var listenerDescriptor: Int32 {
        switch listener {
        case .some(let listener): listener.descriptor
        case .none: -1
        }
    }

    /// Takes in a program that a target executes; where that fails it runs without probes, with a warning.
    private mutating func welcome(
        _ targets: inout [Target],
        _ loop: borrowing EventLoop,
        _ session: borrowing Session,
        _ results: Results
    ) throws(Failure) {
        let target: Target?
        switch listener {
        case .some(let listener): target = listener.accept()
        case .none: target = nil
        }
        guard let target else { return }
        do throws(Failure) {
            try join(target, session, loop)
        } catch {
            messages.warning(error)
            return
        }
        // The process that executed it may be a target itself: it is one still, with another program.
        targets.removeAll { $0.kind == .follower && ($0.pid == target.pid || $0.hasEnded) }
        targets.append(target)
        results.add(probes: book.probes, modules: target.modules)
        retireWatches(targets)
        messages.detail("followed \(target.name) (pid \(target.pid))")
    }

    /// The program that a process which was attached to executes, with `--follow-exec`; nil where the process ends.
    private mutating func successor(
        of target: Target,
        _ session: borrowing Session,
        _ loop: borrowing EventLoop
    ) throws(Failure) -> Target? {
        guard target.kind == .attached else { return nil }
        // An exiting process closes its socket a moment before it is a zombie; an executed program needs one to load libc.
        let deadline = monotonicNanoseconds() + 1_000_000_000
        while monotonicNanoseconds() < deadline, let status = TargetStatus.read(pid: target.pid),
            !"ZX".contains(status.state)
        {
            usleep(2000)
            guard options.followsExec, let plan = try? Target.inspect([target.pid]).first else { continue }
            let library = try Installation.current.library()
            guard let next = try? Target.attach(plan, library: library) else { continue }
            do throws(Failure) {
                try join(next, session, loop)
            } catch {
                next.release()
                messages.warning(error)
                return nil
            }
            messages.detail("followed \(next.name) (pid \(next.pid))")
            return next
        }
        if let status = TargetStatus.read(pid: target.pid), !"ZX".contains(status.state) {
            let help = options.followsExec ? "it could not be attached to" : "--follow-exec follows it"
            messages.status("pid \(target.pid) executes \(status.name) now, without probes; \(help)")
        }
        return nil
    }

    /// After Ctrl-C: the terminal sent it to a child too, which may be about to end and free what it holds.
    private func lastMoment(_ targets: [Target], _ loop: borrowing EventLoop) throws(Failure) -> End {
        guard let child = targets.first(where: { $0.kind == .child }) else { return End() }
        let deadline = monotonicNanoseconds() + 500_000_000
        while true {
            let now = monotonicNanoseconds()
            guard now < deadline else { return End() }
            let events = try loop.wait(
                [child.endDescriptor],
                timeoutMilliseconds: Int32((deadline - now) / 1_000_000) + 1
            )
            if events.stops > 0 { return End(wantsReport: false) }
            if events.ready[0] {
                child.noteEnd()
                return End()
            }
        }
    }
}
