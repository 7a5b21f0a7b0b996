import CLinux
package import CSession
import Glibc
package import Inject
package import Symbols

/// A process that takes part in a session: what is known of it, and our end of the conversation.
package final class Target {
    package enum Kind: Sendable {
        /// We started it.
        case child
        /// It started us, as its helper.
        case host
        /// It was running already.
        case attached
        /// A target executed it.
        case follower
    }

    package let kind: Kind
    package private(set) var pid: Int32
    private let pidfd: Descriptor?
    package let channel: Channel
    /// The modules that it had when its probes were planned.
    package var modules: ProcessMaps?
    /// It runs its own code; before, a child waits in the library's constructor.
    package var isRunning: Bool
    package private(set) var hasEnded = false
    /// How the library came into a running process.
    package var injection: Injected?
    /// What it returned or was killed by (128 + signal), where we can know.
    package private(set) var status: Int32?

    package init(_ kind: Kind, pid: Int32, pidfd: consuming Descriptor?, channel: consuming Channel) {
        self.kind = kind
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel
        isRunning = kind != .child
    }

    /// Readable once the process has ended; -1 where only its socket tells.
    package var endDescriptor: Int32 {
        // Optional chaining would consume the descriptor.
        switch pidfd {
        case .some(let descriptor): hasEnded ? -1 : descriptor.number
        case .none: -1
        }
    }

    /// A helper learns from the library whose helper it is.
    package func identify(_ message: csession_message) {
        if kind == .host { pid = message.pid != 0 ? Int32(message.pid) : channel.peer }
    }

    /// Notes that the process has ended, and reaps a child.
    package func noteEnd() {
        hasEnded = true
        if kind == .child, status == nil { status = max(0, clinux_reap(pid, 1)) }
    }

    /// Kills a child that never ran a line of its own.
    package func discard() {
        guard kind == .child, !isRunning, !hasEnded else { return }
        let reaped = clinux_reap(pid, 0)
        if reaped >= 0 { status = reaped } else { _ = kill(pid, SIGKILL) }
        noteEnd()
    }

    /// Ends the conversation with a process that was attached to, and waits until nothing of it is left there.
    package func release() {
        guard kind == .attached else { return }
        _ = shutdown(channel.descriptor, Int32(SHUT_RDWR))
        if let injection, !hasEnded { _ = injection.waitUntilGone(milliseconds: 2000) }
    }

    /// The name for people.
    package var name: String {
        // What it calls itself: redis-server may be a link to another name.
        TargetStatus.read(pid: pid)?.name ?? modules?.executable?.name ?? "pid \(pid)"
    }
}
