import CRuntime

/// What a batch command gives back: as far as it came, that much is done.
package struct BatchResult: Equatable, Sendable {
    package var status: Int64
    package var count = 0
    package var keys: [UInt8] = []
    package var values: [UInt8] = []
    /// Where the next batch begins (`out_batch`); nil where nothing was written there.
    package var next: [UInt8]?

    package init(_ status: Int64) { self.status = status }
}

/// Many elements with one command (kernel/bpf/syscall.c, `generic_map_lookup_batch` and its neighbours; of hash maps
/// kernel/bpf/hashtab.c, `__htab_map_lookup_and_delete_batch`).
extension UserMap {
    private static let notSupported: Int64 = -524

    private enum Batches {
        case none
        /// Key after key.
        case keys(deletes: Bool)
        /// Bucket after bucket.
        case buckets
    }

    private var batches: Batches {
        switch map.family {
        case .hash: map.isTaskStorage ? .none : .buckets
        case .array, .mapArray: .keys(deletes: false)
        case .lpmTrie: .keys(deletes: true)
        case .queue, .bloomFilter, .programArray, .stackTrace, .cgroupArray, .perfEventArray, .ringBuffer, nil: .none
        }
    }

    /// Elements in a row with given bytes each.
    private func pieces(_ bytes: [UInt8], _ size: Int, _ index: Int) -> [UInt8] {
        Array(bytes.dropFirst(index * size).prefix(size))
    }

    /// `BPF_MAP_LOOKUP_BATCH` and `BPF_MAP_LOOKUP_AND_DELETE_BATCH`: up to `count` elements from where `after` says, which is
    /// the last call's `next`.
    package func lookupBatch(
        after: [UInt8]?,
        count: Int,
        deletes: Bool = false,
        elementFlags: UInt64 = 0,
        flags: UInt64 = 0
    ) -> BatchResult {
        guard mayDo(reading: true, writing: deletes) else { return BatchResult(Failure.notPermitted) }
        switch batches {
        case .none: return BatchResult(Self.notSupported)
        case .keys:
            if deletes { return BatchResult(Self.notSupported) }
            if refusesFlags(elementFlags) { return BatchResult(Failure.invalid) }
            return keysBatch(after, count, elementFlags)
        case .buckets:
            if refusesFlags(elementFlags) || flags != 0 { return BatchResult(Failure.invalid) }
            return bucketsBatch(after, count, elementFlags, deletes: deletes)
        }
    }

    private func keysBatch(_ after: [UInt8]?, _ count: Int, _ flags: UInt64) -> BatchResult {
        var result = BatchResult(0)
        var last = after
        while result.count < count {
            let next = nextKey(last)
            if next.status != 0 {
                result.status = next.status
                break
            }
            last = next.key
            let found = lookup(next.key, flags: flags)
            if found.status == Failure.noEntry { continue }
            if found.status != 0 {
                result.status = found.status
                break
            }
            result.keys += next.key
            result.values += found.value
            result.count += 1
            result.next = next.key
        }
        return result
    }

    private func bucketsBatch(_ after: [UInt8]?, _ count: Int, _ flags: UInt64, deletes: Bool) -> BatchResult {
        var result = BatchResult(0)
        if count == 0 { return result }
        let buckets = unsafe map.descriptor.pointee.bucket_count
        var bucket = (after ?? []).prefix(4).reversed().reduce(0 as UInt32) { $0 << 8 | UInt32($1) }
        if bucket >= buckets { return BatchResult(Failure.noEntry) }
        while bucket < buckets {
            let keys = map.hashBucketKeys(bucket)
            if keys.count > count - result.count {
                if result.count == 0 { result.status = Failure.noSpace }
                break
            }
            for key in keys {
                let found = deletes ? takeForBatch(key, flags) : lookup(key, flags: flags)
                if found.status == Failure.busy {
                    result.status = found.status
                    return result
                }
                guard found.status == 0 else { continue }
                result.keys += key
                result.values += found.value
                result.count += 1
            }
            bucket += 1
        }
        if result.status == 0, bucket == buckets { result.status = Failure.noEntry }
        if result.status != Failure.noSpace {
            result.next = (0..<4).map { UInt8(truncatingIfNeeded: bucket >> (8 * $0)) }
        }
        return result
    }

    /// As `take`; batches do it to a HASH_OF_MAPS as well.
    private func takeForBatch(_ key: [UInt8], _ flags: UInt64) -> (status: Int64, value: [UInt8]) {
        guard map.holdsMaps else { return take(key, flags: flags) }
        let found = lookup(key)
        return found.status == 0 ? (delete(key), found.value) : found
    }

    /// `BPF_MAP_UPDATE_BATCH`.
    package func updateBatch(_ keys: [UInt8], _ values: [UInt8], count: Int, elementFlags: UInt64 = 0) -> BatchResult {
        guard mayDo(reading: false, writing: true) else { return BatchResult(Failure.notPermitted) }
        if case .none = batches { return BatchResult(Self.notSupported) }
        if refusesFlags(elementFlags) { return BatchResult(Failure.invalid) }
        var result = BatchResult(0)
        while result.count < count, result.status == 0 {
            let key = pieces(keys, Int(map.keySize), result.count)
            result.status = update(key, pieces(values, valueBytes, result.count), flags: elementFlags)
            if result.status == 0 { result.count += 1 }
        }
        return result
    }

    /// `BPF_MAP_DELETE_BATCH`.
    package func deleteBatch(_ keys: [UInt8], count: Int, elementFlags: UInt64 = 0) -> BatchResult {
        guard mayDo(reading: false, writing: true) else { return BatchResult(Failure.notPermitted) }
        switch batches {
        case .none, .keys(deletes: false): return BatchResult(Self.notSupported)
        case .keys(deletes: true), .buckets: break
        }
        if refusesFlags(elementFlags) { return BatchResult(Failure.invalid) }
        var result = BatchResult(0)
        while result.count < count, result.status == 0 {
            result.status = delete(pieces(keys, Int(map.keySize), result.count))
            if result.status == 0 { result.count += 1 }
        }
        return result
    }
}

extension MapView {
    /// The keys of a bucket, as far as it holds still.
    func hashBucketKeys(_ bucket: UInt32) -> [[UInt8]] {
        let limit = unsafe descriptor.pointee.node_count
        var keys: [[UInt8]] = []
        var node = unsafe cruntime_load32(bucketWords(bucket))
        while isNode(node, of: bucket), keys.count <= limit {
            unsafe keys.append([UInt8](UnsafeRawBufferPointer(start: nodeKey(node), count: Int(keySize))))
            node = unsafe cruntime_load32(nodeWords(node))
        }
        return keys
    }

    /// Removes `key` once `body` has seen its node and said 0: nobody else changes it meanwhile, except in place.
    func hashTake(_ key: UnsafeRawPointer, tid: UInt32, _ body: (_ node: UInt32) -> Int64) -> Int64 {
        let place = unsafe place(key)
        let bucket = unsafe bucketWords(place.bucket)
        guard let stripe = lockStripe(place.bucket, tid) else { return Failure.busy }
        let link = unsafe hashSearch(key, place, bucket)
        let node = unsafe link.pointee
        let status = node == 0 ? Failure.noEntry : body(node)
        if status == 0 {
            unsafe unlink(node, link, bucket, stripe)
            giveNode(node, stripe)
            stripe.coming = 0
        }
        stripe.unlock()
        return status
    }
}
