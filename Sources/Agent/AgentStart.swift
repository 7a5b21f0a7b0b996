import CPatch
import CRuntime
import CSession
import Runtime

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
    let keep = converse(socket) && given < 0
    if keep { cpatch_notify_exit(socket) } else { cpatch_close(socket) }
}

/// One line on stderr, for those who asked with UBPF_LOG=stderr.
private func log(_ text: StaticString) {
    unsafe cpatch_log(UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self))
}

/// Says HELLO, waits for the session and answers; whether probes are in place.
private func converse(_ socket: Int32) -> Bool {
    let pid = UInt32(truncatingIfNeeded: cruntime_syscall(Int64(39), 0, 0, 0, 0, 0, 0))
    var message = csession_message()
    message.kind = CSESSION_HELLO.rawValue
    message.site = AgentError.noSite
    message.pid = pid
    let sent = unsafe cpatch_send(socket, &message)
    var descriptors: (Int32, Int32) = (-1, -1)
    let failed = unsafe withUnsafeMutableBytes(of: &descriptors) { raw in
        guard let base = raw.baseAddress else { return Int32(-1) }
        // A helper that could not be started closed its end already.
        return unsafe sent != 0 ? sent : cpatch_receive(socket, &message, base.assumingMemoryBound(to: Int32.self))
    }
    defer {
        if descriptors.0 >= 0 { cpatch_close(descriptors.0) }
        if descriptors.1 >= 0 { cpatch_close(descriptors.1) }
    }
    guard failed == 0 else {
        log("ubpfrun did not answer; is it installed? UBPF_RUN names it")
        return false
    }
    guard message.kind == CSESSION_SESSION.rawValue else { return false }
    var answer = csession_message()
    answer.kind = CSESSION_ATTACHED.rawValue
    answer.site = AgentError.noSite
    answer.pid = pid
    var attached = true
    do throws(AgentError) {
        answer.value = try attach(image: descriptors.0, shared: descriptors.1, pid: pid)
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
    return unsafe cpatch_send(socket, &answer) == 0 && attached
}

/// Maps and checks the session, patches every site or none; the number of sites.
private func attach(image: Int32, shared: Int32, pid: UInt32) throws(AgentError) -> UInt64 {
    guard image >= 0, shared >= 0 else { throw AgentError(.descriptors) }
    var imageSize: UInt64 = 0
    var sharedSize: UInt64 = 0
    guard let imageBase = unsafe cpatch_map(image, 0, &imageSize) else { throw AgentError(.mapping) }
    guard let sharedBase = unsafe cpatch_map(shared, 1, &sharedSize) else {
        unsafe cpatch_release(imageBase, imageSize)
        throw AgentError(.mapping)
    }
    let view = unsafe SessionView(image: imageBase, shared: sharedBase)
    let process = unsafe cpatch_this_process()
    do throws(AgentError) {
        do throws(SessionError) {
            try view.validate(imageSize: Int(imageSize), sharedSize: Int(sharedSize))
        } catch {
            throw AgentError(.session)
        }
        guard let present = unsafe cpatch_presence() else { throw AgentError(.fork) }
        let header = unsafe view.header
        unsafe process.pointee.image = UnsafePointer(imageBase)
        unsafe process.pointee.shared = sharedBase
        unsafe process.pointee.present = present
        unsafe process.pointee.owner = UnsafeRawPointer(sharedBase + Int(CPATCH_OWNER_OFFSET)).assumingMemoryBound(
            to: UInt32.self
        )
        unsafe process.pointee.owner_tid = header.pointee.owner_tid
        unsafe process.pointee.probes = view.probe(0)
        unsafe process.pointee.statistics = view.statistics(0)
        unsafe process.pointee.pid = UInt64(pid)
        unsafe process.pointee.code = unsafe compilePrograms(view)
        let count = try patchSites(view)
        unsafe view.sharedHeader.pointee.agent_pid = pid
        unsafe view.sharedHeader.pointee.agent_state = CSESSION_AGENT_ATTACHED.rawValue
        return UInt64(count)
    } catch {
        unsafe process.pointee = cpatch_process()
        if error.kind != .session { unsafe view.sharedHeader.pointee.agent_state = CSESSION_AGENT_FAILED.rawValue }
        unsafe cpatch_release(imageBase, imageSize)
        unsafe cpatch_release(sharedBase, sharedSize)
        throw error
    }
}
