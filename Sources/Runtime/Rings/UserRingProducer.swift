import CRuntime
import CSession

/// The producing end of a USER_RINGBUF, for any process that has the session's memory: the controller, above all.
///
/// Programs are the consumer, and another producer may be anybody: positions that make no sense cost the records that are in the
/// ring at that moment, and are counted. A record whose producer dies before it is submitted is skipped by whoever drains.
@safe
package struct UserRingProducer {
    package let map: MapView
    /// Times that the ring's positions made no sense and it was begun anew.
    package private(set) var damaged: UInt64 = 0
    private let tid: UInt32

    /// Nil for other maps.
    package init?(_ map: MapView) {
        guard map.isUserRing else { return nil }
        cruntime_find_namespace()
        self.map = map
        tid = cruntime_owner()
    }

    /// A record that nobody reads before `submit`.
    @safe
    package struct Reservation {
        package let bytes: UnsafeMutableRawBufferPointer
        fileprivate let header: UnsafeMutablePointer<UInt32>
    }

    /// Reserves a record; statuses are those of libbpf's `user_ring_buffer__reserve`: `E2BIG` for what can never fit, `ENOSPC` for a
    /// full ring, and `EBUSY` where another producer has not gone on for long.
    package mutating func reserve(_ size: Int) -> (status: Int64, record: Reservation?) {
        let ringSize = unsafe map.descriptor.pointee.ring_size
        guard size >= 0, size <= Int(RingHeader.lengthMask),
            case let total = alignUp(UInt64(size) + RingHeader.size, to: 8), total <= ringSize
        else { return (Failure.tooBig, nil) }
        let lock = unsafe map.word(MetaOffset.producerLock)
        guard unsafe OwnerLock.acquire(lock, tid) else { return (Failure.busy, nil) }
        defer { unsafe OwnerLock.release(lock) }
        var producer = unsafe cruntime_load64(map.quad(MetaOffset.producer))
        var consumer = unsafe cruntime_load64(map.quad(MetaOffset.consumer))
        if producer &- consumer > ringSize || (producer | consumer) & 7 != 0 {
            damaged += 1
            producer &= ~7
            consumer = producer
            unsafe cruntime_store64(map.quad(MetaOffset.taken), producer)
            unsafe cruntime_store64(map.quad(MetaOffset.consumer), producer)
        }
        guard total <= ringSize &- (producer &- consumer) else { return (Failure.noSpace, nil) }
        let header = unsafe map.record(producer)
        unsafe header[1] = tid
        unsafe cruntime_store32(header, UInt32(size) | RingHeader.busy)
        unsafe cruntime_store64(map.quad(MetaOffset.producer), producer &+ total)
        let bytes = unsafe UnsafeMutableRawBufferPointer(start: header + 2, count: size)
        return unsafe (0, Reservation(bytes: bytes, header: header))
    }

    /// Hands a record to the next drain; `discards`: it is skipped.
    package func submit(_ record: Reservation, discards: Bool = false) {
        let flags = discards ? RingHeader.discard : 0
        unsafe cruntime_store32(record.header, UInt32(record.bytes.count) | flags)
    }

    /// Produces a whole record; 0 or a negated errno value, as of `reserve`.
    package mutating func push(_ bytes: [UInt8]) -> Int64 {
        let (status, record) = reserve(bytes.count)
        guard let record else { return status }
        unsafe record.bytes.copyBytes(from: bytes)
        submit(record)
        return 0
    }
}
