package import CRuntime
import CSession

/// The per-CPU slot that the running program owns, taken at its first per-CPU access.
///
/// A slot belongs to one run at a time, whatever CPU its thread moves to, so values in it are never torn nor lost. It is
/// that of the CPU the thread is on, or any free one where another run holds that. When every slot stays taken
/// for 100 ms by living threads, the run shares one.
@_noLocks
func cpuSlot(_ context: UnsafeMutablePointer<cruntime_context>, _ session: SessionView) -> Int {
    let owned = unsafe context.pointee.cpu_slot
    if owned >= 0 { return Int(owned) & 0xffff }
    return unsafe acquireCPUSlot(context, session)
}

/// The same for generated code, which has looked in the context before.
@_noLocks
package func takeCPUSlot(_ context: UnsafeMutablePointer<cruntime_context>, _ session: SessionView) -> Int {
    unsafe cpuSlot(context, session)
}

/// Set in `cpu_slot` for a slot that is shared and not this run's to release.
private var sharedSlotFlag: Int32 {
    @_noLocks get { 0x1_0000 }
}

@_noLocks
private func slotWord(_ session: SessionView, _ slot: Int) -> UnsafeMutablePointer<UInt32> {
    let offset = unsafe session.header.pointee.cpu_slots_offset &+ UInt64(slot) &* MetaSize.cpuSlot
    return unsafe UnsafeMutableRawPointer(session.shared + Int(offset)).assumingMemoryBound(to: UInt32.self)
}

@_noLocks @inline(never)
private func acquireCPUSlot(_ context: UnsafeMutablePointer<cruntime_context>, _ session: SessionView) -> Int {
    let count = session.cpuCount
    let tid = unsafe ownTid(context)
    let first = Int(cruntime_cpu()) % count
    var start: UInt64 = 0
    var nextCheck: UInt64 = 0
    while true {
        // Its own number is left over from a run that did not end normally.
        if let slot = claimSlot(session, tid, first, count, waited: 0) {
            unsafe context.pointee.cpu_slot = Int32(slot)
            return slot
        }
        let now = cruntime_monotonic_ns()
        if start == 0 {
            start = now
            nextCheck = now &+ 1_000_000
        }
        if now >= nextCheck {
            if let slot = claimSlot(session, tid, first, count, waited: now &- start) {
                unsafe context.pointee.cpu_slot = Int32(slot)
                return slot
            }
            nextCheck = now &+ 1_000_000
        }
        if now &- start > 100_000_000 { break }
        cruntime_yield()
    }
    unsafe context.pointee.cpu_slot = Int32(first) | sharedSlotFlag
    return first
}

/// Tries every slot once from `first` on: those that are free or the caller's own, or, after a wait, those of dead threads.
@_noLocks
private func claimSlot(_ session: SessionView, _ tid: UInt32, _ first: Int, _ count: Int, waited: UInt64) -> Int? {
    var offset = 0
    while offset < count {
        let slot = (first &+ offset) % count
        let word = unsafe slotWord(session, slot)
        let owner = unsafe cruntime_load32(word)
        if owner == tid { return slot }
        var isFree = owner == 0
        if !isFree, waited != 0, case let state = cruntime_owner_state(owner), state != 0 {
            // No run of another namespace takes so long.
            isFree = state == 1 || waited > 50_000_000
        }
        if isFree, unsafe cruntime_cas32(word, owner, tid) != 0 { return slot }
        offset &+= 1
    }
    return nil
}

/// Gives back the per-CPU slot of a run that ends.
@_noLocks
package func releaseCPUSlot(_ context: UnsafeMutablePointer<cruntime_context>) {
    let slot = unsafe context.pointee.cpu_slot
    guard slot >= 0 else { return }
    unsafe context.pointee.cpu_slot = -1
    guard slot & sharedSlotFlag == 0, let session = unsafe SessionView(context) else { return }
    unsafe cruntime_store32(slotWord(session, Int(slot)), 0)
}
