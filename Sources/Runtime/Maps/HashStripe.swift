import CRuntime
import CSession

/// A part of a hash map's buckets, those whose numbers end alike, with a lock and free nodes of its own.
///
/// So one lock, which is one locked instruction, is all that an operation takes. Nodes in no chain are in a stripe's list, were
/// never used, or are a stripe's spare, which a replacement takes and gives the old node for; there are `max_entries` of them
/// and the spares, so a map is full when no stripe has one. A holder notes the nodes that it moves: where it dies, the next
/// one finds the notes and brings these nodes home.
@safe
struct HashStripe {
    /// `lock, coming, going, free, used, spare`: a tid; nodes being moved; the first free node; nodes of the stripe's own share
    /// that were ever used; the spare, 0 for the one it began with and `none` while there is no spare.
    let words: UnsafeMutablePointer<UInt32>
    let number: UInt32

    @_noLocks @inline(__always)
    init(_ words: UnsafeMutablePointer<UInt32>, _ number: UInt32) {
        unsafe self.words = unsafe words
        self.number = number
    }

    static var none: UInt32 { @_noLocks get { .max } }

    var coming: UInt32 {
        @_noLocks get { unsafe cruntime_load32(words + 1) }
        @_noLocks nonmutating set { unsafe cruntime_store32(words + 1, newValue) }
    }

    var going: UInt32 {
        @_noLocks get { unsafe cruntime_load32(words + 2) }
        @_noLocks nonmutating set { unsafe cruntime_store32(words + 2, newValue) }
    }

    var free: UInt32 {
        @_noLocks get { unsafe cruntime_load32(words + 3) }
        @_noLocks nonmutating set { unsafe cruntime_store32(words + 3, newValue) }
    }

    var used: UInt32 {
        @_noLocks get { unsafe cruntime_load32(words + 4) }
        @_noLocks nonmutating set { unsafe cruntime_store32(words + 4, newValue) }
    }

    var spare: UInt32 {
        @_noLocks get { unsafe cruntime_load32(words + 5) }
        @_noLocks nonmutating set { unsafe cruntime_store32(words + 5, newValue) }
    }

    @_noLocks @inline(__always)
    func unlock() { unsafe OwnerLock.release(words) }
}

/// Stripes of a map with so many buckets, a power of two.
@_noLocks @inline(__always)
func stripeCount(_ buckets: UInt32) -> UInt32 { buckets < 64 ? buckets : 64 }

/// Where buckets begin in a hash map's private part.
@_noLocks @inline(__always)
func hashBucketsOffset(_ buckets: UInt32) -> UInt64 {
    MetaOffset.stripes &+ UInt64(stripeCount(buckets)) &* MetaSize.hashStripe
}

extension MapView {
    @_noLocks @inline(__always)
    func stripe(_ number: UInt32) -> HashStripe {
        unsafe HashStripe(word(MetaOffset.stripes &+ UInt64(number) &* MetaSize.hashStripe), number)
    }

    var stripes: UInt32 { @_noLocks get { unsafe stripeCount(descriptor.pointee.bucket_count) } }

    /// Takes the lock of a bucket's stripe; nil where a living thread held it throughout a long wait.
    @_noLocks @inline(__always)
    func lockStripe(_ bucket: UInt32, _ tid: UInt32) -> HashStripe? {
        let stripe = stripe(bucket & (stripes &- 1))
        guard unsafe OwnerLock.acquire(stripe.words, tid) else { return nil }
        if stripe.coming | stripe.going != 0 { repair(stripe) }
        return stripe
    }

    /// The same, where time does not count.
    @_noLocks @inline(never)
    func waitForStripe(_ bucket: UInt32, _ tid: UInt32) -> HashStripe? { lockStripe(bucket, tid) }

    /// Each stripe's share of the nodes.
    private var share: UInt32 {
        @_noLocks get { (maxEntries &+ stripes &- 1) / stripes }
    }

    /// The node that a stripe would use next of its share; past the last where all are used.
    @_noLocks
    private func unused(_ stripe: HashStripe) -> UInt32 {
        let (share, used) = (share, stripe.used)
        let node = UInt64(stripe.number) &* UInt64(share) &+ UInt64(used) &+ 1
        return used < share && node <= UInt64(maxEntries) ? UInt32(truncatingIfNeeded: node) : HashStripe.none
    }

    /// Whether a stripe seems to have a node to take; asked without its lock.
    @_noLocks
    func hasFreeNode(_ stripe: HashStripe) -> Bool {
        stripe.free != 0 || unused(stripe) != HashStripe.none
    }

    /// Takes a free node and notes it as coming; 0 where the stripe has none.
    @_noLocks @inline(__always)
    func takeNode(_ stripe: HashStripe) -> UInt32 {
        let node = stripe.free
        if unsafe node != 0 && node <= descriptor.pointee.node_count {
            stripe.coming = node
            stripe.free = unsafe nodeWords(node)[0]
            return node
        }
        return takeUnused(stripe)
    }

    @_noLocks @inline(never)
    private func takeUnused(_ stripe: HashStripe) -> UInt32 {
        // A number out of range is damage by a stray store: the list is given up, nothing is followed.
        if stripe.free != 0 { stripe.free = 0 }
        let node = unused(stripe)
        if node == HashStripe.none { return 0 }
        stripe.coming = node
        stripe.used = stripe.used &+ 1
        return node
    }

    /// Puts a node into the stripe's list; the caller has noted it.
    @_noLocks @inline(__always)
    func giveNode(_ node: UInt32, _ stripe: HashStripe) {
        let words = unsafe nodeWords(node)
        unsafe cruntime_store32(words + 1, 0)
        unsafe cruntime_store32(words, stripe.free)
        stripe.free = node
        if evicts, unsafe cruntime_load32(word(MetaOffset.full)) != 0 {
            unsafe cruntime_store32(word(MetaOffset.full), 0)
        }
    }

    /// The stripe's spare node, 0 for none.
    @_noLocks @inline(__always)
    func spareNode(_ stripe: HashStripe) -> UInt32 {
        let node = stripe.spare
        if node == 0 { return maxEntries &+ 1 &+ stripe.number }
        return unsafe node > descriptor.pointee.node_count ? 0 : node
    }

    // MARK: After a death

    /// Brings the nodes home that a dead holder noted: each is in its chain, free, the spare, or else nowhere.
    @_noLocks @inline(never)
    private func repair(_ stripe: HashStripe) {
        let (coming, going) = (stripe.coming, stripe.going)
        bringHome(coming, stripe)
        bringHome(going, stripe)
        stripe.coming = 0
        stripe.going = 0
    }

    @_noLocks
    private func bringHome(_ node: UInt32, _ stripe: HashStripe) {
        let limit = unsafe descriptor.pointee.node_count
        if node == 0 || node > limit || node == stripe.free || node == unused(stripe) { return }
        let hasSpare = !isPerCPU
        if hasSpare && node == spareNode(stripe) { return }
        // A node that is linked has its whole key.
        var at = unsafe cruntime_load32(bucketWords(bucket(nodeKey(node))))
        var steps: UInt32 = 0
        while at != 0 && at <= limit && steps <= limit {
            if at == node { return }
            at = unsafe cruntime_load32(nodeWords(at))
            steps &+= 1
        }
        if hasSpare, spareNode(stripe) == 0 {
            unsafe cruntime_store32(nodeWords(node) + 1, 0)
            stripe.spare = node
        } else {
            giveNode(node, stripe)
        }
    }
}
