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
