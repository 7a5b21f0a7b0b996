import CRuntime
import CSession

/// `void *bpf_task_storage_get(map, task, value, flags)`.
///
/// The only task that a program in a process has is the calling thread (`bpf_get_current_task_btf`).
@_noLocks
func taskStorageGet(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ handle: UInt64,
    _ task: UInt64,
    _ value: UInt64,
    _ flags: UInt64
) -> Int64 {
    guard let map = unsafe guestMap(context, handle, type: taskStorageType) else { return 0 }
    // BPF_LOCAL_STORAGE_GET_F_CREATE
    if flags & ~1 != 0 || task == 0 { return 0 }
    var initial: UnsafeRawPointer?
    if value != 0 {
        guard let given = unsafe readable(context, value, map.valueSize) else { return 0 }
        unsafe initial = unsafe given
    }
    let found = unsafe map.taskValue(
        tid: ownTid(context),
        token: context.pointee.thread_token,
        initial: initial,
        creates: flags != 0
    )
    guard let found = unsafe found else { return 0 }
    return Int64(Int(bitPattern: found))
}

/// `long bpf_task_storage_delete(map, task)`.
@_noLocks
func taskStorageDelete(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64, _ task: UInt64) -> Int64 {
    guard let map = unsafe guestMap(context, handle, type: taskStorageType) else { return 0 }
    if task == 0 { return Failure.invalid }
    return unsafe map.taskDelete(tid: ownTid(context), token: context.pointee.thread_token)
}
