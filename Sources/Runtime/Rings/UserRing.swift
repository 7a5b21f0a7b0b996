package import CRuntime
import CSession

/// USER_RINGBUF: user space produces, programs consume (Linux kernel/bpf/ringbuf.c, `bpf_user_ringbuf_drain`).
///
/// Positions, headers and data are memory that every process of the session can write: none of it is trusted to be more than
/// numbers. Records lie as in the other rings, so each is whole.
extension MapView {
    /// `BPF_MAP_TYPE_USER_RINGBUF`.
    package var isUserRing: Bool {
        @_noLocks get { unsafe descriptor.pointee.type == 31 }
    }

    /// Records that one drain looks at, at most (`BPF_MAX_USER_RINGBUF_SAMPLES`).
    private static var drainLimit: UInt32 { @_noLocks get { 128 << 10 } }

    /// How long somebody of another PID namespace may keep the others waiting, in nanoseconds: nobody knows whether he lives.
    private static var foreignPatience: UInt64 { @_noLocks get { 2_000_000_000 } }

    /// Whether nobody has to wait for `owner` any more: it is gone, or of another namespace and has stood still for long.
    ///
    /// `mark` is what stands, which the private part keeps at `note` with the time.
    @_noLocks
    private func hasLeft(_ owner: UInt32, _ mark: UInt64, _ note: UInt64) -> Bool {
        let state = cruntime_owner_state(owner)
        if state != 2 { return state == 1 }
        let now = cruntime_monotonic_ns()
        if unsafe cruntime_load64(quad(note)) != mark {
            unsafe cruntime_store64(quad(note &+ 8), now)
            unsafe cruntime_store64(quad(note), mark)
            return false
        }
        // Clocks of other time namespaces may be ahead.
        return unsafe Int64(bitPattern: now &- cruntime_load64(quad(note &+ 8))) > Int64(Self.foreignPatience)
    }

    /// The run becomes the ring's consumer until `endDrain`: 0, or a negated errno value.
    ///
    /// One run drains one ring at a time; the kernel allows others inside the callback.
    @_noLocks
    package func beginDrain(_ context: UnsafeMutablePointer<cruntime_context>, flags: UInt64) -> Int64 {
        // BPF_RB_NO_WAKEUP and BPF_RB_FORCE_WAKEUP: no producer sleeps.
        if flags & ~3 != 0 { return Failure.invalid }
        if unsafe context.pointee.drain != 0 { return Failure.busy }
        let lock = unsafe word(MetaOffset.ringLock)
        let tid = unsafe ownTid(context)
        if unsafe cruntime_cas32(lock, 0, tid) == 0 {
            // What this thread left behind, or a dead one.
            let owner = unsafe cruntime_load32(lock)
            if owner != tid,
                unsafe !hasLeft(owner, UInt64(owner), MetaOffset.drainSeen) || cruntime_cas32(lock, owner, tid) == 0
            {
                return Failure.busy
            }
        }
        unsafe cruntime_store64(quad(MetaOffset.drainSeen), 0)
        unsafe context.pointee.drain = UInt64(UInt(bitPattern: lock))
        unsafe context.pointee.effects |= UInt64(CRUNTIME_DRAINS.rawValue)
        return 0
    }

    /// Lets producers have the last record's place; where the next one begins.
    @_noLocks @discardableResult
    package func giveBackSample() -> UInt64 {
        let position = unsafe cruntime_load64(quad(MetaOffset.taken))
        unsafe cruntime_store64(quad(MetaOffset.consumer), position)
        return position
    }

    /// Gives the last record back and puts a dynptr of the next one at `place`.
    ///
    /// 1, 0 where there is none yet, or a negated errno value. `seen` counts what was looked at.
    @_noLocks
    package func nextSample(_ place: UnsafeMutableRawPointer, _ seen: inout UInt32) -> Int64 {
        let ringSize = unsafe descriptor.pointee.ring_size
        while true {
            let position = giveBackSample()
            let producer = unsafe cruntime_load64(quad(MetaOffset.producer))
            if producer & 7 != 0 { return Failure.invalid }
            if seen >= Self.drainLimit || position >= producer { return 0 }
            seen &+= 1
            let header = unsafe record(position)
            let word = unsafe cruntime_load32(header)
            let size = UInt64(word & RingHeader.lengthMask)
            let total = alignUp(size &+ RingHeader.size, to: 8)
            if total > producer &- position { return Failure.invalid }
            if total > ringSize || size > dynptrLimit { return Failure.tooBig }
            var skips = word & RingHeader.discard != 0
            if !skips, word & RingHeader.busy != 0 {
                // A producer that has died will not finish it.
                let owner = unsafe header[1]
                guard owner != 0, hasLeft(owner, position | 1, MetaOffset.recordSeen),
                    unsafe cruntime_load32(header) == word
                else { return 0 }
                skips = true
            }
            unsafe cruntime_store64(quad(MetaOffset.taken), position &+ total)
            if skips { continue }
            unsafe setDynptr(place, UInt64(UInt(bitPattern: header + 2)), size)
            return 1
        }
    }
}

/// The run is not the consumer of a ring any more; the record at hand counts as consumed.
@_noLocks @inline(never)
package func endDrain(_ context: UnsafeMutablePointer<cruntime_context>) {
    let address = unsafe context.pointee.drain
    unsafe context.pointee.drain = 0
    unsafe context.pointee.effects &= ~UInt64(CRUNTIME_DRAINS.rawValue)
    unsafe releaseWord(context, address)
}
