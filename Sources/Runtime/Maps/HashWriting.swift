import CRuntime
import CSession

/// Changes of hash maps; all under the lock of the bucket's stripe, by stores that leave the chain whole at any moment.
extension MapView {
    /// Sets `key`'s value; `slot` is this run's per-CPU slot, or -1 where `value` holds every slot's value.
    ///
    /// kernel/bpf/hashtab.c, `htab_map_update_elem` and its relatives.
    @_noLocks
    func hashUpdate(
        _ key: UnsafeRawPointer,
        _ value: UnsafeRawPointer,
        flags: UInt64,
        tid: UInt32,
        slot: Int
    ) -> Int64 {
        // With BPF_F_LOCK a value that is there is changed in place.
        let plain = lockOffset == nil ? flags : flags & ~UpdateFlag.lock
        if plain > UpdateFlag.exist { return Failure.invalid }
        let place = unsafe place(key)
        let bucket = unsafe bucketWords(place.bucket)
        // A node from elsewhere, for which this stripe had to be left.
        var found: UInt32 = 0
        while true {
            guard let stripe = lockStripe(place.bucket, tid) else {
                if found != 0 { returnNode(found, tid) }
                return Failure.busy
            }
            let link = unsafe hashSearch(key, place, bucket)
            let old = unsafe link.pointee
            var result: Int64 = 0
            if old != 0 {
                if plain == UpdateFlag.noExist {
                    result = Failure.exists
                } else if plain != flags {
                    result = unsafe storeLocked(nodeValue(old, slot: 0), value, tid)
                } else {
                    unsafe hashReplace(old, key, value, place, link, bucket, stripe, slot)
                }
            } else if plain == UpdateFlag.exist {
                result = Failure.noEntry
            } else {
                if found == 0 { found = takeNode(stripe) } else { stripe.coming = found }
                if found != 0 {
                    unsafe fill(found, key, value, place, slot, next: bucket.pointee)
                    unsafe cruntime_store32(bucket, found)
                    stripe.coming = 0
                    stripe.unlock()
                    return 0
                }
                stripe.unlock()
                found = findNode(tid)
                if found == 0 { return evicts ? Failure.noMemory : Failure.tooBig }
                continue
            }
            if found != 0 {
                // Another thread was faster with the key.
                stripe.coming = found
                giveNode(found, stripe)
                stripe.coming = 0
            }
            stripe.unlock()
            return result
        }
    }

    /// Gives `old`'s key a new value.
    @_noLocks @inline(__always)
    private func hashReplace(
        _ old: UInt32,
        _ key: UnsafeRawPointer,
        _ value: UnsafeRawPointer,
        _ place: HashPlace,
        _ link: UnsafeMutablePointer<UInt32>,
        _ bucket: UnsafeMutablePointer<UInt32>,
        _ stripe: HashStripe,
        _ slot: Int
    ) {
        // Per-CPU values are written in place, each slot by its one user (kernel: pcpu_copy_value).
        var node: UInt32 = 0
        if !isPerCPU {
            node = spareNode(stripe)
            if node == 0 { node = takeNode(stripe) }
        }
        guard node != 0 else {
            // For a plain map: a death cost the spare, and the map is full. Words are stored whole; a reader may see a mix.
            unsafe storeValue(old, value, slot: slot, isNew: false)
            if evicts { unsafe cruntime_store32(usedWord(old), 1) }
            return
        }
        stripe.coming = node
        stripe.going = old
        stripe.spare = HashStripe.none
        unsafe fill(node, key, value, place, slot, next: nodeWords(old).pointee)
        if evicts { unsafe cruntime_store32(usedWord(node), 1) }
        unsafe cruntime_store32(link, node)
        unsafe cruntime_store32(bucket + 1, bucket[1] &+ 1)
        unsafe cruntime_store32(nodeWords(old) + 1, 0)
        stripe.spare = old
        stripe.coming = 0
        stripe.going = 0
    }

    /// Writes a node that no chain holds, and whose mark is 0.
    @_noLocks @inline(never)
    private func fill(
        _ node: UInt32,
        _ key: UnsafeRawPointer,
        _ value: UnsafeRawPointer,
        _ place: HashPlace,
        _ slot: Int,
        next: UInt32
    ) {
        let words = unsafe nodeWords(node)
        unsafe storeWords(UnsafeMutableRawPointer(words + 2), key, keySize)
        unsafe storeValue(node, value, slot: slot, isNew: true)
        if evicts { unsafe cruntime_store32(usedWord(node), 0) }
        if isTaskStorage { unsafe cruntime_store64(token(node), 0) }
        unsafe cruntime_store32(words, next)
        unsafe cruntime_store32(words + 1, place.mark)
    }

    @_noLocks @inline(__always)
    private func storeValue(_ node: UInt32, _ value: UnsafeRawPointer, slot: Int, isNew: Bool) {
        if isPerCPU {
            unsafe storeSlots(node, value, slot: slot, isNew: isNew)
        } else {
            let place = unsafe nodeValue(node, slot: 0)
            if isNew {
                unsafe storeWords(place, value, valueSize)
                unsafe clearLock(place)
            } else {
                unsafe storeElement(place, value)
            }
        }
    }

    @_noLocks @inline(never)
    private func storeSlots(_ node: UInt32, _ value: UnsafeRawPointer, slot: Int, isNew: Bool) {
        let stride = unsafe Int(descriptor.pointee.value_stride)
        let isOne = !isNew && slot >= 0
        var cpu = isOne ? slot : 0
        let end = isOne ? slot &+ 1 : session.cpuCount
        while cpu < end {
            if slot < 0 || cpu == slot {
                let from = unsafe value.advanced(by: slot < 0 ? cpu &* stride : 0)
                unsafe storeWords(nodeValue(node, slot: cpu), from, valueSize)
            } else {
                unsafe cruntime_zero(nodeValue(node, slot: cpu), UInt64(stride))
            }
            cpu &+= 1
        }
    }

    @_noLocks
    func hashDelete(_ key: UnsafeRawPointer, tid: UInt32) -> Int64 {
        let place = unsafe place(key)
        let bucket = unsafe bucketWords(place.bucket)
        guard let stripe = lockStripe(place.bucket, tid) else { return Failure.busy }
        let link = unsafe hashSearch(key, place, bucket)
        let node = unsafe link.pointee
        if node != 0 {
            unsafe unlink(node, link, bucket, stripe)
            giveNode(node, stripe)
            stripe.coming = 0
        }
        stripe.unlock()
        return node == 0 ? Failure.noEntry : 0
    }

    /// Takes a node out of its chain and notes it as coming.
    @_noLocks @inline(__always)
    func unlink(
        _ node: UInt32,
        _ link: UnsafeMutablePointer<UInt32>,
        _ bucket: UnsafeMutablePointer<UInt32>,
        _ stripe: HashStripe
    ) {
        stripe.coming = node
        unsafe cruntime_store32(link, nodeWords(node).pointee)
        unsafe cruntime_store32(bucket + 1, bucket[1] &+ 1)
    }

    // MARK: Nodes from elsewhere

    /// Takes a node from any stripe, and from an LRU map's elements where none has one; 0 for none.
    ///
    /// No lock is held meanwhile.
    /// A death in here or before the caller has noted the node costs the map this one node.
    @_noLocks @inline(never)
    private func findNode(_ tid: UInt32) -> UInt32 {
        if !evicts { return findFreeNode(tid) }
        if unsafe cruntime_load32(word(MetaOffset.full)) == 0 {
            let node = findFreeNode(tid)
            if node != 0 { return node }
            unsafe cruntime_store32(word(MetaOffset.full), 1)
        }
        return evict(tid)
    }

    @_noLocks
    private func findFreeNode(_ tid: UInt32) -> UInt32 {
        var number: UInt32 = 0
        while number < stripes {
            if hasFreeNode(stripe(number)), let stripe = waitForStripe(number, tid) {
                let node = takeNode(stripe)
                stripe.coming = 0
                stripe.unlock()
                if node != 0 { return node }
            }
            number &+= 1
        }
        return 0
    }

    /// Puts a node that is in hand into the first stripe whose lock is free.
    @_noLocks @inline(never)
    private func returnNode(_ node: UInt32, _ tid: UInt32) {
        var number: UInt32 = 0
        while number < stripes {
            let stripe = stripe(number)
            if unsafe cruntime_cas32(stripe.words, 0, tid) != 0 {
                giveNode(node, stripe)
                stripe.unlock()
                return
            }
            number &+= 1
        }
    }

    // MARK: Least recently used

    /// Whether a full map makes room by giving up an element: LRU_HASH, LRU_PERCPU_HASH.
    var evicts: Bool {
        @_noLocks get { unsafe descriptor.pointee.type == 9 || descriptor.pointee.type == 10 }
    }

    /// An LRU map's note that a node's element was used since it was last looked at.
    @_noLocks @inline(__always)
    func usedWord(_ node: UInt32) -> UnsafeMutablePointer<UInt32> {
        let stride = unsafe Int(descriptor.pointee.key_stride) / 4
        return unsafe nodeWords(node) + (stride &- 2)
    }

    /// Takes the node of an element that was not used for long: a clock goes round, and who was used gets another round.
    ///
    /// After `patience` used ones in a row the next has to go, as in kernel/bpf/bpf_lru_list.c.
    @_noLocks
    private func evict(_ tid: UInt32) -> UInt32 {
        let limit = unsafe descriptor.pointee.node_count
        let patience: UInt32 = 128
        var seen: UInt32 = 0
        while seen < limit &+ patience {
            let node = unsafe cruntime_add32(word(MetaOffset.hand), 1) % limit &+ 1
            seen &+= 1
            let words = unsafe nodeWords(node)
            if unsafe cruntime_load32(words + 1) == 0 { continue }
            if seen <= patience, unsafe cruntime_load32(usedWord(node)) != 0 {
                unsafe cruntime_store32(usedWord(node), 0)
                continue
            }
            let number = unsafe bucket(words + 2)
            let chain = unsafe bucketWords(number)
            guard let stripe = waitForStripe(number, tid) else { continue }
            let link = unsafe linkOf(node, chain)
            if unsafe link.pointee == node {
                unsafe unlink(node, link, chain, stripe)
                unsafe cruntime_store32(words + 1, 0)
                stripe.coming = 0
                stripe.unlock()
                return node
            }
            stripe.unlock()
        }
        return 0
    }

    /// The link that leads to `node`, or the one that ends the bucket's chain.
    @_noLocks
    private func linkOf(_ node: UInt32, _ bucket: UnsafeMutablePointer<UInt32>) -> UnsafeMutablePointer<UInt32> {
        let limit = unsafe descriptor.pointee.node_count
        var link = unsafe bucket
        var steps: UInt32 = 0
        while steps <= limit, case let at = unsafe cruntime_load32(link), at != 0, at != node, at <= limit {
            unsafe link = unsafe nodeWords(at)
            steps &+= 1
        }
        return unsafe link
    }
}
