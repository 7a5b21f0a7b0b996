import CRuntime
import CSession

/// QUEUE and STACK, as kernel/bpf/queue_stack_maps.c has them: a ring of `max_entries` values.
///
/// Two counters say what is in it, each changed by one store after its value is whole: a holder of the lock that dies leaves
/// a value that was not pushed, or was not popped.
extension MapView {
    private var head: UnsafeMutablePointer<UInt64> { @_noLocks get { unsafe quad(MetaOffset.queueHead) } }
    private var tail: UnsafeMutablePointer<UInt64> { @_noLocks get { unsafe quad(MetaOffset.queueTail) } }

    @_noLocks
    private func queueValue(_ position: UInt64) -> UnsafeMutableRawPointer {
        let stride = unsafe UInt64(descriptor.pointee.value_stride)
        return unsafe values(position % UInt64(maxEntries) &* stride)
    }

    @_noLocks
    func queuePush(_ value: UnsafeRawPointer, flags: UInt64, tid: UInt32) -> Int64 {
        // BPF_EXIST: the oldest makes room.
        if flags == UpdateFlag.noExist || flags > UpdateFlag.exist { return Failure.invalid }
        let lock = unsafe word(MetaOffset.queueLock)
        guard unsafe OwnerLock.acquire(lock, tid) else { return Failure.busy }
        let end = unsafe cruntime_load64(head)
        let start = unsafe cruntime_load64(tail)
        let isFull = end &- start >= UInt64(maxEntries)
        if isFull, flags != UpdateFlag.exist {
            unsafe OwnerLock.release(lock)
            return Failure.tooBig
        }
        if isFull { unsafe cruntime_store64(tail, start &+ 1) }
        unsafe storeWords(queueValue(end), value, valueSize)
        unsafe cruntime_store64(head, end &+ 1)
        unsafe OwnerLock.release(lock)
        return 0
    }

    /// Copies the first value of a queue or the last of a stack, and takes it out if asked; `ENOENT` and zeros where there is none.
    @_noLocks
    func queueTake(_ value: UnsafeMutableRawPointer, tid: UInt32, removes: Bool) -> Int64 {
        let lock = unsafe word(MetaOffset.queueLock)
        guard unsafe OwnerLock.acquire(lock, tid) else {
            unsafe cruntime_zero(value, valueSize)
            return Failure.busy
        }
        let end = unsafe cruntime_load64(head)
        let start = unsafe cruntime_load64(tail)
        let isEmpty = end == start
        if isEmpty {
            unsafe cruntime_zero(value, valueSize)
        } else if unsafe descriptor.pointee.type == 23 {
            // BPF_MAP_TYPE_STACK
            unsafe cruntime_copy(value, queueValue(end &- 1), valueSize)
            if removes { unsafe cruntime_store64(head, end &- 1) }
        } else {
            unsafe cruntime_copy(value, queueValue(start), valueSize)
            if removes { unsafe cruntime_store64(tail, start &+ 1) }
        }
        unsafe OwnerLock.release(lock)
        return isEmpty ? Failure.noEntry : 0
    }
}

/// BLOOM_FILTER, as kernel/bpf/bloom_filter.c: `bucket_count` bits, of which a value has `node_count`.
extension MapView {
    @_noLocks
    func bloomPush(_ value: UnsafeRawPointer, flags: UInt64) -> Int64 {
        if flags != UpdateFlag.any { return Failure.invalid }
        _ = unsafe bloomBits(value, sets: true)
        return 0
    }

    /// 0 where the value may be in the set, `ENOENT` where it is not.
    @_noLocks
    func bloomPeek(_ value: UnsafeRawPointer) -> Int64 {
        unsafe bloomBits(value, sets: false) ? 0 : Failure.noEntry
    }

    @_noLocks
    private func bloomBits(_ value: UnsafeRawPointer, sets: Bool) -> Bool {
        let hash = unsafe hashWords(value, valueSize, seed: quad(MetaOffset.seed).pointee)
        let mask = unsafe descriptor.pointee.bucket_count &- 1
        // Kirsch and Mitzenmacher: two hashes make as many as are needed.
        var bit = UInt32(truncatingIfNeeded: hash)
        let step = UInt32(truncatingIfNeeded: hash >> 32) | 1
        var count: UInt32 = 0
        while unsafe count < descriptor.pointee.node_count {
            let at = bit & mask
            let word = unsafe word(MetaOffset.stripes &+ UInt64(at >> 5) &* 4)
            let flag = (1 as UInt32) &<< (at & 31)
            if unsafe cruntime_load32(word) & flag == 0 {
                if !sets { return false }
                unsafe _ = cruntime_or32(word, flag)
            }
            bit = bit &+ step
            count &+= 1
        }
        return true
    }
}
