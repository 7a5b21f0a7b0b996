import CRuntime
import CSession

/// Values that hold a `struct bpf_spin_lock`: copies leave the lock alone (Linux include/linux/bpf.h, `copy_map_value`).
extension MapView {
    /// Where the lock lies in a value; nil for maps without one.
    package var lockOffset: Int? {
        @_noLocks get {
            let lock = unsafe descriptor.pointee.lock
            return lock == 0 ? nil : Int(lock &- 1)
        }
    }

    /// The bytes of a value that nobody sees: in copies they are 0.
    package var hiddenBytes: Range<Int> { lockOffset.map { $0..<$0 + 4 } ?? 0..<0 }

    /// Stores the value of an element that is there: its lock stays as it is.
    @_noLocks @inline(never)
    func storeElement(_ to: UnsafeMutableRawPointer, _ value: UnsafeRawPointer) {
        guard let lock = lockOffset else { return unsafe storeWords(to, value, valueSize) }
        // Who wants a value whole takes its lock.
        let rest = lock &+ 4
        unsafe cruntime_copy(to, value, UInt64(lock))
        unsafe cruntime_copy(to + rest, value + rest, valueSize &- UInt64(rest))
    }

    /// The same under its lock: 0, or `EBUSY` where another thread keeps that (Linux `copy_map_value_locked`).
    @_noLocks @inline(never)
    func storeLocked(_ to: UnsafeMutableRawPointer, _ value: UnsafeRawPointer, _ tid: UInt32) -> Int64 {
        guard let word = unsafe acquireLock(of: to, tid) else { return Failure.busy }
        unsafe storeElement(to, value)
        unsafe OwnerLock.giveBack(word, tid)
        return 0
    }

    /// Takes a value's lock; nil where there is none to be had.
    ///
    /// A thread inside calls nothing, so it is a short wait.
    @_noLocks
    private func acquireLock(of value: UnsafeMutableRawPointer, _ tid: UInt32) -> UnsafeMutablePointer<UInt32>? {
        guard let lock = lockOffset else { return nil }
        let word = unsafe (value + lock).assumingMemoryBound(to: UInt32.self)
        guard unsafe cruntime_cas32(word, 0, tid) != 0 || OwnerLock.acquireSlowly(word, tid, lockPatience) else {
            return nil
        }
        return unsafe word
    }

    /// Has `body` see a value while its lock is the caller's.
    func withLock(of value: UnsafeMutableRawPointer, _ tid: UInt32, _ body: () -> Void) -> Int64 {
        guard let word = unsafe acquireLock(of: value, tid) else { return Failure.busy }
        body()
        unsafe OwnerLock.giveBack(word, tid)
        return 0
    }

    /// Has `body` see the value of a key, whose place nobody changes meanwhile and whose lock is the caller's.
    func withLocked(
        _ key: UnsafeRawPointer,
        _ tid: UInt32,
        _ body: (_ value: UnsafeMutableRawPointer) -> Void
    ) -> Int64 {
        guard case .hash? = family else {
            guard let value = unsafe lookup(key, slot: 0) else { return Failure.noEntry }
            return unsafe withLock(of: value, tid) { unsafe body(value) }
        }
        let place = unsafe place(key)
        guard let stripe = lockStripe(place.bucket, tid) else { return Failure.busy }
        defer { stripe.unlock() }
        let node = unsafe hashSearch(key, place, bucketWords(place.bucket)).pointee
        if node == 0 { return Failure.noEntry }
        let value = unsafe nodeValue(node, slot: 0)
        return unsafe withLock(of: value, tid) { unsafe body(value) }
    }

    /// Makes the lock of a new value free.
    @_noLocks @inline(__always)
    func clearLock(_ value: UnsafeMutableRawPointer) {
        guard let lock = lockOffset else { return }
        unsafe cruntime_store32((value + lock).assumingMemoryBound(to: UInt32.self), 0)
    }
}
