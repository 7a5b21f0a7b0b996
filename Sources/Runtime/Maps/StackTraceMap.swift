import CRuntime
import CSession

/// STACK_TRACE, as kernel/bpf/stackmap.c has it: a trace's id is its hash's bucket.
///
/// A bucket is one 64-bit word, node number and generation, that is replaced by compare-and-exchange once the new node is
/// whole: there is no lock, and a writer that dies leaks one of the spare nodes.
extension MapView {
    @_noLocks @inline(__always)
    func stackBucket(_ id: UInt32) -> UnsafeMutablePointer<UInt64> {
        unsafe quad(MetaOffset.buckets &+ UInt64(id) &* MetaSize.stackBucket)
    }

    /// `hash, frames, free link` of a node.
    @_noLocks @inline(__always)
    func stackNode(_ node: UInt32) -> UnsafeMutablePointer<UInt32> {
        let nodes = unsafe MetaOffset.buckets &+ UInt64(descriptor.pointee.bucket_count) &* MetaSize.stackBucket
        return unsafe word(nodes &+ UInt64(node &- 1) &* MetaSize.stackNode)
    }

    @_noLocks @inline(__always)
    func stackFrames(_ node: UInt32) -> UnsafeMutablePointer<UInt64> {
        let stride = unsafe UInt64(descriptor.pointee.value_stride)
        return unsafe values(UInt64(node &- 1) &* stride).assumingMemoryBound(to: UInt64.self)
    }

    var stackPool: NodePool {
        @_noLocks get {
            unsafe NodePool(
                head: quad(MetaOffset.freeHead),
                fresh: word(MetaOffset.fresh),
                links: UnsafeMutableRawPointer(stackNode(1) + 2),
                stride: MetaSize.stackNode,
                capacity: descriptor.pointee.node_count
            )
        }
    }

    /// Stores a trace of `count` frames, or finds it; its id, or a negated errno value.
    @_noLocks
    package func stackStore(_ frames: UnsafePointer<UInt64>, count: Int, flags: UInt64) -> Int64 {
        var place = StackPlace()
        return unsafe stackStore(frames, count: count, flags: flags, &place)
    }

    /// The same; and why: as long as the bucket's word is the one in `place`, the same call has the same result.
    ///
    /// Each change of a bucket counts its generation up, and a node's trace does not change while it is in a bucket.
    @_noLocks
    func stackStore(_ frames: UnsafePointer<UInt64>, count: Int, flags: UInt64, _ place: inout StackPlace) -> Int64 {
        let bytes = UInt64(count) &* 8
        let seed = unsafe quad(MetaOffset.seed).pointee
        let hash = unsafe UInt32(truncatingIfNeeded: hashWords(UnsafeRawPointer(frames), bytes, seed: seed))
        let id = unsafe hash & (descriptor.pointee.bucket_count &- 1)
        let bucket = unsafe stackBucket(id)
        place = StackPlace(bucket: id)
        var attempts = 0
        while attempts < 16 {
            let old = unsafe cruntime_load64(bucket)
            let node = UInt32(truncatingIfNeeded: old)
            let isUsed = unsafe node != 0 && node <= descriptor.pointee.node_count
            if isUsed {
                let words = unsafe stackNode(node)
                let isSameHash = unsafe words[0] == hash
                var isSame = isSameHash && flags & StackFlag.fastCompare != 0
                if isSameHash, !isSame, unsafe Int(words[1]) == count {
                    isSame = unsafe equalWords(UnsafeRawPointer(stackFrames(node)), UnsafeRawPointer(frames), bytes)
                }
                cruntime_barrier()
                if unsafe cruntime_load64(bucket) != old {
                    attempts &+= 1
                    continue
                }
                if isSame || flags & StackFlag.reuse == 0 {
                    place.word = old
                    return isSame ? Int64(id) : Failure.exists
                }
            }
            let fresh = stackPool.pop()
            if fresh == 0 { return Failure.noMemory }
            let words = unsafe stackNode(fresh)
            unsafe words[0] = hash
            unsafe words[1] = UInt32(count)
            unsafe storeWords(UnsafeMutableRawPointer(stackFrames(fresh)), UnsafeRawPointer(frames), bytes)
            let generation = ((old >> 32) &+ 1) << 32
            if unsafe cruntime_cas64(bucket, old, generation | UInt64(fresh)) != 0 {
                place.word = generation | UInt64(fresh)
                if isUsed { stackPool.push(node) }
                return Int64(id)
            }
            stackPool.push(fresh)
            attempts &+= 1
        }
        return Failure.busy
    }

    /// Copies the trace of `id` to `value_size` bytes, zero-filled; `ENOENT` where there is none.
    @_noLocks
    package func stackCopy(_ id: UInt32, into value: UnsafeMutableRawPointer) -> Int64 {
        guard unsafe id < descriptor.pointee.bucket_count else { return Failure.noEntry }
        let bucket = unsafe stackBucket(id)
        var attempts = 0
        while attempts < 1000 {
            let old = unsafe cruntime_load64(bucket)
            let node = UInt32(truncatingIfNeeded: old)
            if unsafe node == 0 || node > descriptor.pointee.node_count { return Failure.noEntry }
            let count = unsafe min(UInt64(stackNode(node)[1]), valueSize / 8)
            unsafe cruntime_copy(value, stackFrames(node), count &* 8)
            unsafe cruntime_zero(value.advanced(by: Int(count) &* 8), valueSize &- count &* 8)
            cruntime_barrier()
            if unsafe cruntime_load64(bucket) == old { return 0 }
            attempts &+= 1
        }
        return Failure.busy
    }

    @_noLocks
    func stackDelete(_ id: UInt32) -> Int64 {
        guard unsafe id < descriptor.pointee.bucket_count else { return Failure.tooBig }
        let bucket = unsafe stackBucket(id)
        while true {
            let old = unsafe cruntime_load64(bucket)
            let node = UInt32(truncatingIfNeeded: old)
            if node == 0 { return Failure.noEntry }
            if unsafe cruntime_cas64(bucket, old, ((old >> 32) &+ 1) << 32) != 0 {
                if unsafe node <= descriptor.pointee.node_count { stackPool.push(node) }
                return 0
            }
        }
    }

    @_noLocks
    func stackNextKey(_ key: UnsafeRawPointer?, into next: UnsafeMutableRawPointer) -> Int64 {
        var id: UInt32 = 0
        let limit = unsafe descriptor.pointee.bucket_count
        if let key = unsafe key {
            let last = unsafe arrayIndex(key)
            // Kernel: an id out of range or without a trace restarts.
            if unsafe last < limit && UInt32(truncatingIfNeeded: cruntime_load64(stackBucket(last))) != 0 {
                id = last &+ 1
            }
        }
        while id < limit {
            if unsafe UInt32(truncatingIfNeeded: cruntime_load64(stackBucket(id))) != 0 {
                unsafe storeIndex(id, next)
                return 0
            }
            id &+= 1
        }
        return Failure.noEntry
    }
}

/// The bucket that decided a store, and its word then.
struct StackPlace {
    var bucket: UInt32 = 0
    /// No bucket's word where the result says nothing about the next call.
    var word: UInt64 = ~0

    @_noLocks init(bucket: UInt32 = 0) { self.bucket = bucket }
}

/// Flags of `bpf_get_stackid` and `bpf_get_stack` (include/uapi/linux/bpf.h).
enum StackFlag {
    static var skipMask: UInt64 { @_noLocks get { 0xff } }
    static var user: UInt64 { @_noLocks get { 1 << 8 } }
    static var fastCompare: UInt64 { @_noLocks get { 1 << 9 } }
    static var reuse: UInt64 { @_noLocks get { 1 << 10 } }
}
