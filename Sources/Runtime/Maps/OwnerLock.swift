import CRuntime

/// A spin lock in shared memory that names its holder: the word is the holder (`cruntime_owner`), or 0.
///
/// Holders keep it for a few dozen instructions and never across a call out of this module. One that dies inside is
/// noticed by whoever waits: every structure under such a lock is consistent between any two stores, so the lock can
/// simply be taken over.
enum OwnerLock {
    /// Spinning before the clock is looked at.
    private static var spins: UInt32 { @_noLocks get { 200 } }
    /// How often a waiter asks whether the holder still lives.
    private static var checkInterval: UInt64 { @_noLocks get { 1_000_000 } }
    /// A living holder that is not scheduled for so long ends the wait.
    private static var patience: UInt64 { @_noLocks get { 500_000_000 } }
    /// Beside the holder: somebody has waited in vain.
    ///
    /// Who comes next does so for `checkInterval` only, so that a thread that is
    /// stopped inside costs the others one long wait, not one for each of their operations.
    static var forsaken: UInt32 { @_noLocks get { 1 << 31 } }

    /// Takes the lock; false where a living thread held it throughout a long wait.
    @_noLocks @inline(__always)
    static func acquire(_ word: UnsafeMutablePointer<UInt32>, _ tid: UInt32) -> Bool {
        if unsafe cruntime_cas32(word, 0, tid) != 0 { return true }
        return unsafe acquireSlowly(word, tid, patience)
    }

    @_noLocks @inline(__always)
    static func release(_ word: UnsafeMutablePointer<UInt32>) {
        unsafe cruntime_store32(word, 0)
    }

    /// Gives a word back that holds a thread's number, if it is still the thread's own.
    @_noLocks @inline(never)
    static func giveBack(_ word: UnsafeMutablePointer<UInt32>, _ tid: UInt32) {
        if unsafe cruntime_cas32(word, tid, 0) == 0 { unsafe _ = cruntime_cas32(word, tid | forsaken, 0) }
    }

    /// Nobody's, a dead thread's, or that of one of another namespace, of whom nothing can be known, who has had it all the time.
    @_noLocks
    private static func mayTakeOver(_ owner: UInt32, _ hasStood: Bool) -> Bool {
        if owner == 0 { return true }
        let state = cruntime_owner_state(owner)
        return state == 1 || state == 2 && hasStood
    }

    /// The same, for nanoseconds of the caller's choice.
    @_noLocks @inline(never)
    static func acquireSlowly(
        _ word: UnsafeMutablePointer<UInt32>,
        _ tid: UInt32,
        _ patience: UInt64
    ) -> Bool {
        var count: UInt32 = 0
        var start: UInt64 = 0
        var nextCheck: UInt64 = 0
        // The holder at the last check, and the checks in a row that found it: one that is made once tells nothing about the time between.
        var seen: UInt32 = 0
        var checks: UInt64 = 0
        while true {
            let found = unsafe cruntime_load32(word)
            let owner = found & ~forsaken
            if found == 0 {
                if unsafe cruntime_cas32(word, 0, tid) != 0 { return true }
            } else if owner == tid {
                // A thread runs one program at a time, so this is left from a dead thread that had the same number.
                return true
            }
            count &+= 1
            if count < spins {
                cruntime_pause()
                continue
            }
            let now = cruntime_monotonic_ns()
            if start == 0 {
                start = now
                nextCheck = now &+ checkInterval
            }
            if now >= nextCheck, found != 0 {
                checks = owner == seen ? checks &+ 1 : 0
                seen = owner
                if mayTakeOver(owner, 2 &* checks &* checkInterval > patience),
                    unsafe cruntime_cas32(word, found, tid) != 0
                {
                    return true
                }
                nextCheck = now &+ checkInterval
            }
            let waited = now &- start
            if waited > patience || found & forsaken != 0 && waited > checkInterval {
                if owner == seen, 2 &* checks &* checkInterval > patience {
                    unsafe _ = cruntime_cas32(word, found, found | forsaken)
                }
                return false
            }
            cruntime_yield()
        }
    }
}
