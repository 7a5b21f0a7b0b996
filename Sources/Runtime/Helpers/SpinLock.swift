import CRuntime
import CSession

// `struct bpf_spin_lock` in a map's value: four bytes that hold the tid of the thread inside, shared by all processes of a
// session. A verifier makes sure that nothing is called between lock and unlock, so a lock is held for a few instructions.

/// A living holder that does not run for so long ends a wait for its lock, in nanoseconds.
var lockPatience: UInt64 { @_noLocks get { 50_000_000 } }

/// `long bpf_spin_lock(struct bpf_spin_lock *lock)`.
///
/// What a dead thread held is taken over. Where a living one has held it throughout `lockPatience`, the run ends with a trap:
/// no program goes on without the lock that it asked for, and no thread waits for one that is stopped.
@_noLocks
func spinLock(_ context: UnsafeMutablePointer<cruntime_context>, _ address: UInt64) -> Int64 {
    guard unsafe address & 3 == 0 && context.pointee.lock == 0, let word = unsafe writableBytes(context, address, 4)
    else {
        return unsafe trap(context, .badArgument, address)
    }
    let tid = unsafe ownTid(context)
    let lock = unsafe word.assumingMemoryBound(to: UInt32.self)
    guard unsafe cruntime_cas32(lock, 0, tid) != 0 || OwnerLock.acquireSlowly(lock, tid, lockPatience) else {
        return unsafe trap(context, .lockHeld, address)
    }
    unsafe context.pointee.lock = address
    unsafe context.pointee.effects |= UInt64(CRUNTIME_HOLDS_LOCK.rawValue)
    return 0
}

/// `long bpf_spin_unlock(struct bpf_spin_lock *lock)`.
@_noLocks
func spinUnlock(_ context: UnsafeMutablePointer<cruntime_context>, _ address: UInt64) -> Int64 {
    guard unsafe address != 0 && address == context.pointee.lock else {
        return unsafe trap(context, .badArgument, address)
    }
    unsafe releaseLock(context)
    return 0
}

/// Gives back the lock that a run holds, if it is still its own.
@_noLocks @inline(never)
private func releaseLock(_ context: UnsafeMutablePointer<cruntime_context>) {
    let address = unsafe context.pointee.lock
    unsafe context.pointee.lock = 0
    unsafe context.pointee.effects &= ~UInt64(CRUNTIME_HOLDS_LOCK.rawValue)
    unsafe releaseWord(context, address)
}

/// Gives back a word that holds a thread's number, if it is the run's own.
@_noLocks @inline(never)
func releaseWord(_ context: UnsafeMutablePointer<cruntime_context>, _ address: UInt64) {
    guard let word = unsafe UnsafeMutablePointer<UInt32>(bitPattern: UInt(address)) else { return }
    unsafe OwnerLock.giveBack(word, ownTid(context))
}

/// Forgets what a run that was left in its middle meant to do at its end; its lock and its records are given back where they lie
/// in the session that the context is prepared for, as no other is sure to be mapped.
@_noLocks
func abandonRun(_ context: UnsafeMutablePointer<cruntime_context>) {
    let low = unsafe context.pointee.guest_low
    let high = unsafe context.pointee.guest_high
    let address = unsafe context.pointee.lock
    if address >= low && address < high { unsafe releaseLock(context) }
    // Private parts of maps lie in front of what programs write.
    let drain = unsafe context.pointee.drain
    if unsafe drain >= UInt64(UInt(bitPattern: context.pointee.shared)) && drain < high { unsafe endDrain(context) }
    let reservations = unsafe reservations(context)
    var index = 0
    while index < Int(CRUNTIME_RESERVATIONS) {
        let record = unsafe reservations[index].address
        if record >= low && record < high { unsafe finishReservation(context, index, discards: true) }
        unsafe reservations[index].address = 0
        index &+= 1
    }
    unsafe context.pointee.lock = 0
    unsafe context.pointee.drain = 0
    unsafe context.pointee.process_signals = 0
    unsafe context.pointee.thread_signals = 0
    unsafe context.pointee.effects = 0
}

/// Gives back the lock and the ring that a run still holds at its end.
@_noLocks @inline(never)
func endLock(_ context: UnsafeMutablePointer<cruntime_context>) {
    if unsafe context.pointee.lock != 0 { unsafe releaseLock(context) }
    if unsafe context.pointee.drain != 0 { unsafe endDrain(context) }
}
