import CRuntime
import CSession

/// `long bpf_ringbuf_output(ringbuf, data, size, flags)`.
@_noLocks
func ringBufferOutput(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ handle: UInt64,
    _ data: UInt64,
    _ size: UInt64,
    _ flags: UInt64
) -> Int64 {
    guard let map = unsafe guestMap(context, handle, type: 27), let bytes = unsafe readableBytes(context, data, size)
    else {
        return 0
    }
    // BPF_RB_NO_WAKEUP and BPF_RB_FORCE_WAKEUP: the consumer polls.
    if flags & ~3 != 0 { return Failure.invalid }
    // The kernel answers EAGAIN (11) for a full ring.
    return unsafe map.ringOutput(bytes, size, tid: ownTid(context)) ? 0 : -11
}

/// `void *bpf_ringbuf_reserve(ringbuf, size, flags)`.
@_noLocks
func ringBufferReserve(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ handle: UInt64,
    _ size: UInt64,
    _ flags: UInt64
) -> Int64 {
    guard let map = unsafe guestMap(context, handle, type: 27) else { return 0 }
    return flags != 0 ? 0 : unsafe reserveRecord(context, map, size)
}

/// Reserves a record for this run; its address, or 0 where there is no room.
@_noLocks
func reserveRecord(_ context: UnsafeMutablePointer<cruntime_context>, _ map: MapView, _ size: UInt64) -> Int64 {
    let table = unsafe reservations(context)
    var index = 0
    while index < Int(CRUNTIME_RESERVATIONS), unsafe table[index].address != 0 { index &+= 1 }
    // More records at once than a run can hold: as if the ring were full.
    guard index < Int(CRUNTIME_RESERVATIONS), let data = unsafe map.ringReserve(size, tid: ownTid(context)) else {
        return 0
    }
    unsafe table[index].address = UInt64(UInt(bitPattern: data))
    unsafe table[index].size = UInt32(truncatingIfNeeded: size)
    unsafe table[index].map = UInt32(map.index)
    return Int64(Int(bitPattern: data))
}

/// `void bpf_ringbuf_submit(data, flags)` and `void bpf_ringbuf_discard(data, flags)`.
///
/// Only what this run has reserved is taken back, with the size it was reserved with.
@_noLocks
func ringBufferFinish(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ data: UInt64,
    _ flags: UInt64,
    discards: Bool
) -> Int64 {
    let table = unsafe reservations(context)
    var index = 0
    while index < Int(CRUNTIME_RESERVATIONS) {
        if data != 0, unsafe table[index].address == data {
            unsafe finishReservation(context, index, discards: discards)
            return 0
        }
        index &+= 1
    }
    return unsafe trap(context, .badArgument, data)
}

/// `u64 bpf_ringbuf_query(ringbuf, flags)`.
@_noLocks
func ringBufferQuery(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64, _ what: UInt64) -> Int64 {
    guard let map = unsafe guestMap(context, handle, type: 27) else { return 0 }
    return Int64(bitPattern: map.ringQuery(what))
}

/// `long bpf_perf_event_output(ctx, map, flags, data, size)`; kernel/trace/bpf_trace.c.
///
/// One ring stands for all CPUs; a record is the CPU, the data's size, and the data.
@_noLocks
func perfEventOutput(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ handle: UInt64,
    _ flags: UInt64,
    _ data: UInt64,
    _ size: UInt64
) -> Int64 {
    guard let map = unsafe guestMap(context, handle, type: 4),
        let bytes = unsafe readableBytes(context, data, size)
    else { return 0 }
    // BPF_F_INDEX_MASK; all ones are BPF_F_CURRENT_CPU.
    if flags & ~0xffff_ffff != 0 { return Failure.invalid }
    let index = flags == 0xffff_ffff ? UInt64(cruntime_cpu()) : flags
    if index >= UInt64(map.maxEntries) { return Failure.tooBig }
    guard let record = unsafe map.ringReserve(size &+ 8, tid: ownTid(context)) else { return Failure.noSpace }
    let header = unsafe record.assumingMemoryBound(to: UInt32.self)
    unsafe header[0] = UInt32(truncatingIfNeeded: index)
    unsafe header[1] = UInt32(truncatingIfNeeded: size)
    unsafe cruntime_copy(record.advanced(by: 8), bytes, size)
    unsafe map.ringCommit(record, size: size &+ 8, discards: false)
    return 0
}
