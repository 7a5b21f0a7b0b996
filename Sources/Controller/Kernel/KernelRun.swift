import CLinux
import Glibc
import JSON

/// A run without programs in processes: on the machine, for as long as a command, a process or the user says.
struct KernelRun {
    let half: KernelHalf
    let options: RunOptions
    let messages: Messages
    let tool: String

    /// Runs to the end; the exit code: the command's own, or 0.
    func execute(since started: UInt64) throws(Failure) -> Int32 {
        let loop = try EventLoop.make(interval: options.interval, duration: options.duration, hasRings: true)
        let sink = try OutputSink(format: options.format ?? .text, path: options.output, pid: options.pids.first ?? 0)
        try half.begin(sink)
        try announce(sink, milliseconds: (monotonicNanoseconds() - started) / 1_000_000)
        let command = options.command.isEmpty ? nil : try Target.startPlain(options.command)
        var ends = command.map { [EndHolder($0.pidfd)] } ?? []
        for pid in options.pids {
            let descriptor = clinux_pidfd(pid)
            guard descriptor >= 0 else { throw Failure(.noProcess, "no process \(pid)", place: "pid \(pid)") }
            ends.append(EndHolder(descriptor))
        }
        let isEarly = try watch(ends, loop)
        half.detach()
        if !isEarly { try half.report(isFinal: true) }
        guard let command else { return ExitCode.success }
        // Ctrl-C while it runs: it goes on, or the terminal has told it too.
        let status = clinux_reap(command.pid, ends.first?.hasEnded == true ? 1 : 0)
        return max(0, status)
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
