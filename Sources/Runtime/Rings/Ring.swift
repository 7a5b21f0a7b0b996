package import CRuntime
import CSession

/// A ring's record header, 8 bytes before the data: length and flags, then the tid of who reserved it.
enum RingHeader {
    static var size: UInt64 { @_noLocks get { 8 } }
    /// `BPF_RINGBUF_BUSY_BIT`: reserved, not yet submitted.
    static var busy: UInt32 { @_noLocks get { 1 << 31 } }
    /// `BPF_RINGBUF_DISCARD_BIT`: to be skipped.
    static var discard: UInt32 { @_noLocks get { 1 << 30 } }
    static var lengthMask: UInt32 { @_noLocks get { (1 << 30) &- 1 } }
}

/// Producing into RINGBUF maps, and the rings behind PERF_EVENT_ARRAY and the log.
///
/// The data area is twice the ring's size, and a record starts at its position modulo the size: one that begins before the
/// end simply runs on into the second half, where nothing else can be while it is in the ring. So records are whole,
/// there is no padding, and as many bytes fit as in the kernel's doubly mapped ring.
extension MapView {
    @_noLocks @inline(__always)
    func record(_ position: UInt64) -> UnsafeMutablePointer<UInt32> {
        let mask = unsafe descriptor.pointee.ring_size &- 1
        return unsafe values(position & mask).assumingMemoryBound(to: UInt32.self)
    }

    /// Reserves a record; its data, or nil where the ring is full or the size impossible (counted as dropped).
    @_noLocks
    func ringReserve(_ size: UInt64, tid: UInt32) -> UnsafeMutableRawPointer? {
        let ringSize = unsafe descriptor.pointee.ring_size
        // kernel/bpf/ringbuf.c: RINGBUF_MAX_RECORD_SZ
        guard size <= UInt64(UInt32.max / 4), alignUp(size &+ RingHeader.size, to: 8) <= ringSize else {
            unsafe _ = cruntime_add64(quad(MetaOffset.dropped), 1)
            return nil
        }
        let total = alignUp(size &+ RingHeader.size, to: 8)
        let lock = unsafe word(MetaOffset.ringLock)
        guard unsafe OwnerLock.acquire(lock, tid) else {
            unsafe _ = cruntime_add64(quad(MetaOffset.dropped), 1)
            return nil
        }
        let producer = unsafe cruntime_load64(quad(MetaOffset.producer))
        let consumer = unsafe cruntime_load64(quad(MetaOffset.consumer))
        guard producer &+ total &- consumer <= ringSize &- 1 else {
            unsafe OwnerLock.release(lock)
            unsafe _ = cruntime_add64(quad(MetaOffset.dropped), 1)
            return nil
        }
        let header = unsafe record(producer)
        unsafe header[1] = tid
        unsafe cruntime_store32(header, UInt32(size) | RingHeader.busy)
        // Before this store the record does not exist; after it, its header is whole.
        unsafe cruntime_store64(quad(MetaOffset.producer), producer &+ total)
        unsafe OwnerLock.release(lock)
        return unsafe UnsafeMutableRawPointer(header + 2)
    }

    /// Ends a reservation of `size` bytes at `data`.
    @_noLocks
    func ringCommit(_ data: UnsafeMutableRawPointer, size: UInt64, discards: Bool) {
        let header = unsafe data.assumingMemoryBound(to: UInt32.self) - 2
        unsafe cruntime_store32(header, UInt32(size) | (discards ? RingHeader.discard : 0))
    }

    /// Copies a whole record into the ring; false where it is full.
    @_noLocks
    func ringOutput(_ bytes: UnsafeRawPointer, _ size: UInt64, tid: UInt32) -> Bool {
        guard let data = unsafe ringReserve(size, tid: tid) else { return false }
        unsafe cruntime_copy(data, bytes, size)
        unsafe ringCommit(data, size: size, discards: false)
        return true
    }

    /// `bpf_ringbuf_query`.
    @_noLocks
    func ringQuery(_ what: UInt64) -> UInt64 {
        let producer = unsafe cruntime_load64(quad(MetaOffset.producer))
        let consumer = unsafe cruntime_load64(quad(MetaOffset.consumer))
        switch what {
        case 0: return producer &- consumer
        case 1: return unsafe descriptor.pointee.ring_size
        case 2: return consumer
        case 3: return producer
        default: return 0
        }
    }

    /// Records that found no room, so far; 0 for other maps.
    package var droppedRecords: UInt64 {
        @_noLocks get { unsafe cruntime_load64(quad(MetaOffset.dropped)) }
    }
}

/// Gives back what a run that ends still holds: ring reservations, which are discarded, its lock and its per-CPU slot.
@_noLocks
package func endRun(_ context: UnsafeMutablePointer<cruntime_context>) {
    let reservations = unsafe reservations(context)
    var index = 0
    while index < Int(CRUNTIME_RESERVATIONS) {
        if unsafe reservations[index].address != 0 { unsafe finishReservation(context, index, discards: true) }
        index &+= 1
    }
    unsafe releaseCPUSlot(context)
    if unsafe context.pointee.effects != 0 { unsafe endLock(context) }
}

/// The context's table of reservations.
@_noLocks
func reservations(
    _ context: UnsafeMutablePointer<cruntime_context>
) -> UnsafeMutablePointer<cruntime_reservation> {
    unsafe cruntime_reservations(context)
}

/// Submits or discards reservation `index` of the context.
@_noLocks
func finishReservation(_ context: UnsafeMutablePointer<cruntime_context>, _ index: Int, discards: Bool) {
    let entry = unsafe reservations(context) + index
    let size = unsafe UInt64(entry.pointee.size)
    if let data = unsafe UnsafeMutableRawPointer(bitPattern: UInt(entry.pointee.address)) {
        let header = unsafe data.assumingMemoryBound(to: UInt32.self) - 2
        unsafe cruntime_store32(header, UInt32(size) | (discards ? RingHeader.discard : 0))
    }
    unsafe entry.pointee.address = 0
}
