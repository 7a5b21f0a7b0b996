import CRuntime
import CSession

/// A map with elements; nil, with a trap raised, for other maps.
@_noLocks @inline(__always)
private func elementMap(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64) -> MapView? {
    guard let map = unsafe guestMap(context, handle) else { return nil }
    guard map.hasElements else {
        unsafe raiseTrap(context, .wrongMapType, value: UInt64(map.index))
        return nil
    }
    return map
}

/// `void *bpf_map_lookup_elem(map, key)`.
@_noLocks
func mapLookup(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64, _ key: UInt64) -> Int64 {
    guard let map = unsafe elementMap(context, handle),
        let key = unsafe readable(context, key, map.keySize)
    else { return 0 }
    guard let value = unsafe map.lookup(key, slot: slot(context, for: map)) else { return 0 }
    return Int64(Int(bitPattern: value))
}

/// `long bpf_map_update_elem(map, key, value, flags)`.
@_noLocks
func mapUpdate(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ handle: UInt64,
    _ key: UInt64,
    _ value: UInt64,
    _ flags: UInt64
) -> Int64 {
    guard let map = unsafe elementMap(context, handle),
        let key = unsafe readable(context, key, map.keySize),
        let value = unsafe readable(context, value, map.valueSize)
    else { return 0 }
    // BPF_F_RDONLY_PROG: the kernel's verifier refuses such a program.
    if unsafe map.descriptor.pointee.flags & MapFlag.readOnlyProgram != 0 { return Failure.notPermitted }
    return unsafe map.update(key, value, flags: flags, tid: ownTid(context), slot: slot(context, for: map))
}

/// `long bpf_map_delete_elem(map, key)`.
@_noLocks
func mapDelete(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64, _ key: UInt64) -> Int64 {
    guard let map = unsafe elementMap(context, handle),
        let key = unsafe readable(context, key, map.keySize)
    else { return 0 }
    return unsafe map.delete(key, tid: ownTid(context))
}

/// `long bpf_get_stackid(ctx, map, flags)`; kernel/bpf/stackmap.c, `bpf_get_stackid`.
@_noLocks
func getStackID(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64, _ flags: UInt64) -> Int64 {
    guard let map = unsafe guestMap(context, handle, .stackTrace) else { return 0 }
    if flags & ~(StackFlag.skipMask | StackFlag.user | StackFlag.fastCompare | StackFlag.reuse) != 0 {
        return Failure.invalid
    }
    // A kernel stack was asked for; there is none here.
    if flags & StackFlag.user == 0 { return Failure.fault }
    var buffer = cruntime_frames()
    let frames = unsafe cruntime_frames_start(&buffer)
    let skip = Int(flags & StackFlag.skipMask)
    let depth = Int(map.valueSize / 8) &+ skip
    let count = unsafe walkStack(context, into: frames, capacity: depth < stackDepthLimit ? depth : stackDepthLimit)
    if count <= skip { return Failure.fault }
    return unsafe map.stackStore(UnsafePointer(frames + skip), count: count &- skip, flags: flags)
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
    guard let to = unsafe writable(context, address, size) else { return 0 }
    let isSupported = flags & ~(StackFlag.skipMask | StackFlag.user) == 0 && size % 8 == 0
    let skip = Int(flags & StackFlag.skipMask)
    var buffer = cruntime_frames()
    let frames = unsafe cruntime_frames_start(&buffer)
    var count = 0
    if isSupported, flags & StackFlag.user != 0 {
        let depth = Int(size / 8) &+ skip
        count = unsafe walkStack(context, into: frames, capacity: depth < stackDepthLimit ? depth : stackDepthLimit)
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
