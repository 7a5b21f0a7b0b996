import CPatch
import CRuntime
import CSession

// Libraries that the program opens while a session waits for them. The loader calls an empty function before and after each
// change of its list of modules; a site of ours is on it. The thread that opens a library, in that call and with the loader's
// lock, tells the controllers and applies their plans before any code of the library has run, its constructors included.

/// Longest time that a thread waits for all controllers together.
private let patience: UInt64 = 200_000_000

/// The loader changes its list of modules, or has; called by the hit path (CPatch/hit.c) with vector registers saved.
@c(ubpf_agent_loader)
public func loaderChanged() {
    // Of a process that was attached to the filters were asked; a program that was started may have got one since.
    if hasStartedWatch(), cpatch_is_filtered() != 0 {
        cpatch_loader_lose()
        return
    }
    // A vfork child shares the memory, but is another process.
    let pid = UInt64(cruntime_syscall(Int64(39), 0, 0, 0, 0, 0, 0))
    guard unsafe cpatch_this_process().pointee.pid == pid else { return }
    guard cpatch_loader_is_at_rest() != 0 else { return }
    var interlude = cpatch_interlude()
    unsafe cpatch_interlude_begin(&interlude)
    defer { unsafe cpatch_interlude_end(&interlude) }
    let deadline = cruntime_monotonic_ns() &+ patience
    guard cpatch_lock_until(deadline) != 0 else {
        cpatch_loader_lose()
        return
    }
    defer {
        cpatch_loader_end()
        cpatch_unlock()
    }
    unsafe forEachWatch { session in unsafe forgetGoneModules(of: session) }
    // Nothing new, that is, something was closed.
    if cpatch_loader_is_known() != 0, cpatch_loader_is_fresh(UInt64.max) == 0 { return }
    unsafe forEachWatch { session in unsafe ask(session) }
    unsafe forEachWatch { session in unsafe follow(session, until: deadline) }
}

private func hasStartedWatch() -> Bool {
    for index in 0..<UInt32(CPATCH_SESSIONS) {
        let session = unsafe cpatch_session_at(index)
        if unsafe session.pointee.serial != 0 && session.pointee.watch.socket >= 0 && session.pointee.socket < 0 {
            return true
        }
    }
    return false
}

private func forEachWatch(_ body: (UnsafeMutablePointer<cpatch_session>) -> Void) {
    for index in 0..<UInt32(CPATCH_SESSIONS) {
        let session = unsafe cpatch_session_at(index)
        guard unsafe session.pointee.serial != 0, unsafe session.pointee.watch.socket >= 0,
            unsafe session.pointee.epoch == cpatch_this_process().pointee.epoch,
            unsafe cpatch_owner_lives(session)
        else { continue }
        if unsafe cpatch_watch_lives(&session.pointee.watch) == 0 {
            // The program closed it, and perhaps has something of its own under its number.
            unsafe session.pointee.watch.socket = -1
            continue
        }
        unsafe body(session)
    }
}

private func forgetGoneModules(of session: UnsafeMutablePointer<cpatch_session>) {
    unsafe releaseRetired(session)
    let conversation = unsafe Conversation(loader: session.pointee.watch.socket)
    var place = unsafe cpatch_first_plan(session)
    while let plan = unsafe place.pointee {
        let bias = unsafe plan.pointee.module_bias
        if unsafe plan.pointee.is_listed != 0, cpatch_loader_has(bias) == 0 { unsafe plan.pointee.is_gone = 1 }
        var message = conversation.empty(CSESSION_FORGOTTEN)
        message.plan = unsafe plan.pointee.number
        // Where nobody reads, the queue is full: it is said at the next change, or the controller would take it for there.
        if unsafe plan.pointee.is_gone != 0, unsafe cpatch_send(conversation.socket, &message) == 0 {
            unsafe forget(place, of: session)
        } else {
            unsafe place = unsafe cpatch_next_plan(plan)
        }
    }
}

/// Tells the controller that there are new libraries.
private func ask(_ session: UnsafeMutablePointer<cpatch_session>) {
    let conversation = unsafe Conversation(loader: session.pointee.watch.socket)
    // Answers that came too late are of no use any more: other threads may be in those libraries.
    while unsafe conversation.take(session, until: 0) == .other {}
    unsafe session.pointee.watch.asked += 1
    var message = conversation.empty(CSESSION_MODULES)
    message.value = unsafe session.pointee.watch.asked
    // A full queue: nobody reads it.
    _ = unsafe cpatch_send(conversation.socket, &message)
}

/// Does what the controller says until it has seen everything.
private func follow(_ session: UnsafeMutablePointer<cpatch_session>, until deadline: UInt64) {
    let conversation = unsafe Conversation(loader: session.pointee.watch.socket)
    // Who left the last question unanswered (a stopped controller) is not waited for again.
    let isWaitedFor = unsafe session.pointee.watch.seen + 1 == session.pointee.watch.asked
    while true {
        switch unsafe conversation.take(session, until: isWaitedFor ? deadline : 0) {
        case .other: continue
        case .answered: return
        case .closed:
            unsafe cpatch_watch_close(&session.pointee.watch)
            return
        case .late:
            var message = conversation.empty(CSESSION_MODULES)
            message.value = unsafe session.pointee.watch.asked
            message.error = 110  // ETIMEDOUT
            _ = unsafe cpatch_send(conversation.socket, &message)
            return
        }
    }
}

extension Conversation {
    fileprivate enum Taken { case answered, other, late, closed }

    /// Takes one message from the loader's socket, and does what it says if that is still right.
    fileprivate func take(_ session: UnsafeMutablePointer<cpatch_session>, until deadline: UInt64) -> Taken {
        var message = csession_message()
        var descriptors = Descriptors()
        defer { descriptors.close() }
        let failed = descriptors.receive(&message, from: socket, until: deadline)
        // ETIMEDOUT
        if failed != 0 { return failed == -110 ? .late : .closed }
        let isCurrent = unsafe message.value == session.pointee.watch.asked && deadline != 0
        switch message.kind {
        case CSESSION_MORE.rawValue where isCurrent:
            attach(plan: message.plan) { () throws(AgentError) in
                try unsafe addPlan(descriptors.first, to: session, of: self, isFresh: true)
            }
            return .other
        case CSESSION_SEEN.rawValue:
            unsafe session.pointee.watch.seen = message.value
            return isCurrent ? .answered : .other
        default:
            return .other
        }
    }
}
