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

/// `BPF_F_RDONLY_PROG`: a verifier refuses programs that change such a map.
@_noLocks @inline(__always)
private func isReadOnlyToPrograms(_ map: MapView) -> Bool {
    unsafe map.descriptor.pointee.flags & MapFlag.readOnlyProgram != 0
}

/// `void *bpf_map_lookup_elem(map, key)`; in a map of maps it finds a map's handle.
@_noLocks
func mapLookup(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64, _ key: UInt64) -> Int64 {
    guard let map = unsafe guestMap(context, handle) else { return 0 }
    if !map.hasElements { return unsafe innerLookup(context, map, key) }
    guard let key = unsafe readable(context, key, map.keySize)
    else { return 0 }
    guard let value = unsafe map.lookup(key, slot: slot(context, for: map)) else { return 0 }
    return Int64(Int(bitPattern: value))
}

@_noLocks @inline(never)
private func innerLookup(_ context: UnsafeMutablePointer<cruntime_context>, _ map: MapView, _ key: UInt64) -> Int64 {
    guard map.holdsMaps else { return unsafe trap(context, .wrongMapType, UInt64(map.index)) }
    guard let key = unsafe readable(context, key, map.keySize), let value = unsafe map.lookup(key, slot: 0) else {
        return 0
    }
    return unsafe Int64(bitPattern: map.innerHandle(value))
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
    if isReadOnlyToPrograms(map) { return Failure.notPermitted }
    return unsafe map.update(key, value, flags: flags, tid: ownTid(context), slot: slot(context, for: map))
}

/// `long bpf_map_delete_elem(map, key)`.
@_noLocks
func mapDelete(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64, _ key: UInt64) -> Int64 {
    guard let map = unsafe elementMap(context, handle),
        let key = unsafe readable(context, key, map.keySize)
    else { return 0 }
    if isReadOnlyToPrograms(map) { return Failure.notPermitted }
    return unsafe map.delete(key, tid: ownTid(context))
}

/// `void *bpf_map_lookup_percpu_elem(map, key, cpu)`.
@_noLocks
func mapLookupSlot(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ handle: UInt64,
    _ key: UInt64,
    _ cpu: UInt64
) -> Int64 {
    guard let map = unsafe elementMap(context, handle) else { return 0 }
    guard map.isPerCPU else { return unsafe trap(context, .wrongMapType, UInt64(map.index)) }
    let cpu = UInt32(truncatingIfNeeded: cpu)
    guard let key = unsafe readable(context, key, map.keySize), cpu < UInt32(map.session.cpuCount),
        let value = unsafe map.lookup(key, slot: Int(cpu))
    else { return 0 }
    return Int64(Int(bitPattern: value))
}

/// A map of values without keys; nil, with a trap raised, for other maps.
@_noLocks
private func valueMap(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64) -> MapView? {
    guard let map = unsafe guestMap(context, handle) else { return nil }
    guard map.hasValues else {
        unsafe raiseTrap(context, .wrongMapType, value: UInt64(map.index))
        return nil
    }
    return map
}

/// `long bpf_map_push_elem(map, value, flags)`.
@_noLocks
func mapPush(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ handle: UInt64,
    _ value: UInt64,
    _ flags: UInt64
) -> Int64 {
    guard let map = unsafe valueMap(context, handle), let value = unsafe readableBytes(context, value, map.valueSize)
    else {
        return 0
    }
    if isReadOnlyToPrograms(map) { return Failure.notPermitted }
    return unsafe map.push(value, flags: flags, tid: ownTid(context))
}

/// `long bpf_map_pop_elem(map, value)`, `long bpf_map_peek_elem(map, value)`.
@_noLocks
func mapTake(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ handle: UInt64,
    _ value: UInt64,
    removes: Bool
) -> Int64 {
    guard let map = unsafe valueMap(context, handle), let value = unsafe writableBytes(context, value, map.valueSize)
    else {
        return 0
    }
    if removes {
        if isReadOnlyToPrograms(map) { return Failure.notPermitted }
        return unsafe map.pop(value, tid: ownTid(context))
    }
    return unsafe map.peek(value, tid: ownTid(context))
}
