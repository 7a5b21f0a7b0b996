import CPatch
import CRuntime
import CSession

/// Opens the session that the environment names.
///
/// Called by the library's constructor, before the program's own code.
///
/// Whatever fails here leaves the program as it would be without this library.
@c(ubpf_agent_start)
public func start() {
    let given = cpatch_given_socket()
    var socket = given
    if given < 0, let programs = unsafe cpatch_given_programs() { socket = unsafe cpatch_start_helper(programs) }
    cpatch_clean_environment()
    guard socket >= 0 else {
        // -EBUSY
        log(socket == -16 ? "the init of a PID namespace cannot have a helper; start it with ubpfrun" : "no session")
        return
    }
    let conversation = Conversation(socket, endsSessions: false)
    var attached = false
    if conversation.hello() {
        switch conversation.answer() {
        case .attached: attached = true
        case .refused, .detached: break
        case .closed: log("ubpfrun did not answer; is it installed? UBPF_RUN names it")
        }
    }
    if attached && given < 0 { cpatch_notify_exit(socket) } else { cpatch_close(socket) }
}

/// Speaks with a controller until it closes `socket`, and ends the sessions that came by it.
///
/// Called on a thread of the agent's own, in a process that was attached to; the injected code closes the socket.
@c(ubpf_serve)
public func serve(_ socket: Int32) {
    cpatch_hide_thread()
    let conversation = Conversation(socket, endsSessions: true)
    if conversation.hello() {
        loop: while true {
            switch conversation.answer() {
            case .attached, .detached, .refused: continue
            case .closed: break loop
            }
        }
    }
    cpatch_lock()
    // Nobody can hold threads any more: where one blocks our traps, code stays patched, and does nothing.
    _ = unsafe closeSessions(of: conversation) { unsafe $0.pointee.socket == socket }
    cpatch_unlock()
}
