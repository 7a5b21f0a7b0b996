import CRuntime
import CSession

/// A key's place in a hash map.
struct HashPlace {
    var bucket: UInt32
    /// What nodes store to tell most other keys apart; odd, so never that of a node being filled.
    var mark: UInt32
}

/// HASH and PERCPU_HASH: chained buckets over preallocated nodes.
///
/// Readers take no lock. A chain changes by single stores: linking at the head, replacing in place, unlinking. Every
/// unlink or replacement raises the bucket's version before the node can be used again, so a reader that found nothing
/// knows from an unchanged version that it walked the bucket's own nodes only. A writer that dies leaves, at worst, one
/// node and one count of `max_entries` unused; `spareNodes` make up for the former.
extension MapView {
    // MARK: Places

    @_noLocks @inline(__always)
    func place(_ key: UnsafeRawPointer) -> HashPlace {
        let seed = unsafe quad(MetaOffset.seed).pointee
        let hash = unsafe hashWords(key, keySize, seed: seed)
        let mask = unsafe descriptor.pointee.bucket_count &- 1
        return HashPlace(
            bucket: UInt32(truncatingIfNeeded: hash) & mask,
            mark: UInt32(truncatingIfNeeded: hash >> 32) | 1
        )
    }

    /// `head, version, lock` of a bucket.
    @_noLocks @inline(__always)
    func bucketWords(_ bucket: UInt32) -> UnsafeMutablePointer<UInt32> {
        unsafe word(MetaOffset.buckets &+ UInt64(bucket) &* MetaSize.hashBucket)
    }

    /// `next, mark, free link` of a node.
    @_noLocks @inline(__always)
    func nodeWords(_ node: UInt32) -> UnsafeMutablePointer<UInt32> {
        let nodes = unsafe MetaOffset.buckets &+ UInt64(descriptor.pointee.bucket_count) &* MetaSize.hashBucket
        return unsafe word(nodes &+ UInt64(node &- 1) &* MetaSize.hashNode)
    }

    @_noLocks @inline(__always)
    func nodeKey(_ node: UInt32) -> UnsafeMutableRawPointer {
        let stride = unsafe UInt64(descriptor.pointee.key_stride)
        return unsafe UnsafeMutableRawPointer(
            session.shared + Int(descriptor.pointee.keys_offset &+ UInt64(node &- 1) &* stride)
        )
    }

    /// A node's value; `slot` counts in per-CPU maps only.
    @_noLocks @inline(__always)
    func nodeValue(_ node: UInt32, slot: Int) -> UnsafeMutableRawPointer {
        let stride = unsafe UInt64(descriptor.pointee.value_stride)
        let block = slot == 0 ? 0 : unsafe perCPUBlock(UInt64(descriptor.pointee.node_count), stride: stride)
        return unsafe values(UInt64(slot) &* block &+ UInt64(node &- 1) &* stride)
    }

    var hashPool: NodePool {
        @_noLocks get {
            unsafe NodePool(
                head: quad(MetaOffset.freeHead),
                fresh: word(MetaOffset.fresh),
                links: UnsafeMutableRawPointer(nodeWords(1) + 2),
                stride: MetaSize.hashNode,
                capacity: descriptor.pointee.node_count
            )
        }
    }

    // MARK: Reading

    /// The node that holds `key`, or 0.
    @_noLocks
    func hashFind(_ key: UnsafeRawPointer) -> UInt32 {
        let place = unsafe place(key)
        let bucket = unsafe bucketWords(place.bucket)
        let limit = unsafe descriptor.pointee.node_count
        var attempts = 0
        while attempts < 16 {
            let version = unsafe cruntime_load32(bucket + 1)
            var node = unsafe cruntime_load32(bucket)
            var steps: UInt32 = 0
            while node != 0 && node <= limit && steps <= limit {
                let words = unsafe nodeWords(node)
                if unsafe cruntime_load32(words + 1) == place.mark, unsafe equalWords(nodeKey(node), key, keySize) {
                    // The node may have been taken for another key meanwhile: then its mark was cleared first.
                    cruntime_barrier()
                    if unsafe cruntime_load32(words + 1) == place.mark { return node }
                }
                node = unsafe cruntime_load32(words)
                steps &+= 1
                if steps & 31 == 0, unsafe cruntime_load32(bucket + 1) != version { break }
            }
            if unsafe cruntime_load32(bucket + 1) == version { return 0 }
            attempts &+= 1
        }
        return unsafe hashFindLocked(key, place, bucket)
    }

    /// The same under the bucket's lock, for a bucket that changes faster than it can be read.
    @_noLocks @inline(never)
    private func hashFindLocked(
        _ key: UnsafeRawPointer,
        _ place: HashPlace,
        _ bucket: UnsafeMutablePointer<UInt32>
    ) -> UInt32 {
        guard unsafe OwnerLock.acquire(bucket + 2, cruntime_tid()) else { return 0 }
        let node = unsafe hashSearch(key, place, bucket).pointee
        unsafe OwnerLock.release(bucket + 2)
        return node
    }

    /// The link that leads to `key`'s node, or the link that ends the chain; under the bucket's lock.
    @_noLocks
    private func hashSearch(
        _ key: UnsafeRawPointer,
        _ place: HashPlace,
        _ bucket: UnsafeMutablePointer<UInt32>
    ) -> UnsafeMutablePointer<UInt32> {
        let limit = unsafe descriptor.pointee.node_count
        var link = unsafe bucket
        var steps: UInt32 = 0
        while true {
            let node = unsafe cruntime_load32(link)
            if node == 0 { return unsafe link }
            if node > limit || steps > limit {
                // Damage by a stray store: the chain ends here from now on.
                unsafe cruntime_store32(link, 0)
                return unsafe link
            }
            let words = unsafe nodeWords(node)
            if unsafe words[1] == place.mark, unsafe equalWords(nodeKey(node), key, keySize) { return unsafe link }
            unsafe link = unsafe words
            steps &+= 1
        }
    }

    // MARK: Writing

    /// Sets `key`'s value; `slot` is this run's per-CPU slot, or -1 where `value` holds every slot's value.
    @_noLocks
    func hashUpdate(
        _ key: UnsafeRawPointer,
        _ value: UnsafeRawPointer,
        flags: UInt64,
        tid: UInt32,
        slot: Int
    ) -> Int64 {
        if flags > UpdateFlag.exist { return Failure.invalid }
        let place = unsafe place(key)
        let bucket = unsafe bucketWords(place.bucket)
        guard unsafe OwnerLock.acquire(bucket + 2, tid) else { return Failure.busy }
        let link = unsafe hashSearch(key, place, bucket)
        let old = unsafe link.pointee
        var result: Int64 = 0
        var freed: UInt32 = 0
        if old != 0 {
            if flags == UpdateFlag.noExist {
                result = Failure.exists
            } else {
                freed = unsafe hashReplace(old, key, value, place, link, bucket, slot)
            }
        } else if flags == UpdateFlag.exist {
            result = Failure.noEntry
        } else {
            result = unsafe hashInsert(key, value, place, bucket, slot)
        }
        unsafe OwnerLock.release(bucket + 2)
        if freed != 0 { hashPool.push(freed) }
        return result
    }

    /// Gives `old`'s key a new value; returns the node that is free now, if any.
    @_noLocks
    private func hashReplace(
        _ old: UInt32,
        _ key: UnsafeRawPointer,
        _ value: UnsafeRawPointer,
        _ place: HashPlace,
        _ link: UnsafeMutablePointer<UInt32>,
        _ bucket: UnsafeMutablePointer<UInt32>,
        _ slot: Int
    ) -> UInt32 {
        // Per-CPU values are written in place, each slot by its one user (kernel: pcpu_copy_value).
        let node = isPerCPU ? 0 : hashPool.pop()
        guard node != 0 else {
            // For a plain map: more writers at once than spare nodes. Words are stored whole; a reader may see a mix.
            unsafe storeValue(old, value, slot: slot, isNew: false)
            return 0
        }
        unsafe fill(node, key, value, place, slot, next: nodeWords(old).pointee)
        unsafe cruntime_store32(link, node)
        unsafe cruntime_store32(bucket + 1, bucket[1] &+ 1)
        return old
    }

    @_noLocks
    private func hashInsert(
        _ key: UnsafeRawPointer,
        _ value: UnsafeRawPointer,
        _ place: HashPlace,
        _ bucket: UnsafeMutablePointer<UInt32>,
        _ slot: Int
    ) -> Int64 {
        let count = unsafe word(MetaOffset.count)
        while true {
            let elements = unsafe cruntime_load32(count)
            if elements >= maxEntries { return Failure.tooBig }
            if unsafe cruntime_cas32(count, elements, elements &+ 1) != 0 { break }
        }
        let node = hashPool.pop()
        if node == 0 {
            unsafe _ = cruntime_add32(count, UInt32.max)
            return Failure.noMemory
        }
        unsafe fill(node, key, value, place, slot, next: bucket.pointee)
        unsafe cruntime_store32(bucket, node)
        return 0
    }

    /// Writes a node that no chain holds; readers that still stand on it see its mark cleared first.
    @_noLocks
    private func fill(
        _ node: UInt32,
        _ key: UnsafeRawPointer,
        _ value: UnsafeRawPointer,
        _ place: HashPlace,
        _ slot: Int,
        next: UInt32
    ) {
        let words = unsafe nodeWords(node)
        unsafe cruntime_store32(words + 1, 0)
        cruntime_barrier()
        unsafe storeWords(nodeKey(node), key, keySize)
        unsafe storeValue(node, value, slot: slot, isNew: true)
        unsafe cruntime_store32(words, next)
        unsafe cruntime_store32(words + 1, place.mark)
    }

    @_noLocks
    private func storeValue(_ node: UInt32, _ value: UnsafeRawPointer, slot: Int, isNew: Bool) {
        guard isPerCPU else {
            unsafe storeWords(nodeValue(node, slot: 0), value, valueSize)
            return
        }
        let stride = unsafe Int(descriptor.pointee.value_stride)
        var cpu = 0
        while cpu < session.cpuCount {
            if slot < 0 {
                unsafe storeWords(nodeValue(node, slot: cpu), value.advanced(by: cpu &* stride), valueSize)
            } else if cpu == slot {
                unsafe storeWords(nodeValue(node, slot: cpu), value, valueSize)
            } else if isNew {
                unsafe cruntime_zero(nodeValue(node, slot: cpu), UInt64(stride))
            }
            cpu &+= 1
        }
    }

    @_noLocks
    func hashDelete(_ key: UnsafeRawPointer, tid: UInt32) -> Int64 {
        let place = unsafe place(key)
        let bucket = unsafe bucketWords(place.bucket)
        guard unsafe OwnerLock.acquire(bucket + 2, tid) else { return Failure.busy }
        let link = unsafe hashSearch(key, place, bucket)
        let node = unsafe link.pointee
        if node != 0 {
            unsafe cruntime_store32(link, nodeWords(node).pointee)
            unsafe cruntime_store32(bucket + 1, bucket[1] &+ 1)
        }
        unsafe OwnerLock.release(bucket + 2)
        if node == 0 { return Failure.noEntry }
        hashPool.push(node)
        unsafe _ = cruntime_add32(word(MetaOffset.count), UInt32.max)
        return 0
    }

    // MARK: Iterating

    /// Copies the key after `key` in the map's order, or the first one where `key` is nil or not there.
    @_noLocks
    func hashNextKey(_ key: UnsafeRawPointer?, into next: UnsafeMutableRawPointer) -> Int64 {
        var bucket: UInt32 = 0
        if let key = unsafe key {
            let node = unsafe hashFind(key)
            if node != 0 {
                bucket = unsafe place(key).bucket
                let following = unsafe cruntime_load32(nodeWords(node))
                if unsafe copyKey(following, bucket, next) { return 0 }
                bucket &+= 1
            }
        }
        let buckets = unsafe descriptor.pointee.bucket_count
        while bucket < buckets {
            if unsafe copyKey(cruntime_load32(bucketWords(bucket)), bucket, next) { return 0 }
            bucket &+= 1
        }
        return Failure.noEntry
    }

    /// Copies the key of `node` where it is a node of `bucket`.
    @_noLocks
    private func copyKey(_ node: UInt32, _ bucket: UInt32, _ next: UnsafeMutableRawPointer) -> Bool {
        guard isNode(node, of: bucket) else { return false }
        unsafe cruntime_copy(next, nodeKey(node), keySize)
        return true
    }

    /// Whether `node` holds, right now, a key of `bucket`.
    @_noLocks
    func isNode(_ node: UInt32, of bucket: UInt32) -> Bool {
        let limit = unsafe descriptor.pointee.node_count
        guard node != 0, node <= limit else { return false }
        if unsafe nodeWords(node)[1] == 0 { return false }
        return unsafe place(nodeKey(node)).bucket == bucket
    }

    /// One slot's value for each CPU.
    package var isPerCPU: Bool {
        @_noLocks get {
            // BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY
            unsafe descriptor.pointee.type == 5 || descriptor.pointee.type == 6
        }
    }
}
