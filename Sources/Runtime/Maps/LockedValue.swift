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

    /// Makes the lock of a new value free.
    @_noLocks @inline(__always)
    func clearLock(_ value: UnsafeMutableRawPointer) {
        guard let lock = lockOffset else { return }
        unsafe cruntime_store32((value + lock).assumingMemoryBound(to: UInt32.self), 0)
    }
}
