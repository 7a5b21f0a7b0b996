import CPatch
public import CRuntime
import CSession
import Runtime
import UBPFVM

/// Instructions that one run of a program may execute; a verified program needs far fewer.
private let budget: UInt64 = 1_000_000

/// A patched instruction was reached: runs its entry programs and returns where the trampoline goes on.
///
/// That is the relocated window, or a return stub when the site has return probes. Called by trampoline.S.
@c(ubpf_agent_enter) @_noLocks
public func enter(_ regs: UnsafeMutablePointer<cruntime_regs>, _ index: UInt32) -> UInt64 {
    let process = unsafe cpatch_this_process()
    guard let sites = unsafe process.pointee.sites else { return 0 }
    let site = unsafe sites + Int(index)
    let relocated = unsafe site.pointee.relocated
    unsafe regs.pointee.rip = unsafe site.pointee.address
    guard unsafe cpatch_first_link(site) != nil, cpatch_is_present() != 0 else { return relocated }
    guard let state = unsafe cpatch_enter(regs) else {
        unsafe countMissed(site, entries: true, since: UInt64.max)
        return relocated
    }
    let clock = unsafe process.pointee.clock
    var wantsReturn = false
    var next = unsafe cpatch_first_link(site)
    while let link = unsafe next {
        if unsafe cpatch_session_is_live(link.pointee.session) != 0 {
            let entries = unsafe link.pointee.entry_count
            if entries != 0 { unsafe runPrograms(state, regs, link, first: 0, entries) }
            if unsafe link.pointee.return_count != 0 { wantsReturn = true }
        }
        unsafe next = unsafe cpatch_next_link(link)
    }
    var target = relocated
    if wantsReturn {
        let stub = unsafe cpatch_slot_take(state, regs.pointee.rsp, relocated, index, clock)
        if stub != 0 { target = stub } else { unsafe countMissed(site, entries: false, since: UInt64.max) }
    }
    unsafe cpatch_leave(state)
    return target
}

/// A probed function returned: runs the return programs of its site and gives the slot back.
///
/// Called by trampoline.S.
///
/// `regs.rip` is already the real return address. Sessions that came after the call do not see its return.
@c(ubpf_agent_leave) @_noLocks
public func leave(_ regs: UnsafeMutablePointer<cruntime_regs>, _ slot: UInt32) {
    let process = unsafe cpatch_this_process()
    guard let sites = unsafe process.pointee.sites else { return }
    let site = unsafe sites + Int(cpatch_slot_site(slot))
    let clock = cpatch_slot_clock(slot)
    guard unsafe cpatch_first_link(site) != nil, cpatch_is_present() != 0 else {
        cpatch_slot_give(nil, slot)
        return
    }
    guard let state = unsafe cpatch_enter(regs) else {
        unsafe countMissed(site, entries: false, since: clock)
        cpatch_slot_give(nil, slot)
        return
    }
    unsafe cpatch_slot_give(state, slot)
    var next = unsafe cpatch_first_link(site)
    while let link = unsafe next {
        let returns = unsafe link.pointee.return_count
        if unsafe returns != 0 && link.pointee.since <= clock && cpatch_session_is_live(link.pointee.session) != 0 {
            unsafe runPrograms(state, regs, link, first: link.pointee.entry_count, returns)
        }
        unsafe next = unsafe cpatch_next_link(link)
    }
    unsafe cpatch_leave(state)
}

@_noLocks @inline(__always)
private func runPrograms(
    _ state: UnsafeMutablePointer<cpatch_state>,
    _ regs: UnsafeMutablePointer<cruntime_regs>,
    _ link: UnsafePointer<cpatch_link>,
    first: UInt32,
    _ count: UInt32
) {
    let session = unsafe link.pointee.session
    guard let image = unsafe session.pointee.image, let shared = unsafe session.pointee.shared else { return }
    let view = unsafe SessionView(image: image, shared: shared)
    let context = unsafe UnsafeMutableRawPointer(state).assumingMemoryBound(to: cruntime_context.self)
    if unsafe state.pointee.prepared != session.pointee.serial {
        unsafe prepareContext(context, view)
        unsafe prepareWindows(context)
        unsafe state.pointee.prepared = unsafe session.pointee.serial
    }
    let address = UInt64(UInt(bitPattern: regs))
    unsafe context.pointee.regs = unsafe regs
    unsafe context.pointee.context_low = address
    unsafe context.pointee.context_high = address &+ UInt64(MemoryLayout<cruntime_regs>.size)
    unsafe context.pointee.context_window.low = address
    unsafe context.pointee.context_window.span = UInt64(MemoryLayout<cruntime_regs>.size &- 8)
    unsafe context.pointee.function_ip = unsafe cpatch_this_process().pointee.sites
        .unsafelyUnwrapped[Int(link.pointee.site)].address
    unsafe cpatch_find_bounds(state, regs.pointee.rsp)
    var index = first
    while index < first &+ count {
        let probe = unsafe link.pointee.probes + Int(index)
        let counters = unsafe link.pointee.statistics + Int(index)
        let program = unsafe Int(probe.pointee.program)
        unsafe context.pointee.cookie = unsafe probe.pointee.cookie
        unsafe context.pointee.program = unsafe probe.pointee.program
        unsafe context.pointee.tail_calls = 0
        unsafe context.pointee.callbacks_depth = 0
        unsafe context.pointee.cpu_slot = -1
        unsafe context.pointee.budget = budget
        unsafe context.pointee.trap.kind = 0
        let code = unsafe session.pointee.code == nil ? 0 : unsafe session.pointee.code.unsafelyUnwrapped[program]
        if code != 0 {
            _ = unsafe cruntime_run(code, context, address, 0)
            unsafe endRun(context)
        } else {
            let instructions = unsafe view.instructions(program)
            let length = unsafe Int32(truncatingIfNeeded: view.program(program).pointee.instruction_count)
            _ = unsafe Interpreter.run(context, instructions, length, r1: address, r2: 0)
        }
        unsafe cpatch_count(&counters.pointee.hits)
        if unsafe context.pointee.trap.kind != 0 {
            let trap = unsafe UInt64(context.pointee.trap.kind) << 32 | UInt64(context.pointee.trap.instruction)
            unsafe cpatch_count(&counters.pointee.traps)
            unsafe cpatch_store(&counters.pointee.last_trap, trap)
        }
        index &+= 1
    }
}

/// Counts a hit that ran nothing, for return probes alone or for entry probes too.
@_noLocks
private func countMissed(_ site: UnsafePointer<cpatch_site>, entries: Bool, since clock: UInt64) {
    if cpatch_is_hidden() != 0 { return }
    // Without a state (or within another hit, where it does no harm) this holds the links in memory.
    cpatch_visit()
    var next = unsafe cpatch_first_link(site)
    while let link = unsafe next {
        if unsafe cpatch_session_is_live(link.pointee.session) != 0 && link.pointee.since <= clock {
            let entryCount = unsafe link.pointee.entry_count
            let end = unsafe entryCount &+ link.pointee.return_count
            var index = entries ? 0 : entryCount
            while index < end {
                unsafe cpatch_count(&link.pointee.statistics[Int(index)].missed)
                index &+= 1
            }
        }
        unsafe next = unsafe cpatch_next_link(link)
    }
    cpatch_unvisit()
}
