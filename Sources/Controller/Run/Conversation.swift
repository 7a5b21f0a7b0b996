import CLinux
import CSession
import Glibc
import Inject
import Planner
import Symbols

/// Speaks with a target's library: how it joins a session, and how it leaves it.
struct Conversation {
    private let target: Target
    /// What to call it before its modules are known.
    private let name: String

    /// How long a started program may take until its library speaks.
    private static let answerMilliseconds: Int32 = 10_000

    init(_ target: Target, name: String) {
        self.target = target
        self.name = name
    }

    /// Waits for the library, plans its probes and has them patched; the probes, in the order of their statistics.
    ///
    /// `plan` makes the plan for the target's modules; `loader` gets our end of the loader's socket where the plan has use for one,
    /// else -1.
    func join(
        _ session: borrowing Session,
        _ loop: borrowing EventLoop,
        loader: inout Int32,
        _ plan: (ProcessMaps) throws(Failure) -> TargetPlan
    ) throws(Failure) -> TargetPlan {
        do throws(Failure) {
            let message = try awaitMessage(loop)
            guard message.kind == CSESSION_HELLO.rawValue else {
                throw Failure.internalError("libubpf.so began with message \(message.kind)")
            }
            target.identify(message)
            // A controller that was killed may have left code patched.
            if target.kind == .attached { _ = try sweep(loop) }
        } catch {
            // Without a word from the library, the program is taken to run without it.
            target.isRunning = true
            throw error
        }
        let made: TargetPlan
        let file: Descriptor
        do throws(Failure) {
            let maps: ProcessMaps
            do { maps = try ProcessMaps.read(pid: target.pid) } catch { throw Failure(error) }
            target.modules = maps
            made = try plan(maps)
            file = try session.plan(made.builder)
        } catch {
            // A program that we started waits for an answer until it is killed: it has not run a line of its own.
            if target.isRunning { try? target.channel.send(CSESSION_REFUSED) }
            throw error
        }
        var descriptors = session.descriptors(with: file)
        var far: Int32 = -1
        defer { if far >= 0 { _ = close(far) } }
        if made.watchesLoader {
            let result = unsafe clinux_socket_pair(&loader, &far)
            guard result == 0 else { throw Failure.socketFailed("socketpair", errno: -result) }
            descriptors.append(far)
        }
        try target.channel.send(CSESSION_SESSION, descriptors: descriptors)
        target.isRunning = true
        try awaitAttached(made, loop)
        return made
    }

    /// Waits for the library of a process that gets no session.
    func meet(_ loop: borrowing EventLoop) throws(Failure) {
        let message = try awaitMessage(loop)
        guard message.kind == CSESSION_HELLO.rawValue else {
            throw Failure.internalError("libubpf.so began with message \(message.kind)")
        }
        target.identify(message)
    }

    /// Has the library end what dead controllers left: the places whose code is the original again.
    func sweep(_ loop: borrowing EventLoop) throws(Failure) -> Int {
        try target.channel.send(CSESSION_DETACH, value: 0)
        var problem: String?
        return Int(try awaitAnswer(CSESSION_DETACHED, loop, problem: &problem).value)
    }

    /// Has the library take the session's probes out; false where it did not say so in time.
    func leave(_ session: borrowing Session, _ loop: borrowing EventLoop) -> Bool {
        do throws(Failure) {
            try target.channel.send(CSESSION_DETACH, value: session.identifier)
            var problem: String?
            _ = try awaitAnswer(CSESSION_DETACHED, loop, problem: &problem)
            return true
        } catch {
            return false
        }
    }

    private func awaitAttached(_ plan: TargetPlan, _ loop: borrowing EventLoop) throws(Failure) {
        var problem: String?
        let message = try awaitAnswer(CSESSION_ATTACHED, loop, windows: plan.windows, problem: &problem)
        // The library knows only that the threads run.
        if message.error != 0, let problem { throw Failure.threadsRun(name, why: problem) }
        if message.error != 0 { throw Self.refusal(message, plan) }
    }

    /// Has another plan patched while the target runs; the answer.
    func more(
        _ session: borrowing Session,
        number: UInt32,
        file: Int32,
        windows: [Range<UInt64>],
        _ loop: borrowing EventLoop
    ) throws(Failure) -> csession_message {
        var problem: String?
        try target.channel.send(CSESSION_MORE, value: session.identifier, plan: number, descriptors: [file])
        return try awaitAnswer(CSESSION_ATTACHED, loop, windows: windows, problem: &problem)
    }

    /// Why a plan could not be carried out.
    static func refusal(_ message: csession_message, _ plan: TargetPlan) -> Failure {
        let probe = plan.probes.first { $0.site == Int(message.site) }
        let text = messageText(message)
        if text.hasPrefix("the session's memory cannot be mapped") {
            return Failure.targetLimit(text, pid: Int32(message.pid))
        }
        return Failure.agentFailed(
            text,
            errno: Int32(message.error),
            site: probe.map { "\($0.module):\($0.symbol)" }
        )
    }

    /// The answer to what was asked last; until it comes, the threads stand still if the library asks.
    ///
    /// `windows` are bytes that change: no thread may stand inside one. `problem` says why they could not stand.
    private func awaitAnswer(
        _ kind: csession_message_kind,
        _ loop: borrowing EventLoop,
        windows: [Range<UInt64>] = [],
        problem: inout String?
    ) throws(Failure) -> csession_message {
        while true {
            let message = try awaitMessage(loop)
            switch message.kind {
            case kind.rawValue: return message
            case CSESSION_HOLD.rawValue: problem = try hold(apart: Int32(bitPattern: message.site), windows)
            default: throw Failure.internalError("libubpf.so answered with message \(message.kind)")
            }
        }
    }

    /// Stops all threads but the library's own until it says that they may run, or tells it that this cannot be done; why not.
    private func hold(apart own: Int32, _ windows: [Range<UInt64>]) throws(Failure) -> String? {
        var result: Result<Void, Failure> = .success(())
        var problem: String?
        shielded {
            let stopped = stop(apart: own, windows, &problem)
            do throws(Failure) {
                try target.channel.send(CSESSION_GO, error: stopped == nil ? UInt32(EPERM) : 0)
                if stopped != nil { try awaitRelease() }
            } catch {
                result = .failure(error)
            }
            stopped?.release()
        }
        try result.get()
        return problem
    }

    /// All threads but one, outside `windows`; nil where they cannot be stopped, and why.
    ///
    /// A thread is in a window for nanoseconds, but a handler in it may take its time, and on a busy machine who was stopped inside gets
    /// a processor only after everybody else: each pause is twice as long as the one before, up to half a second and then from the start
    /// again, so that it comes to run between two looks.
    private func stop(apart own: Int32, _ windows: [Range<UInt64>], _ problem: inout String?) -> StoppedThreads? {
        let deadline = monotonicNanoseconds() + Self.stopNanoseconds
        var pause: UInt32 = 200
        while true {
            do {
                let stopped = try StoppedThreads(pid: target.pid, except: own)
                guard stopped.isInside(windows) else {
                    problem = nil
                    return stopped
                }
                problem =
                    "at every look a thread was in the bytes that change, or in a signal handler that returns there"
            } catch {
                problem = error.why
                // Another controller lets go at once; a thread that waits in vfork does when its child runs another program.
                pause = max(pause, 20_000)
            }
            let now = monotonicNanoseconds()
            if now >= deadline { return nil }
            // The last look is at the deadline.
            usleep(UInt32(min(UInt64(pause), (deadline - now) / 1000 + 1)))
            pause = pause > 200_000 ? 200 : pause * 2
        }
    }

    private static let stopNanoseconds: UInt64 = 5_000_000_000

    /// Waits for the library's word, or for the target's end.
    private func awaitRelease() throws(Failure) {
        var ready: [UInt8] = [0, 0]
        let count = unsafe clinux_poll(
            [target.channel.descriptor, target.endDescriptor],
            &ready,
            2,
            Self.answerMilliseconds
        )
        guard count > 0, ready[0] != 0, case .message(let message) = try target.channel.receive() else { return }
        guard message.kind == CSESSION_RELEASE.rawValue else {
            throw Failure.internalError("libubpf.so sent message \(message.kind) while its threads stood")
        }
    }

    /// The next message of the target; its end is an error here.
    private func awaitMessage(_ loop: borrowing EventLoop) throws(Failure) -> csession_message {
        let deadline = monotonicNanoseconds() + UInt64(Self.answerMilliseconds) * 1_000_000
        while true {
            let now = monotonicNanoseconds()
            guard now < deadline else {
                throw Failure(
                    .endedEarly,
                    "\(name) did not answer within \(Self.answerMilliseconds / 1000) seconds",
                    why: "the dynamic linker did not load libubpf.so, or the process is stopped",
                    help: "LD_DEBUG=libs shows what the linker does"
                )
            }
            let events = try loop.wait(
                [target.endDescriptor, target.channel.descriptor],
                timeoutMilliseconds: Int32((deadline - now) / 1_000_000) + 1
            )
            if events.ready[1], case .message(let message) = try target.channel.receive() { return message }
            if events.ready[0] || events.ready[1] {
                target.noteEnd()
                throw Failure.endedEarly(name, status: target.status ?? 0)
            }
            if events.stops > 0 { throw Failure.endedEarly(name, status: 130) }
        }
    }
}
