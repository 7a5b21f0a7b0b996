import CRuntime

/// A lock-free stack of free nodes in shared memory, numbered from 1; 0 means none.
///
/// Nodes that were never used come from a counter, so a fresh pool needs no initialisation. The head carries a tag that
/// changes with every operation: a node that left and came back in between is noticed.
@safe
struct NodePool {
    let head: UnsafeMutablePointer<UInt64>
    let fresh: UnsafeMutablePointer<UInt32>
    /// Where node 1's link to the next free one lies.
    let links: UnsafeMutableRawPointer
    let stride: Int
    let capacity: UInt32

    @_noLocks
    init(
        head: UnsafeMutablePointer<UInt64>,
        fresh: UnsafeMutablePointer<UInt32>,
        links: UnsafeMutableRawPointer,
        stride: UInt64,
        capacity: UInt32
    ) {
        unsafe self.head = unsafe head
        unsafe self.fresh = unsafe fresh
        unsafe self.links = unsafe links
        self.stride = Int(stride)
        self.capacity = capacity
    }

    @_noLocks @inline(__always)
    private func link(_ node: UInt32) -> UnsafeMutablePointer<UInt32> {
        unsafe links.advanced(by: Int(node &- 1) &* stride).assumingMemoryBound(to: UInt32.self)
    }

    @_noLocks
    func pop() -> UInt32 {
        while true {
            let old = unsafe cruntime_load64(head)
            let node = UInt32(truncatingIfNeeded: old)
            // A number out of range is damage by a stray store: the rest of the list is given up, nothing is followed.
            if node == 0 || node > capacity { return takeFresh() }
            let next = UInt64(unsafe cruntime_load32(link(node)))
            let tag = ((old >> 32) &+ 1) << 32
            if unsafe cruntime_cas64(head, old, tag | next) != 0 { return node }
            cruntime_pause()
        }
    }

    @_noLocks
    func push(_ node: UInt32) {
        while true {
            let old = unsafe cruntime_load64(head)
            unsafe cruntime_store32(link(node), UInt32(truncatingIfNeeded: old))
            let tag = ((old >> 32) &+ 1) << 32
            if unsafe cruntime_cas64(head, old, tag | UInt64(node)) != 0 { return }
            cruntime_pause()
        }
    }

    @_noLocks
    private func takeFresh() -> UInt32 {
        while true {
            let used = unsafe cruntime_load32(fresh)
            if used >= capacity { return 0 }
            if unsafe cruntime_cas32(fresh, used, used &+ 1) != 0 { return used &+ 1 }
            cruntime_pause()
        }
    }
}
