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
    guard cpatch_is_live() != 0 else { return relocated }
    let entries = unsafe site.pointee.entry_count
    let returns = unsafe site.pointee.return_count
    let first = unsafe site.pointee.first_probe
    guard let state = unsafe cpatch_enter(regs) else {
        unsafe countMissed(process, first, entries &+ returns)
        return relocated
    }
    if entries != 0 { unsafe runPrograms(process, state, regs, site, first, entries) }
    var target = relocated
    if returns != 0 {
        let stub = unsafe cpatch_slot_take(state, regs.pointee.rsp, relocated, index)
        if stub != 0 {
            target = stub
        } else {
            unsafe countMissed(process, first &+ entries, returns)
        }
    }
    unsafe cpatch_leave(state)
    return target
}

/// A probed function returned: runs the return programs of its site and gives the slot back.
///
/// Called by trampoline.S.
///
/// `regs.rip` is already the real return address; in a forked child or after the session nothing runs.
@c(ubpf_agent_leave) @_noLocks
public func leave(_ regs: UnsafeMutablePointer<cruntime_regs>, _ slot: UInt32) {
    let process = unsafe cpatch_this_process()
    guard cpatch_is_live() != 0, let sites = unsafe process.pointee.sites else {
        cpatch_slot_give(nil, slot)
        return
    }
    let site = unsafe sites + Int(cpatch_slot_site(slot))
    let first = unsafe site.pointee.first_probe &+ site.pointee.entry_count
    let returns = unsafe site.pointee.return_count
    guard let state = unsafe cpatch_enter(regs) else {
        unsafe countMissed(process, first, returns)
        cpatch_slot_give(nil, slot)
        return
    }
    unsafe cpatch_slot_give(state, slot)
    unsafe runPrograms(process, state, regs, site, first, returns)
    unsafe cpatch_leave(state)
}

@_noLocks @inline(__always)
private func runPrograms(
    _ process: UnsafeMutablePointer<cpatch_process>,
    _ state: UnsafeMutablePointer<cpatch_state>,
    _ regs: UnsafeMutablePointer<cruntime_regs>,
    _ site: UnsafePointer<cpatch_site>,
    _ first: UInt32,
    _ count: UInt32
) {
    guard let image = unsafe process.pointee.image, let shared = unsafe process.pointee.shared,
        let probes = unsafe process.pointee.probes, let statistics = unsafe process.pointee.statistics
    else { return }
    let view = unsafe SessionView(image: image, shared: shared)
    let context = unsafe UnsafeMutableRawPointer(state).assumingMemoryBound(to: cruntime_context.self)
    if unsafe state.pointee.prepared == 0 {
        unsafe prepareContext(context, view)
        unsafe prepareWindows(context)
        unsafe state.pointee.prepared = 1
    }
    let address = UInt64(UInt(bitPattern: regs))
    unsafe context.pointee.regs = unsafe regs
    unsafe context.pointee.context_low = address
    unsafe context.pointee.context_high = address &+ UInt64(MemoryLayout<cruntime_regs>.size)
    unsafe context.pointee.context_window.low = address
    unsafe context.pointee.context_window.span = UInt64(MemoryLayout<cruntime_regs>.size &- 8)
    unsafe context.pointee.function_ip = unsafe site.pointee.address
    unsafe cpatch_find_bounds(state, regs.pointee.rsp)
    var index = first
    while index < first &+ count {
        let probe = unsafe probes + Int(index)
        let counters = unsafe statistics + Int(index)
        let program = unsafe Int(probe.pointee.program)
        unsafe context.pointee.cookie = unsafe probe.pointee.cookie
        unsafe context.pointee.program = unsafe probe.pointee.program
        unsafe context.pointee.tail_calls = 0
        unsafe context.pointee.callbacks_depth = 0
        unsafe context.pointee.cpu_slot = -1
        unsafe context.pointee.budget = budget
        unsafe context.pointee.trap.kind = 0
        let code = unsafe process.pointee.code == nil ? 0 : unsafe process.pointee.code.unsafelyUnwrapped[program]
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

@_noLocks
private func countMissed(_ process: UnsafeMutablePointer<cpatch_process>, _ first: UInt32, _ count: UInt32) {
    guard let statistics = unsafe process.pointee.statistics else { return }
    var index = first
    while index < first &+ count {
        unsafe cpatch_count(&statistics[Int(index)].missed)
        index &+= 1
    }
}
