import CRuntime
import CSession
import ISA

/// ARRAY_OF_MAPS and HASH_OF_MAPS: their values are the ids of maps of the session, a map's id being its number plus 1.
///
/// Ids lie outside the guest area. Programs get a handle instead, and only where the map is of the shape that the verifier
/// was shown, so whatever stands in the memory, nobody comes by a map of another one.
extension MapView {
    /// Its values are maps.
    package var holdsMaps: Bool {
        // BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS
        @_noLocks get { unsafe descriptor.pointee.type == 12 || descriptor.pointee.type == 13 }
    }

    /// What other maps of maps know this map by.
    package var id: UInt32 { UInt32(index) + 1 }

    /// 0 where `value` is the id of a map that may be inside; as the kernel answers for a bad descriptor, and for a map that
    /// differs from the template (kernel/bpf/map_in_map.c, `bpf_map_fd_get_ptr`).
    @_noLocks
    func innerStatus(_ value: UnsafeRawPointer) -> Int64 {
        let id = unsafe arrayIndex(value)
        guard id != 0, id <= (unsafe session.header.pointee.map_count) else { return Failure.badDescriptor }
        return isInner(id) ? 0 : Failure.invalid
    }

    /// Whether `id` is that of a map of the shape of those inside.
    @_noLocks
    private func isInner(_ id: UInt32) -> Bool {
        guard id != 0, id <= (unsafe session.header.pointee.map_count) else { return false }
        return unsafe session.map(Int(id &- 1)).pointee.shape == descriptor.pointee.inner_shape
    }

    /// The handle that a program gets for a value; 0 where there is no such map.
    @_noLocks
    func innerHandle(_ value: UnsafeRawPointer) -> UInt64 {
        let id = unsafe arrayIndex(value)
        return isInner(id) ? MapHandle.make(Int(id &- 1)) : 0
    }

    /// ARRAY_OF_MAPS: where the id at `key` lies; nil where there is none.
    @_noLocks
    func mapEntry(_ key: UnsafeRawPointer) -> UnsafeMutableRawPointer? {
        let index = unsafe arrayIndex(key)
        guard index < maxEntries, unsafe cruntime_load32(programEntry(index)) != 0 else { return nil }
        return unsafe UnsafeMutableRawPointer(programEntry(index))
    }

    /// kernel/bpf/arraymap.c, `bpf_fd_array_map_update_elem`.
    @_noLocks
    func mapEntryUpdate(_ key: UnsafeRawPointer, _ value: UnsafeRawPointer, flags: UInt64) -> Int64 {
        if flags != UpdateFlag.any { return Failure.invalid }
        let index = unsafe arrayIndex(key)
        if index >= maxEntries { return Failure.tooBig }
        let status = unsafe innerStatus(value)
        if status == 0 { unsafe cruntime_store32(programEntry(index), arrayIndex(value)) }
        return status
    }
}
