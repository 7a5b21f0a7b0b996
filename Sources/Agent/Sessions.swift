import CPatch
import CRuntime
import CSession
import Runtime

/// Descriptors of a message; -1 where there is none.
struct Descriptors {
    fileprivate var files = cpatch_descriptors()

    var first: Int32 { files.number.0 }
    var second: Int32 { files.number.1 }
    var third: Int32 { files.number.2 }
    var fourth: Int32 { files.number.3 }

    /// Waits for a message, until `deadline` where one is given; 0 or -errno.
    mutating func receive(_ message: inout csession_message, from socket: Int32, until deadline: UInt64? = nil) -> Int32
    {
        unsafe withUnsafeMutableBytes(of: &files) { raw in
            guard let base = unsafe raw.baseAddress?.assumingMemoryBound(to: Int32.self) else { return Int32(-1) }
            guard let deadline else { return unsafe cpatch_receive(socket, &message, base) }
            return unsafe cpatch_receive_until(socket, &message, base, deadline)
        }
    }

    mutating func close() { unsafe cpatch_close_all(&files) }
}

/// Maps and checks a session, patches every site of its plan or none; the number of sites.
///
/// It ends with the conversation, or by `closeSession`.
func openSession(_ files: inout Descriptors, of conversation: Conversation) throws(AgentError) -> UInt64 {
    cruntime_find_namespace()
    guard files.first >= 0, files.second >= 0, files.third >= 0 else { throw AgentError(.descriptors) }
    guard let session = unsafe freeEntry() else { throw AgentError(.sessions) }
    try preparePresence()
    unsafe session.pointee = cpatch_session()
    unsafe session.pointee.watch.socket = -1
    do throws(AgentError) {
        try unsafe map(&files, into: session)
        unsafe cpatch_watch_open(&session.pointee.watch, files.fourth)
        unsafe session.pointee.socket = conversation.endsSessions ? conversation.socket : -1
        let view = unsafe sessionView(session)
        unsafe compilePrograms(view, into: session)
        let process = unsafe cpatch_this_process()
        if unsafe session.pointee.flags & CSESSION_FOLLOW_FORK.rawValue != 0 { unsafe process.pointee.follows = 1 }
        if unsafe session.pointee.flags & CSESSION_GUARDED_READS.rawValue != 0 { cpatch_guard_reads() }
        unsafe process.pointee.clock += 1
        unsafe session.pointee.serial = unsafe process.pointee.clock
        let count = try unsafe addPlan(files.third, to: session, of: conversation)
        if unsafe session.pointee.watch.socket >= 0 { cpatch_loader_begin() }
        unsafe view.sharedHeader.pointee.agent_pid = UInt32(truncatingIfNeeded: process.pointee.pid)
        unsafe view.sharedHeader.pointee.agent_state = CSESSION_AGENT_ATTACHED.rawValue
        return count
    } catch {
        if unsafe session.pointee.shared != nil && error.kind != .session {
            unsafe sessionView(session).sharedHeader.pointee.agent_state = CSESSION_AGENT_FAILED.rawValue
        }
        unsafe release(session)
        unguardReads()
        throw error
    }
}

/// Gives the vDSO its own code back when no session is left.
private func unguardReads() {
    for index in 0..<UInt32(CPATCH_SESSIONS) where unsafe cpatch_session_at(index).pointee.image != nil { return }
    cpatch_unguard_reads()
}

/// Adds what a plan says to a session; the number of sites.
///
/// `isFresh`: its module has just been opened, and this thread has the loader's lock. Nobody can be in its code.
func addPlan(
    _ descriptor: Int32,
    to session: UnsafeMutablePointer<cpatch_session>,
    of conversation: Conversation,
    isFresh: Bool = false
) throws(AgentError) -> UInt64 {
    var size: UInt64 = 0
    guard let base = unsafe cpatch_map(descriptor, 0, &size) else { throw AgentError(.mapping) }
    let plan = unsafe PlanView(UnsafePointer(base))
    var record: UnsafeMutablePointer<cpatch_plan>?
    do throws(AgentError) {
        do throws(SessionDamage) {
            unsafe try plan.validate(size: Int(size), session: sessionView(session))
        } catch {
            throw AgentError(.session)
        }
        let bias = unsafe plan.header.pointee.module_bias
        if isFresh, cpatch_loader_is_fresh(bias) == 0 { throw AgentError(.late, code: 110) }
        // Asked for twice, as the answer was lost.
        if let known = unsafe findPlan(plan.header.pointee.number, of: session) {
            unsafe cpatch_release(base, size)
            return unsafe UInt64(known.pointee.link_count)
        }
        let made = try unsafe makeRecord(plan, size: size, session)
        unsafe record = unsafe made
        try unsafe SiteTable.resolve(plan, made)
        try unsafe patch(made, of: conversation, isFresh: isFresh)
        // The first plan's, before its probes can be hit; it stays as long as the session.
        if unsafe made.pointee.number == 0, unsafe session.pointee.plans == nil {
            unsafe session.pointee.cgroups = unsafe plan.cgroups
            unsafe session.pointee.cgroup_count = unsafe UInt64(plan.header.pointee.cgroup_count)
        }
        unsafe link(made)
        let isModule = unsafe made.pointee.number != 0
        unsafe made.pointee.is_listed = isFresh || (isModule && cpatch_loader_lists(bias) != 0) ? 1 : 0
        unsafe made.pointee.next = unsafe session.pointee.plans
        unsafe session.pointee.plans = unsafe made
        return unsafe UInt64(made.pointee.link_count)
    } catch {
        if let record = unsafe record { unsafe cpatch_release(record, record.pointee.own_size) }
        unsafe cpatch_release(base, size)
        throw error
    }
}

/// The plan of a module's number.
private func findPlan(_ number: UInt32, of session: UnsafePointer<cpatch_session>) -> UnsafePointer<cpatch_plan>? {
    var next = unsafe UnsafePointer(session.pointee.plans)
    while let plan = unsafe next {
        if number != 0, unsafe plan.pointee.number == number { return unsafe plan }
        unsafe next = unsafe UnsafePointer(plan.pointee.next)
    }
    return nil
}

/// A plan's record with a link for each site; where it leads is not known yet.
private func makeRecord(
    _ plan: PlanView,
    size: UInt64,
    _ session: UnsafeMutablePointer<cpatch_session>
) throws(AgentError) -> UnsafeMutablePointer<cpatch_plan> {
    let count = unsafe plan.header.pointee.site_count
    let probes = unsafe plan.header.pointee.probe_count
    let runBytes = UInt64(probes) * UInt64(MemoryLayout<cpatch_run>.stride)
    let linkBytes = unsafe UInt64(count) * UInt64(MemoryLayout<cpatch_link>.stride)
    let whole = unsafe UInt64(MemoryLayout<cpatch_plan>.size) + linkBytes + runBytes
    let bytes = (whole + 4095) & ~4095
    guard let memory = unsafe cpatch_allocate(bytes, 0) else { throw AgentError(.mapping) }
    let record = unsafe UnsafeMutableRawPointer(memory).assumingMemoryBound(to: cpatch_plan.self)
    unsafe record.pointee.base = unsafe plan.base
    unsafe record.pointee.size = size
    unsafe record.pointee.own_size = bytes
    unsafe record.pointee.link_count = count
    unsafe record.pointee.run_count = probes
    unsafe record.pointee.number = unsafe plan.header.pointee.number
    unsafe record.pointee.module_bias = unsafe plan.header.pointee.module_bias
    for index in 0..<probes {
        let probe = unsafe plan.probe(Int(index))
        let run = unsafe cpatch_plan_run(record, index)
        let program = unsafe Int(probe.pointee.program)
        unsafe run.pointee.cookie = unsafe probe.pointee.cookie
        unsafe run.pointee.program = unsafe probe.pointee.program
        unsafe run.pointee.needs = CPATCH_NEED_CALLS.rawValue | CPATCH_NEED_WALK.rawValue
        if let code = unsafe session.pointee.code, let needs = unsafe session.pointee.needs {
            unsafe run.pointee.code = unsafe code[program]
            unsafe run.pointee.needs = unsafe UInt32(needs[program])
        }
    }
    for index in 0..<count {
        let site = unsafe plan.site(Int(index))
        let link = unsafe cpatch_plan_link(record, index)
        unsafe link.pointee.session = unsafe UnsafePointer(session)
        unsafe link.pointee.runs = unsafe UnsafePointer(cpatch_plan_run(record, site.pointee.first_probe))
        unsafe link.pointee.first_statistic =
            unsafe plan.header.pointee.first_statistic + site.pointee.first_probe
        unsafe link.pointee.entry_count = unsafe site.pointee.entry_count
        unsafe link.pointee.return_count = unsafe site.pointee.return_count
        let isLoader = unsafe site.pointee.flags & CSESSION_SITE_LOADER.rawValue != 0
        unsafe link.pointee.counter = unsafe site.pointee.counter
        unsafe link.pointee.loader = isLoader ? UInt32(CPATCH_LOADER_LINK) : 0
    }
    return unsafe record
}

/// Makes a plan's probes seen by hits.
private func link(_ plan: UnsafeMutablePointer<cpatch_plan>) {
    let process = unsafe cpatch_this_process()
    guard let sites = unsafe process.pointee.sites else { return }
    let clock = unsafe process.pointee.clock + 1
    let count = unsafe plan.pointee.link_count
    for index in 0..<count {
        let link = unsafe cpatch_plan_link(plan, index)
        unsafe link.pointee.since = clock
        unsafe cpatch_append_link(sites + Int(link.pointee.site), link)
        unsafe countSemaphore(link.pointee.counter, up: true)
    }
    unsafe process.pointee.clock = clock
}

/// Counts the semaphore of a static probe, by which a program knows that somebody looks; memory that is gone is left alone.
///
/// Not atomic: others who count it (a kernel, a second tracer) do so as they come and go.
private func countSemaphore(_ address: UInt64, up: Bool) {
    var value: UInt16 = 0
    guard address != 0, unsafe cruntime_read(&value, address, 2) == 0, up || value > 0 else { return }
    value = up ? value &+ 1 : value &- 1
    // The way that code is written: what a target's filter allows was asked for that.
    unsafe withUnsafeBytes(of: &value) { bytes in
        guard let start = bytes.baseAddress else { return }
        unsafe _ = cruntime_write_live(address, start.assumingMemoryBound(to: UInt8.self), 2)
    }
}

/// Ends a session: probes out, original code back, memory unmapped once no hit uses it; the number of sites restored.
func closeSession(_ session: UnsafeMutablePointer<cpatch_session>, of conversation: Conversation) -> UInt64 {
    unsafe cpatch_watch_close(&session.pointee.watch)
    let process = unsafe cpatch_this_process()
    guard let sites = unsafe process.pointee.sites else { return 0 }
    var next = unsafe session.pointee.plans
    while let plan = unsafe next {
        let count = unsafe plan.pointee.link_count
        // Something else may lie where a library was that went unseen.
        let isThere = unsafe plan.pointee.number == 0 || cpatch_loader_lists(plan.pointee.module_bias) != 0
        for index in 0..<count {
            let link = unsafe cpatch_plan_link(plan, index)
            unsafe cpatch_remove_link(sites + Int(link.pointee.site), link)
            if isThere { unsafe countSemaphore(link.pointee.counter, up: false) }
        }
        unsafe next = unsafe plan.pointee.next
    }
    var restored: UInt64 = 0
    unsafe next = unsafe session.pointee.plans
    while let plan = unsafe next {
        restored += unsafe UInt64(restoreSites(of: plan, conversation))
        unsafe next = unsafe plan.pointee.next
    }
    if cpatch_quiesce() == 0 {
        unsafe release(session)
        unguardReads()
    } else {
        // A hit that does not end may still read this memory; it stays.
        unsafe session.pointee.serial = 0
    }
    return restored
}

private func restoreSites(of plan: UnsafeMutablePointer<cpatch_plan>, _ conversation: Conversation) -> UInt32 {
    let count = unsafe plan.pointee.link_count
    let bytes = (UInt64(max(count, 1)) * 4 + 4095) & ~4095
    guard let memory = unsafe cpatch_allocate(bytes, 0) else { return 0 }
    defer { unsafe cpatch_release(memory, bytes) }
    let numbers = unsafe UnsafeMutableRawPointer(memory).assumingMemoryBound(to: UInt32.self)
    for index in 0..<count { unsafe numbers[Int(index)] = unsafe cpatch_plan_link(plan, index).pointee.site }
    return unsafe restore(numbers, count, of: conversation)
}

/// Ends every session for which `condition` holds; the number of sites restored.
func closeSessions(
    of conversation: Conversation,
    where condition: (UnsafePointer<cpatch_session>) -> Bool
) -> UInt64 {
    var restored: UInt64 = 0
    for index in 0..<UInt32(CPATCH_SESSIONS) {
        let session = unsafe cpatch_session_at(index)
        guard unsafe session.pointee.serial != 0, unsafe condition(session) else { continue }
        restored += unsafe closeSession(session, of: conversation)
    }
    return restored
}

/// Puts back the code of every site that no session uses; how many.
func restoreOrphans(of conversation: Conversation) -> UInt32 {
    let process = unsafe cpatch_this_process()
    let count = unsafe process.pointee.site_count
    guard count > 0 else { return 0 }
    let bytes = (UInt64(count) * 4 + 4095) & ~4095
    guard let memory = unsafe cpatch_allocate(bytes, 0) else { return 0 }
    defer { unsafe cpatch_release(memory, bytes) }
    let numbers = unsafe UnsafeMutableRawPointer(memory).assumingMemoryBound(to: UInt32.self)
    for index in 0..<count { unsafe numbers[Int(index)] = index }
    return unsafe restore(numbers, count, of: conversation)
}

/// The session of an identifier.
func findSession(_ identifier: UInt64) -> UnsafeMutablePointer<cpatch_session>? {
    for index in 0..<UInt32(CPATCH_SESSIONS) {
        let session = unsafe cpatch_session_at(index)
        if unsafe session.pointee.serial != 0, unsafe session.pointee.id == identifier { return unsafe session }
    }
    return nil
}

private func freeEntry() -> UnsafeMutablePointer<cpatch_session>? {
    for index in 0..<UInt32(CPATCH_SESSIONS) {
        let session = unsafe cpatch_session_at(index)
        if unsafe session.pointee.serial == 0, unsafe session.pointee.image == nil { return unsafe session }
    }
    return nil
}

private func sessionView(_ session: UnsafeMutablePointer<cpatch_session>) -> SessionView {
    // Both are set before any of this is asked for.
    unsafe SessionView(
        image: session.pointee.image.unsafelyUnwrapped,
        shared: session.pointee.shared.unsafelyUnwrapped
    )
}

/// Knows the process from its forked children.
private func preparePresence() throws(AgentError) {
    let process = unsafe cpatch_this_process()
    unsafe process.pointee.pid = UInt64(cruntime_syscall(Int64(39), 0, 0, 0, 0, 0, 0))
    unsafe cruntime_fetch_from(UInt32(truncatingIfNeeded: process.pointee.pid))
    if unsafe process.pointee.present == nil {
        guard let present = unsafe cpatch_presence() else { throw AgentError(.fork) }
        unsafe process.pointee.present = unsafe present
    } else {
        // A child that did not follow its parent has its own session now.
        cpatch_adopt_for_attach()
    }
}

private func map(_ files: inout Descriptors, into session: UnsafeMutablePointer<cpatch_session>) throws(AgentError) {
    guard let image = unsafe cpatch_map(files.first, 0, &session.pointee.image_size) else {
        throw AgentError(.mapping)
    }
    unsafe session.pointee.image = UnsafePointer(image)
    guard let shared = unsafe cpatch_map(files.second, 1, &session.pointee.shared_size) else {
        throw AgentError(.mapping)
    }
    unsafe session.pointee.shared = unsafe shared
    let view = unsafe sessionView(session)
    do throws(SessionDamage) {
        try unsafe view.validate(
            imageSize: Int(session.pointee.image_size),
            sharedSize: Int(session.pointee.shared_size)
        )
    } catch {
        throw AgentError(.session)
    }
    let failed = unsafe cpatch_map_arrays(image, shared, &files.files)
    if failed < 0 { throw AgentError(.mapping, code: -failed) }
    let header = unsafe view.header
    unsafe session.pointee.owner = UnsafeRawPointer(shared + Int(CPATCH_OWNER_OFFSET)).assumingMemoryBound(
        to: UInt32.self
    )
    unsafe session.pointee.owner_tid = unsafe header.pointee.owner_tid
    unsafe session.pointee.flags = unsafe header.pointee.flags
    unsafe session.pointee.counters = unsafe view.statistics(0)
    unsafe session.pointee.counters_size = unsafe UInt64(header.pointee.statistics_capacity)
    unsafe session.pointee.id = unsafe header.pointee.session_id
    unsafe session.pointee.epoch = unsafe cpatch_this_process().pointee.epoch
}

/// Takes out the plan of a module that is gone; memory that is at its place now is not touched.
///
/// Hits may still read the plan, so `releaseRetired` unmaps it later.
func forget(
    _ place: UnsafeMutablePointer<UnsafeMutablePointer<cpatch_plan>?>,
    of session: UnsafeMutablePointer<cpatch_session>
) {
    let process = unsafe cpatch_this_process()
    guard let plan = unsafe place.pointee, let sites = unsafe process.pointee.sites else { return }
    let count = unsafe plan.pointee.link_count
    for index in 0..<count {
        let link = unsafe cpatch_plan_link(plan, index)
        let site = unsafe sites + Int(link.pointee.site)
        unsafe cpatch_remove_link(site, link)
        unsafe forgetChange(of: site)
    }
    unsafe place.pointee = unsafe plan.pointee.next
    unsafe plan.pointee.next = unsafe session.pointee.retired
    unsafe session.pointee.retired = unsafe plan
    unsafe session.pointee.retired_at = cruntime_monotonic_ns()
}

/// Unmaps the plans of modules that went a while ago, if no hit is under way.
func releaseRetired(_ session: UnsafeMutablePointer<cpatch_session>) {
    guard unsafe session.pointee.retired != nil else { return }
    guard unsafe cruntime_monotonic_ns() &- session.pointee.retired_at > 10_000_000 else { return }
    if cpatch_quiesce_within(2_000_000) == 0 { unsafe release(&session.pointee.retired) }
}

private func release(_ list: inout UnsafeMutablePointer<cpatch_plan>?) {
    while let plan = unsafe list {
        unsafe list = unsafe plan.pointee.next
        unsafe cpatch_release(UnsafeMutableRawPointer(mutating: plan.pointee.base), plan.pointee.size)
        unsafe cpatch_release(plan, plan.pointee.own_size)
    }
}

/// Unmaps whatever a session has and frees its entry; only when no hit can use it.
private func release(_ session: UnsafeMutablePointer<cpatch_session>) {
    unsafe cpatch_watch_close(&session.pointee.watch)
    unsafe release(&session.pointee.plans)
    unsafe release(&session.pointee.retired)
    if let code = unsafe session.pointee.code {
        unsafe cpatch_release(UnsafeMutableRawPointer(mutating: code), session.pointee.code_table_size)
        if let start = unsafe UnsafeMutableRawPointer(bitPattern: UInt(session.pointee.code_address)) {
            unsafe cpatch_release(start, session.pointee.code_size)
        }
    }
    if let image = unsafe session.pointee.image {
        unsafe cpatch_release(UnsafeMutableRawPointer(mutating: image), session.pointee.image_size)
    }
    if let shared = unsafe session.pointee.shared { unsafe cpatch_release(shared, session.pointee.shared_size) }
    unsafe session.pointee = cpatch_session()
}
