import CRuntime
import CSession

/// `BPF_MAP_TYPE_TASK_STORAGE`.
var taskStorageType: UInt32 {
    @_noLocks get { 29 }
}

/// Elements that such a map has room for, which its definition does not say: as many threads as a kernel has by default.
let taskLimit: UInt32 = 32768

/// TASK_STORAGE: a hash map with thread ids as keys, in which each thread finds its own value.
///
/// Ids are given out again. So each element has the token of the thread that it belongs to, which no two threads share, and what
/// an earlier owner of the id has left counts as not there. Elements of threads that have ended go when room is needed, or when
/// somebody walks.
extension MapView {
    package var isTaskStorage: Bool {
        @_noLocks get { unsafe descriptor.pointee.type == taskStorageType }
    }

    /// Dead elements that one call looks for, at most.
    private static var sweepLength: UInt32 { @_noLocks get { 64 } }

    /// A node's token; 0 where user space made the element.
    @_noLocks
    func token(_ node: UInt32) -> UnsafeMutablePointer<UInt64> {
        let stride = unsafe Int(descriptor.pointee.key_stride)
        return unsafe (UnsafeMutableRawPointer(nodeWords(node)) + (stride &- 8)).assumingMemoryBound(to: UInt64.self)
    }

    /// Bytes of zeros, as long as a value.
    private var zeros: UnsafeRawPointer {
        @_noLocks get {
            let buckets = unsafe UInt64(descriptor.pointee.bucket_count) &* MetaSize.hashBucket
            return unsafe UnsafeRawPointer(meta(hashBucketsOffset(descriptor.pointee.bucket_count) &+ buckets))
        }
    }

    /// The value of the thread `tid` with this token; nil where it has none, unless it is to be made.
    ///
    /// kernel/bpf/bpf_task_storage.c, `bpf_task_storage_get`.
    @_noLocks
    func taskValue(tid: UInt32, token: UInt64, initial: UnsafeRawPointer?, creates: Bool) -> UnsafeMutableRawPointer? {
        var key = UInt64(tid)
        let own = unsafe taskNode(&key, token)
        if own != 0 { return unsafe nodeValue(own, slot: 0) }
        if !creates { return nil }
        let value = unsafe initial ?? zeros
        var attempts = 0
        while attempts < 3 {
            let status = unsafe hashUpdate(&key, value, flags: UpdateFlag.any, tid: tid, slot: 0)
            if status == 0, case let node = unsafe hashFind(&key), node != 0 {
                unsafe cruntime_store64(self.token(node), token)
                return unsafe nodeValue(node, slot: 0)
            }
            if status != Failure.tooBig { return nil }
            sweep(Self.sweepLength, tid, takesForeign: attempts > 0)
            attempts &+= 1
        }
        return nil
    }

    /// `bpf_task_storage_delete`.
    @_noLocks
    func taskDelete(tid: UInt32, token: UInt64) -> Int64 {
        var key = UInt64(tid)
        return unsafe taskNode(&key, token) == 0 ? Failure.noEntry : hashDelete(&key, tid: tid)
    }

    /// The thread's own node; one that an earlier thread with its id has left is removed.
    @_noLocks
    private func taskNode(_ key: UnsafePointer<UInt64>, _ token: UInt64) -> UInt32 {
        let node = unsafe hashFind(key)
        if node == 0 { return 0 }
        let found = unsafe cruntime_load64(self.token(node))
        if found == token { return node }
        if found == 0 {
            // Made for this thread from outside.
            unsafe cruntime_store64(self.token(node), token)
            return node
        }
        _ = unsafe hashDelete(key, tid: UInt32(truncatingIfNeeded: key.pointee))
        return 0
    }

    /// Removes all elements of threads that have ended; for user space.
    func sweepAll(_ tid: UInt32) { unsafe sweep(descriptor.pointee.node_count, tid, takesForeign: false) }

    /// Removes elements of threads that have ended, among the next `count`; and those of other PID namespaces, of which nobody knows,
    /// where there is no room otherwise.
    @_noLocks
    func sweep(_ count: UInt32, _ tid: UInt32, takesForeign: Bool) {
        let limit = unsafe descriptor.pointee.node_count
        var seen: UInt32 = 0
        while seen < count {
            let node = unsafe cruntime_add32(word(MetaOffset.hand), 1) % limit &+ 1
            seen &+= 1
            let words = unsafe nodeWords(node)
            if unsafe cruntime_load32(words + 1) == 0 { continue }
            var key = unsafe UInt64(cruntime_load32(words + 2))
            let state = cruntime_owner_state(UInt32(truncatingIfNeeded: key))
            if state == 1 || (takesForeign && state == 2) { _ = unsafe hashDelete(&key, tid: tid) }
        }
    }
}
