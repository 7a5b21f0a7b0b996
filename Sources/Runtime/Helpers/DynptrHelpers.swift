import CRuntime

// Dynptrs (Linux kernel/bpf/helpers.c, `struct bpf_dynptr_kern`): sixteen bytes of the program's stack, the address of the data
// and its size. A verifier keeps programs from changing them; nothing here relies on that.

/// The largest size of a dynptr (`DYNPTR_MAX_SIZE`).
var dynptrLimit: UInt64 { @_noLocks get { (1 << 24) &- 1 } }

@_noLocks
func setDynptr(_ place: UnsafeMutableRawPointer, _ data: UInt64, _ size: UInt64) {
    unsafe place.storeBytes(of: data, as: UInt64.self)
    unsafe place.storeBytes(of: size, toByteOffset: 8, as: UInt64.self)
}

/// The address of `length` bytes at `offset` of a dynptr's data, or a negated errno value; 0 with a trap raised.
@_noLocks
private func dynptrBytes(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ dynptr: UInt64,
    _ offset: UInt64,
    _ length: UInt64
) -> Int64 {
    guard let place = unsafe readableBytes(context, dynptr, 16) else { return 0 }
    let data = unsafe cruntime_peek64(place)
    let size = unsafe cruntime_peek64(place.advanced(by: 8)) & dynptrLimit
    if data == 0 { return Failure.invalid }
    let offset = offset & 0xffff_ffff
    let length = length & 0xffff_ffff
    if length > size || offset > size &- length { return Failure.tooBig }
    guard unsafe writableBytes(context, data &+ offset, length) != nil else { return 0 }
    return Int64(bitPattern: data &+ offset)
}

/// `long bpf_dynptr_from_mem(void *data, u32 size, u64 flags, struct bpf_dynptr *ptr)`.
@_noLocks
func dynptrFromMemory(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ data: UInt64,
    _ length: UInt64,
    _ flags: UInt64,
    _ dynptr: UInt64
) -> Int64 {
    let size = length & 0xffff_ffff
    guard let place = unsafe writableBytes(context, dynptr, 16) else { return 0 }
    if size > dynptrLimit || flags != 0 {
        unsafe setDynptr(place, 0, 0)
        return size > dynptrLimit ? Failure.tooBig : Failure.invalid
    }
    guard unsafe writableBytes(context, data, size) != nil else { return 0 }
    unsafe setDynptr(place, data, size)
    return 0
}

/// `long bpf_dynptr_read(void *dst, u32 len, const struct bpf_dynptr *src, u32 offset, u64 flags)`.
@_noLocks
func dynptrRead(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ destination: UInt64,
    _ length: UInt64,
    _ dynptr: UInt64,
    _ offset: UInt64,
    _ flags: UInt64
) -> Int64 {
    if flags != 0 { return Failure.invalid }
    guard let to = unsafe writableBytes(context, destination, length & 0xffff_ffff) else { return 0 }
    let found = unsafe dynptrBytes(context, dynptr, offset, length)
    guard found > 0, let from = unsafe UnsafeRawPointer(bitPattern: Int(found)) else { return found }
    unsafe cruntime_move(to, from, length & 0xffff_ffff)
    return 0
}

/// `long bpf_dynptr_write(const struct bpf_dynptr *dst, u32 offset, void *src, u32 len, u64 flags)`.
@_noLocks
func dynptrWrite(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ dynptr: UInt64,
    _ offset: UInt64,
    _ source: UInt64,
    _ length: UInt64,
    _ flags: UInt64
) -> Int64 {
    guard let from = unsafe readableBytes(context, source, length & 0xffff_ffff) else { return 0 }
    let found = unsafe dynptrBytes(context, dynptr, offset, length)
    guard found > 0, let to = unsafe UnsafeMutableRawPointer(bitPattern: Int(found)) else { return found }
    if flags != 0 { return Failure.invalid }
    unsafe cruntime_move(to, from, length & 0xffff_ffff)
    return 0
}

/// `void *bpf_dynptr_data(const struct bpf_dynptr *ptr, u32 offset, u32 len)`.
@_noLocks
func dynptrData(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ dynptr: UInt64,
    _ offset: UInt64,
    _ length: UInt64
) -> Int64 {
    let found = unsafe dynptrBytes(context, dynptr, offset, length)
    return found < 0 ? 0 : found
}

/// `long bpf_ringbuf_reserve_dynptr(void *ringbuf, u32 size, u64 flags, struct bpf_dynptr *ptr)`.
@_noLocks
func ringBufferReserveDynptr(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ handle: UInt64,
    _ length: UInt64,
    _ flags: UInt64,
    _ dynptr: UInt64
) -> Int64 {
    guard let map = unsafe guestMap(context, handle, type: 27), let place = unsafe writableBytes(context, dynptr, 16)
    else {
        return 0
    }
    unsafe setDynptr(place, 0, 0)
    let size = length & 0xffff_ffff
    if flags != 0 { return Failure.invalid }
    if size > dynptrLimit { return Failure.tooBig }
    let record = unsafe reserveRecord(context, map, size)
    if record == 0 { return Failure.invalid }
    unsafe setDynptr(place, UInt64(bitPattern: record), size)
    return 0
}

/// `void bpf_ringbuf_submit_dynptr(struct bpf_dynptr *ptr, u64 flags)` and `bpf_ringbuf_discard_dynptr`.
@_noLocks
func ringBufferFinishDynptr(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ dynptr: UInt64,
    _ flags: UInt64,
    discards: Bool
) -> Int64 {
    guard let place = unsafe writableBytes(context, dynptr, 16) else { return 0 }
    let data = unsafe cruntime_peek64(place)
    // The reservation failed.
    if data == 0 { return 0 }
    unsafe setDynptr(place, 0, 0)
    return unsafe ringBufferFinish(context, data, flags, discards: discards)
}
