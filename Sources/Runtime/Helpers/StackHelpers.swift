import CRuntime
import CSession

/// `long bpf_get_stackid(ctx, map, flags)`; kernel/bpf/stackmap.c, `bpf_get_stackid`.
@_noLocks
func getStackID(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64, _ flags: UInt64) -> Int64 {
    guard let map = unsafe guestMap(context, handle, type: 7) else { return 0 }
    if flags & ~(StackFlag.skipMask | StackFlag.user | StackFlag.fastCompare | StackFlag.reuse) != 0 {
        return Failure.invalid
    }
    // A kernel stack was asked for; there is none here.
    if flags & StackFlag.user == 0 { return Failure.fault }
    let skip = Int(flags & StackFlag.skipMask)
    let capacity = framesToWalk(map.valueSize / 8, skip)
    guard let memo = unsafe StackMemo(context), let regs = unsafe context.pointee.regs,
        unsafe memo.followModules(context)
    else { return unsafe getNewStackID(context, map, capacity, skip, flags) }
    let owner = unsafe UInt64(UInt(bitPattern: map.meta(0)))
    let epoch = unsafe memo.header.pointee.epoch
    let key = unsafe StackKey(context, regs, epoch: epoch, owner: owner, capacity: capacity, flags: flags)
    guard let entry = unsafe memo.find(key) else {
        unsafe memo.countMiss(context)
        return unsafe getNewStackID(context, map, capacity, skip, flags, memo, key)
    }
    unsafe memo.countHit(context, entry, capacity)
    let record = unsafe memo.record(entry.pointee.position)
    if unsafe cruntime_load64(map.stackBucket(record.pointee.bucket)) == record.pointee.bucketWord {
        return unsafe Int64(entry.pointee.result)
    }
    return unsafe storeAgain(map, memo, entry, skip, flags)
}

/// `long bpf_get_stack(ctx, buf, size, flags)`; kernel/bpf/stackmap.c, `__bpf_get_stack`.
@_noLocks
func getStack(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ address: UInt64,
    _ length: UInt64,
    _ flags: UInt64
) -> Int64 {
    let size = length & 0xffff_ffff
    guard let to = unsafe writableBytes(context, address, size) else { return 0 }
    let isSupported = flags & ~(StackFlag.skipMask | StackFlag.user) == 0 && size % 8 == 0
    let skip = Int(flags & StackFlag.skipMask)
    var buffer = cruntime_frames()
    let frames = unsafe cruntime_frames_start(&buffer)
    var count = 0
    if isSupported, flags & StackFlag.user != 0 {
        count = unsafe collectFrames(context, into: frames, capacity: framesToWalk(size / 8, skip))
    }
    guard count > skip else {
        unsafe cruntime_zero(to, size)
        return isSupported ? Failure.fault : Failure.invalid
    }
    let bytes = UInt64(count &- skip) &* 8
    unsafe cruntime_copy(to, frames + skip, bytes)
    unsafe cruntime_zero(to.advanced(by: Int(bytes)), size &- bytes)
    return Int64(bytes)
}

/// Frames to walk for `wanted` of them after the first `skip`.
@_noLocks @inline(__always)
private func framesToWalk(_ wanted: UInt64, _ skip: Int) -> Int {
    let depth = Int(wanted) &+ skip
    return depth < stackDepthLimit ? depth : stackDepthLimit
}

/// The id of a stack that the memo does not have.
@_noLocks @inline(never)
private func getNewStackID(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ map: MapView,
    _ capacity: Int,
    _ skip: Int,
    _ flags: UInt64,
    _ memo: StackMemo? = nil,
    _ key: StackKey? = nil
) -> Int64 {
    var buffer = cruntime_frames()
    let frames = unsafe cruntime_frames_start(&buffer)
    guard let memo, let key else {
        unsafe dropUntrackedRows(context)
        let count = unsafe walkStack(context, into: frames, capacity: capacity)
        return count <= skip
            ? Failure.fault : unsafe map.stackStore(UnsafePointer(frames + skip), count: count &- skip, flags: flags)
    }
    let position = memo.reserve()
    let count = unsafe memo.walk(context, at: position, into: frames, capacity: capacity)
    if count <= skip { return Failure.fault }
    var place = StackPlace()
    let result = unsafe map.stackStore(UnsafePointer(frames + skip), count: count &- skip, flags: flags, &place)
    memo.keep(key, at: position, place, result)
    return result
}

/// The id of a remembered stack whose bucket has changed: somebody deleted it, or another stack took its place.
@_noLocks @inline(never)
private func storeAgain(
    _ map: MapView,
    _ memo: StackMemo,
    _ entry: UnsafeMutablePointer<StackEntry>,
    _ skip: Int,
    _ flags: UInt64
) -> Int64 {
    var buffer = cruntime_frames()
    let frames = unsafe cruntime_frames_start(&buffer)
    let count = unsafe memo.copyFrames(entry, into: frames)
    var place = StackPlace()
    let result = unsafe map.stackStore(UnsafePointer(frames + skip), count: count &- skip, flags: flags, &place)
    // Half of the change must not be seen.
    let tag = unsafe entry.pointee.tag
    unsafe entry.pointee.tag = 0
    cruntime_barrier()
    unsafe entry.pointee.result = Int32(truncatingIfNeeded: result)
    unsafe memo.record(entry.pointee.position).pointee.bucketWord = place.word
    cruntime_barrier()
    unsafe entry.pointee.tag = tag
    return result
}

/// The frames of the present stack, from the memo where it has them; how many.
@_noLocks
func collectFrames(
    _ context: UnsafeMutablePointer<cruntime_context>,
    into frames: UnsafeMutablePointer<UInt64>,
    capacity: Int
) -> Int {
    guard let memo = unsafe StackMemo(context), let regs = unsafe context.pointee.regs,
        unsafe memo.followModules(context)
    else {
        unsafe dropUntrackedRows(context)
        return unsafe walkStack(context, into: frames, capacity: capacity)
    }
    let epoch = unsafe memo.header.pointee.epoch
    let key = unsafe StackKey(context, regs, epoch: epoch, owner: 0, capacity: capacity, flags: 0)
    if let entry = unsafe memo.find(key) {
        unsafe memo.countHit(context, entry, capacity)
        return unsafe memo.copyFrames(entry, into: frames)
    }
    unsafe memo.countMiss(context)
    let position = memo.reserve()
    let count = unsafe memo.walk(context, at: position, into: frames, capacity: capacity)
    if count > 0 { memo.keep(key, at: position, StackPlace(), 0) }
    return count
}

/// Where the loader's changes cannot be followed, rows cannot be kept.
@_noLocks
private func dropUntrackedRows(_ context: UnsafeMutablePointer<cruntime_context>) {
    if unsafe context.pointee.memo != nil { unsafe context.pointee.rows = nil }
}
