import CRuntime
import CSession

/// A key's place in a hash map.
struct HashPlace {
    var bucket: UInt32
    /// What nodes store to tell most other keys apart; odd, so never that of a node that holds no element.
    var mark: UInt32
}

/// HASH, LRU_HASH and their per-CPU forms: chained buckets over preallocated nodes.
///
/// Buckets are `head, version`; nodes are `next, mark, key`, and in LRU maps a word that says whether the element was used.
/// Readers take no lock. A chain changes by single stores: linking at the head, replacing in place, unlinking. Every unlink
/// or replacement raises the bucket's version before the node is touched, so a reader that found nothing knows from an
/// unchanged version that it walked the bucket's own nodes only. Writers: HashWriting.swift.
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

    /// The bucket of a key, where time does not count.
    @_noLocks @inline(never)
    func bucket(_ key: UnsafeRawPointer) -> UInt32 { unsafe place(key).bucket }

    /// `head, version` of a bucket.
    @_noLocks @inline(__always)
    func bucketWords(_ bucket: UInt32) -> UnsafeMutablePointer<UInt32> {
        let buckets = unsafe hashBucketsOffset(descriptor.pointee.bucket_count)
        return unsafe word(buckets &+ UInt64(bucket) &* MetaSize.hashBucket)
    }

    /// `next, mark` of a node; its key follows.
    @_noLocks @inline(__always)
    func nodeWords(_ node: UInt32) -> UnsafeMutablePointer<UInt32> {
        let stride = unsafe UInt64(descriptor.pointee.key_stride)
        let offset = unsafe Int(descriptor.pointee.keys_offset &+ UInt64(node &- 1) &* stride)
        return unsafe UnsafeMutableRawPointer(session.shared + offset).assumingMemoryBound(to: UInt32.self)
    }

    @_noLocks @inline(__always)
    func nodeKey(_ node: UInt32) -> UnsafeMutableRawPointer {
        unsafe UnsafeMutableRawPointer(nodeWords(node) + 2)
    }

    /// A node's value; `slot` counts in per-CPU maps only.
    @_noLocks @inline(__always)
    func nodeValue(_ node: UInt32, slot: Int) -> UnsafeMutableRawPointer {
        let stride = unsafe UInt64(descriptor.pointee.value_stride)
        let block = slot == 0 ? 0 : unsafe perCPUBlock(UInt64(descriptor.pointee.node_count), stride: stride)
        return unsafe values(UInt64(slot) &* block &+ UInt64(node &- 1) &* stride)
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
                if unsafe cruntime_load32(words + 1) == place.mark, unsafe equalWords(words + 2, key, keySize) {
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

    /// The same under the stripe's lock, for a bucket that changes faster than it can be read.
    @_noLocks @inline(never)
    private func hashFindLocked(
        _ key: UnsafeRawPointer,
        _ place: HashPlace,
        _ bucket: UnsafeMutablePointer<UInt32>
    ) -> UInt32 {
        guard let stripe = waitForStripe(place.bucket, cruntime_owner()) else { return 0 }
        let node = unsafe hashSearch(key, place, bucket).pointee
        stripe.unlock()
        return node
    }

    /// The link that leads to `key`'s node, or the link that ends the chain; under the stripe's lock.
    @_noLocks @inline(__always)
    func hashSearch(
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
            if unsafe words[1] == place.mark, unsafe equalWords(words + 2, key, keySize) { return unsafe link }
            unsafe link = unsafe words
            steps &+= 1
        }
    }

    // MARK: Iterating

    /// Copies the key after `key` in the map's order, or the first one where `key` is nil or not there.
    @_noLocks
    func hashNextKey(_ key: UnsafeRawPointer?, into next: UnsafeMutableRawPointer) -> Int64 {
        var bucket: UInt32 = 0
        if let key = unsafe key {
            let node = unsafe hashFind(key)
            if node != 0 {
                bucket = unsafe self.bucket(key)
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
        return unsafe self.bucket(nodeKey(node)) == bucket
    }
}
