import CLinux
import CSession
import Glibc
import JSON

/// A run without programs in processes: on the machine, for as long as a command, a process or the user says.
struct KernelRun {
    let half: KernelHalf
    let options: RunOptions
    let messages: Messages
    let tool: String
    /// Takes the maps at the end, instead of a report.
    var collector: MapCollector?

    /// Runs to the end; the exit code: the command's own, or 0.
    func execute(since started: UInt64) throws(Failure) -> Int32 {
        let loop = try EventLoop.make(interval: options.interval, duration: options.duration, hasRings: true)
        let start = try begin(loop)
        let sink = try OutputSink(format: options.format ?? .text, path: options.output, pid: options.pids.first ?? 0)
        try half.begin(sink)
        try announce(sink, milliseconds: (monotonicNanoseconds() - started) / 1_000_000)
        var ends: [EndHolder] = []
        for pid in options.pids + [start?.waiting?.pid].compactMap(\.self) {
            let descriptor = clinux_pidfd(pid)
            guard descriptor >= 0 else { throw Failure(.noProcess, "no process \(pid)", place: "pid \(pid)") }
            ends.append(EndHolder(descriptor))
        }
        switch start {
        case .held(let command): ends.append(EndHolder(try command.release()))
        case .waiting(let target): try? target.channel.send(CSESSION_REFUSED)
        case nil: break
        }
        let isEarly = try watch(ends, loop)
        half.detach()
        if let collector {
            collector.process = start?.pid ?? options.pids.first ?? 0
            try half.collect(into: collector)
        } else if !isEarly {
            try half.report(isFinal: true)
        }
        guard let child = start?.child else { return ExitCode.success }
        // Ctrl-C while it runs: it goes on, or the terminal has told it too.
        let status = clinux_reap(child, ends.last?.hasEnded == true ? 1 : 0)
        return max(0, status)
    }

    /// A process that has not run a line of its own, and to whose functions programs are attached.
    private enum Start {
        case held(HeldCommand)
        /// In the library's constructor, for an answer.
        case waiting(Target)

        var waiting: Target? {
            if case .waiting(let target) = self { return target }
            return nil
        }

        var pid: Int32 {
            switch self {
            case .held(let command): command.pid
            case .waiting(let target): target.pid
            }
        }

        /// The process, if it is ours to reap.
        var child: Int32? { waiting?.kind == .host ? nil : pid }
    }

    private func begin(_ loop: borrowing EventLoop) throws(Failure) -> Start? {
        if let socket = options.helperSocket {
            return try meet(Target(.host, pid: 0, pidfd: nil, channel: Channel(Descriptor(adopting: socket))), loop)
        }
        if options.command.isEmpty { return nil }
        // Compared with a process that sees itself from the loading of the library on.
        if collector != nil {
            let library = try Installation.current.library()
            return try meet(try Target.start(try Preflight(options.command), library: library), loop)
        }
        let held = try HeldCommand(plain: options.command)
        try half.attach(to: KernelAttaching.Process(pid: held.pid, program: held.path))
        return .held(held)
    }

    private func meet(_ target: Target, _ loop: borrowing EventLoop) throws(Failure) -> Start {
        do throws(Failure) {
            try Conversation(target, name: "the program").meet(loop)
            try half.attach(to: KernelAttaching.Process(pid: target.pid))
        } catch {
            // Its own program is not made to pay for it.
            if target.kind == .host { try? target.channel.send(CSESSION_REFUSED) } else { target.discard() }
            throw error
        }
        return .waiting(target)
    }

    private final class EndHolder {
        let descriptor: Descriptor
        var hasEnded = false

        init(_ number: Int32) { descriptor = Descriptor(adopting: number) }
    }

    /// Until the processes have ended or the user says so; true where no report is wanted any more.
    private func watch(_ ends: [EndHolder], _ loop: borrowing EventLoop) throws(Failure) -> Bool {
        var reports = 0
        while true {
            let events = try loop.wait(ends.map { $0.hasEnded ? -1 : $0.descriptor.number })
            if events.pollRings { try half.drain() }
            for (index, end) in ends.enumerated() where events.ready[index] { end.hasEnded = true }
            if !ends.isEmpty, ends.allSatisfy(\.hasEnded) { return false }
            if events.printNow { try half.report(isFinal: false) }
            if events.ticks > 0 {
                reports += 1
                // The last one is the final report.
                if let count = options.count, reports >= count { return false }
                try half.report(isFinal: false)
            }
            if events.durationOver { return false }
            if events.stops > 0 { return events.stops > 1 }
        }
    }

    private func announce(_ sink: OutputSink, milliseconds: UInt64) throws(Failure) {
        messages.status(
            "attached \(counted(half.attachedNames.count, "kernel program")) in \(milliseconds) ms, Ctrl-C to stop"
        )
        if sink.format == .json {
            var writer = JSONWriter()
            writer.object { record in
                record.member("type", "meta")
                record.member("schema", 1)
                record.member("tool", tool)
                record.member("time", timeText())
            }
            try sink.line(writer.text)
            try sink.line(
                jsonRecord("attached_probes") { data in
                    data.member("probes", half.attachedCount)
                    data.key("kernel")
                    data.array { list in for name in half.attachedNames { list.string(name) } }
                }
            )
        }
        if let descriptor = options.readyDescriptor {
            _ = writeAll(descriptor, "ready\n")
            _ = close(descriptor)
        }
    }
}
