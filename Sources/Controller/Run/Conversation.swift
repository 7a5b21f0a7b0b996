import CLinux
import CSession
import Glibc
import JSON
import Loader
import Planner
import Symbols

/// A session from HELLO to the final report.
struct Conversation {
    private let options: RunOptions
    private let messages: Messages
    private let plan: AttachPlan
    private var assembly: SessionAssembly
    private let recipe: Recipe?
    /// The target has its session: from here on it runs its own code, with probes or without.
    private var isRunning = false

    /// How long a started program may take until its library speaks.
    private static let helloTimeoutMilliseconds: Int32 = 10_000

    init(
        _ options: RunOptions,
        _ messages: Messages,
        _ plan: AttachPlan,
        _ assembly: SessionAssembly,
        _ recipe: Recipe?
    ) {
        self.options = options
        self.messages = messages
        self.plan = plan
        self.assembly = assembly
        self.recipe = recipe
    }

    /// Runs a child of ours; its exit code, or 0 after Ctrl-C.
    mutating func supervise(_ child: borrowing Child, _ loop: borrowing EventLoop) throws(Failure) -> Int32 {
        do throws(Failure) {
            return try follow(child.channel, child: (child.pid, child.descriptor), loop)
        } catch {
            if isRunning {
                // What failed is ours (the output, say); the program is not made to pay for it.
                if options.format == .json { _ = writeAll(1, error.json() + "\n") }
                Messages.error(error)
                _ = child.reap(block: true)
                return error.code.exitCode
            }
            // It has not run a line of its own: it waits in the library's constructor for an answer.
            if child.reap(block: false) == nil {
                _ = kill(child.pid, SIGKILL)
                _ = child.reap(block: true)
            }
            throw error
        }
    }

    /// Speaks with a target's library and shows what comes; `child` is nil where we are a target's helper.
    mutating func follow(
        _ channel: borrowing Channel,
        child: (pid: Int32, descriptor: Int32)?,
        _ loop: borrowing EventLoop
    ) throws(Failure) -> Int32 {
        let started = monotonicNanoseconds()
        let pid: Int32
        do throws(Failure) {
            pid = try awaitHello(channel, child, loop)
        } catch {
            // Without a word from the library, the program is taken to run without it.
            isRunning = true
            throw error
        }
        let modules: ProcessMaps
        do { modules = try ProcessMaps.read(pid: pid) } catch {
            try? channel.send(CSESSION_REFUSED)
            throw Failure(error)
        }
        let session: Session
        do throws(Failure) {
            let detail = messages.detail
            try assembly.addSites(plan.requests, ProbeResolver(maps: modules), skipped: { detail("left out: \($0)") })
            session = try assembly.makeSession()
        } catch {
            try? channel.send(CSESSION_REFUSED)
            throw error
        }
        for probe in assembly.probes { messages.detail(probe.explanation) }
        let sink = try OutputSink(format: options.format ?? .text, path: options.output, pid: pid)
        try channel.send(CSESSION_SESSION, descriptors: session.descriptors)
        isRunning = true
        try awaitAttached(channel, child, loop)
        let results = Results(
            assembly,
            view: session.view,
            options: options,
            recipe: recipe,
            sink: sink,
            messages: messages,
            modules: modules
        )
        try announce(pid, modules, sink, milliseconds: (monotonicNanoseconds() - started) / 1_000_000)
        let end = try watch(channel, child, loop, session, results)
        if end.wantsReport { try results.report(session.view, isFinal: true) }
        return end.status
    }

    // MARK: Beginning

    private func awaitHello(
        _ channel: borrowing Channel,
        _ child: (pid: Int32, descriptor: Int32)?,
        _ loop: borrowing EventLoop
    ) throws(Failure) -> Int32 {
        let message = try awaitMessage(channel, child, loop, timeout: Self.helloTimeoutMilliseconds)
        guard message.kind == CSESSION_HELLO.rawValue else {
            throw Failure.internalError("libubpf.so began with message \(message.kind)")
        }
        // As a child, the pid is known; a helper's peer is what the kernel says it is.
        return child?.pid ?? (message.pid != 0 ? Int32(message.pid) : channel.peer)
    }

    private func awaitAttached(
        _ channel: borrowing Channel,
        _ child: (pid: Int32, descriptor: Int32)?,
        _ loop: borrowing EventLoop
    ) throws(Failure) {
        let message = try awaitMessage(channel, child, loop, timeout: Self.helloTimeoutMilliseconds)
        guard message.kind == CSESSION_ATTACHED.rawValue else {
            throw Failure.internalError("libubpf.so answered with message \(message.kind)")
        }
        if message.error != 0 {
            let probe = assembly.probes.first { $0.site == Int(message.site) }
            throw Failure.agentFailed(
                messageText(message),
                errno: Int32(message.error),
                site: probe.map { "\($0.module):\($0.symbol)" }
            )
        }
    }

    /// The next message of the target; its end is an error here.
    private func awaitMessage(
        _ channel: borrowing Channel,
        _ child: (pid: Int32, descriptor: Int32)?,
        _ loop: borrowing EventLoop,
        timeout: Int32
    ) throws(Failure) -> csession_message {
        let deadline = monotonicNanoseconds() + UInt64(timeout) * 1_000_000
        while true {
            let now = monotonicNanoseconds()
            guard now < deadline else {
                throw Failure(
                    .endedEarly,
                    "\(commandName) did not answer within \(timeout / 1000) seconds",
                    why: "the dynamic linker did not load libubpf.so, or the process is stopped",
                    help: "LD_DEBUG=libs shows what the linker does"
                )
            }
            let events = try loop.wait(
                target: child?.descriptor ?? -1,
                channel: channel.descriptor,
                timeoutMilliseconds: Int32((deadline - now) / 1_000_000) + 1
            )
            if events.message, case .message(let message) = try channel.receive() { return message }
            if events.targetEnded || events.message {
                let status = child.map { clinux_reap($0.pid, 1) } ?? 0
                throw Failure.endedEarly(commandName, status: max(0, status))
            }
            if events.stops > 0 { throw Failure.endedEarly(commandName, status: 130) }
        }
    }

    private var commandName: String { options.command.first.map { fileName(of: $0) } ?? "the program" }

    private func announce(
        _ pid: Int32,
        _ modules: ProcessMaps,
        _ sink: OutputSink,
        milliseconds: UInt64
    ) throws(Failure) {
        let name = modules.executable?.name ?? commandName
        messages.status(
            "attached \(counted(assembly.probes.count, "probe")) to \(name) (pid \(pid)) in \(milliseconds) ms, Ctrl-C to stop"
        )
        if sink.format == .json {
            var writer = JSONWriter()
            writer.object { record in
                record.member("type", "meta")
                record.member("schema", 1)
                record.member("tool", assembly.object.name)
                record.member("pid", pid)
                record.member("time", timeText())
            }
            try sink.line(writer.text)
            try sink.line(jsonRecord("attached_probes") { $0.member("probes", assembly.probes.count) })
        }
        if let descriptor = options.readyDescriptor {
            _ = writeAll(descriptor, "ready\n")
            _ = close(descriptor)
        }
    }

    // MARK: Running

    /// How a run came to its end.
    private struct End {
        var status: Int32 = 0
        var wantsReport = true
    }

    /// Waits for the end of the target or of the user's patience.
    private func watch(
        _ channel: borrowing Channel,
        _ child: (pid: Int32, descriptor: Int32)?,
        _ loop: borrowing EventLoop,
        _ session: borrowing Session,
        _ results: Results
    ) throws(Failure) -> End {
        // Our child's library has closed its end; a target with a helper keeps it to say EXITING.
        let socket = child == nil ? channel.descriptor : -1
        var reports = 0
        while true {
            let events = try loop.wait(target: child?.descriptor ?? -1, channel: socket)
            if events.pollRings { try results.drain() }
            if let child, events.targetEnded { return End(status: max(0, clinux_reap(child.pid, 1))) }
            if events.message {
                // EXITING or the end of the socket: either way the target has run its course.
                return End()
            }
            if events.printNow { try results.report(session.view, isFinal: false) }
            if events.ticks > 0 {
                reports += 1
                // The last one is the final report.
                if let count = options.count, reports >= count { return End() }
                try results.report(session.view, isFinal: false)
            }
            if events.durationOver { return End() }
            if events.stops > 1 { return End(wantsReport: false) }
            if events.stops > 0 { return try lastMoment(child, loop) }
        }
    }

    /// After Ctrl-C: the terminal sent it to the program too, which may be about to end and free what it holds.
    private func lastMoment(
        _ child: (pid: Int32, descriptor: Int32)?,
        _ loop: borrowing EventLoop
    ) throws(Failure) -> End {
        guard let child else { return End() }
        let deadline = monotonicNanoseconds() + 500_000_000
        while true {
            let now = monotonicNanoseconds()
            guard now < deadline else { return End() }
            let events = try loop.wait(
                target: child.descriptor,
                channel: -1,
                timeoutMilliseconds: Int32((deadline - now) / 1_000_000) + 1
            )
            if events.stops > 0 { return End(wantsReport: false) }
            if events.targetEnded {
                _ = clinux_reap(child.pid, 1)
                return End()
            }
        }
    }
}
