import CRuntime
import CSession

// The control group that the process was in when it was attached to, with those around it; a forked child has its parent's. The kernel
// tells by a file of /proc only, which no probe is to read.

/// The id of the group at a level of the hierarchy, 0 being its root; 0 where the process is in none.
@_noLocks
private func cgroup(_ context: UnsafeMutablePointer<cruntime_context>, at level: UInt64) -> Int64 {
    guard unsafe level < context.pointee.cgroup_count, let ids = unsafe context.pointee.cgroups else { return 0 }
    return unsafe Int64(bitPattern: ids[Int(level)])
}

/// `u64 bpf_get_current_cgroup_id(void)`.
@_noLocks
func currentCgroup(_ context: UnsafeMutablePointer<cruntime_context>) -> Int64 {
    unsafe cgroup(context, at: context.pointee.cgroup_count &- 1)
}

/// `u64 bpf_get_current_ancestor_cgroup_id(int ancestor_level)`.
@_noLocks
func ancestorCgroup(_ context: UnsafeMutablePointer<cruntime_context>, _ level: UInt64) -> Int64 {
    unsafe cgroup(context, at: level & 0xffff_ffff)
}

/// `long bpf_current_task_under_cgroup(map, u32 index)`.
@_noLocks
func underCgroup(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64, _ index: UInt64) -> Int64 {
    // BPF_MAP_TYPE_CGROUP_ARRAY
    guard let map = unsafe guestMap(context, handle, type: 8) else { return 0 }
    let index = UInt32(truncatingIfNeeded: index)
    if index >= map.maxEntries { return Failure.tooBig }
    let id = unsafe cruntime_load64(map.cgroupEntry(index))
    if id == 0 { return Failure.again }
    var level: UInt64 = 0
    while unsafe level < context.pointee.cgroup_count {
        if unsafe UInt64(bitPattern: cgroup(context, at: level)) == id { return 1 }
        level &+= 1
    }
    return 0
}
