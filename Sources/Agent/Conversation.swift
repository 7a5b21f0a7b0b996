import CPatch
import CRuntime
import CSession

/// What a controller asks of the agent over one socket, and the answers.
struct Conversation {
    let socket: Int32
    /// Sessions that come by this socket end with it.
    let endsSessions: Bool
    private let pid: UInt32

    /// The conversation on a session's loader socket.
    init(loader socket: Int32) { self.init(socket, endsSessions: false) }

    /// What became of one message.
    enum Outcome {
        case attached
        case detached
        case refused
        case closed
    }

    /// What became of the other threads.
    enum Hold {
        case unneeded
        case held
        case refused
    }

    init(_ socket: Int32, endsSessions: Bool) {
        self.socket = socket
        self.endsSessions = endsSessions
        pid = UInt32(truncatingIfNeeded: cruntime_syscall(Int64(39), 0, 0, 0, 0, 0, 0))
    }

    /// Says that the agent is ready; whether anybody listens.
    func hello() -> Bool {
        var message = empty(CSESSION_HELLO)
        message.value = UInt64(cpatch_thread_count())
        // A helper that could not be started closed its end already.
        return unsafe cpatch_send(socket, &message) == 0
    }

    /// Waits for a message, does what it says and answers.
    func answer() -> Outcome {
        var message = csession_message()
        var descriptors = Descriptors()
        defer { descriptors.close() }
        guard descriptors.receive(&message, from: socket) == 0 else { return .closed }
        cpatch_lock()
        defer { cpatch_unlock() }
        switch message.kind {
        case CSESSION_SESSION.rawValue:
            return attach(plan: 0) { () throws(AgentError) in
                try openSession(&descriptors, of: self)
            }
        case CSESSION_MORE.rawValue:
            let identifier = message.value
            return attach(plan: message.plan) { () throws(AgentError) in
                guard let session = unsafe findSession(identifier) else { throw AgentError(.session) }
                return try unsafe addPlan(descriptors.first, to: session, of: self)
            }
        case CSESSION_DETACH.rawValue:
            let identifier = message.value
            var answer = empty(CSESSION_DETACHED)
            answer.value = unsafe closeSessions(of: self) {
                unsafe identifier == 0 ? !cpatch_owner_lives($0) : $0.pointee.id == identifier
            }
            // What an earlier detach had to leave may go now.
            if identifier == 0 { answer.value += UInt64(restoreOrphans(of: self)) }
            return unsafe cpatch_send(socket, &answer) == 0 ? .detached : .closed
        default:
            return .refused
        }
    }

    /// Has the controller stop all other threads; code may change unless that is refused.
    ///
    /// Whoever is stopped may hold any lock: nothing may be asked of libc until the answer is sent.
    func hold() -> Hold {
        guard socket >= 0 else { return .refused }
        var message = empty(CSESSION_HOLD)
        // This thread has to go on.
        message.site = cruntime_tid()
        guard unsafe cpatch_send(socket, &message) == 0 else { return .refused }
        var descriptors = Descriptors()
        let failed = descriptors.receive(&message, from: socket)
        descriptors.close()
        guard failed == 0, message.kind == CSESSION_GO.rawValue, message.error == 0 else { return .refused }
        // A controller that was killed, or gave up while this thread was stopped, has let them go.
        if cpatch_others_stand() != 0 { return .held }
        release(.held)
        return .refused
    }

    /// Has held threads run on: hits that they stand in, and signals on their way, can only end then.
    func release(_ hold: Hold) {
        guard case .held = hold else { return }
        var message = empty(CSESSION_RELEASE)
        _ = unsafe cpatch_send(socket, &message)
    }

    /// Answers with the number of sites that `body` patched, or with what went wrong.
    @discardableResult
    func attach(plan: UInt32, _ body: () throws(AgentError) -> UInt64) -> Outcome {
        var answer = empty(CSESSION_ATTACHED)
        answer.plan = plan
        var attached = true
        do throws(AgentError) {
            answer.value = try body()
        } catch {
            attached = false
            answer.site = error.site
            // EINVAL where no system call failed.
            answer.error = UInt32(error.code == 0 ? 22 : error.code)
            let text = error.text
            unsafe withUnsafeMutableBytes(of: &answer.text) { raw in
                unsafe raw.copyMemory(
                    from: UnsafeRawBufferPointer(start: text.utf8Start, count: min(text.utf8CodeUnitCount, 103))
                )
            }
            log(text)
        }
        let sent = unsafe cpatch_send(socket, &answer) == 0
        return sent ? (attached ? .attached : .refused) : .closed
    }

    func empty(_ kind: csession_message_kind) -> csession_message {
        var message = csession_message()
        message.kind = kind.rawValue
        message.site = AgentError.noSite
        message.pid = pid
        return message
    }
}

/// One line on stderr, for those who asked with UBPF_LOG=stderr.
func log(_ text: StaticString) {
    unsafe cpatch_log(UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self))
}
