import CRuntime
import CSession

// `struct task_struct` of this thread, and of those it leads to (cruntime_task.c). Addresses of fields are the running kernel's, as
// CO-RE has put them into programs; a read of one field is answered, any other fails.

@_noLocks
private func taskLayout(_ context: UnsafeMutablePointer<cruntime_context>) -> UnsafePointer<csession_task>? {
    guard let session = unsafe SessionView(context) else { return nil }
    let task = unsafe cruntime_task_layout(session.header)
    return unsafe task.pointee.pid == 0 ? nil : task
}

/// `u64 bpf_get_current_task(void)`, `struct task_struct *bpf_get_current_task_btf(void)`.
@_noLocks
func currentTask(_ context: UnsafeMutablePointer<cruntime_context>) -> Int64 {
    guard unsafe taskLayout(context) != nil else { return unsafe trap(context, .unknownHelper, 35) }
    return Int64(bitPattern: cruntime_task_address(unsafe context.pointee.pid_tgid & 0xffff_ffff))
}

/// `long bpf_probe_read_kernel(dst, size, unsafe_ptr)`, of the process's own memory, too.
@_noLocks
func probeReadKernel(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ destination: UInt64,
    _ length: UInt64,
    _ source: UInt64
) -> Int64 {
    guard cruntime_is_task(source) != 0, let task = unsafe taskLayout(context) else {
        return unsafe probeRead(context, destination, length, source)
    }
    let size = length & 0xffff_ffff
    guard let to = unsafe writableBytes(context, destination, size) else { return 0 }
    return unsafe cruntime_task_read(task, context.pointee.pid_tgid, source, to, size)
}

/// `long bpf_probe_read_kernel_str(dst, size, unsafe_ptr)`: of tasks the name.
@_noLocks
func probeReadKernelString(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ destination: UInt64,
    _ length: UInt64,
    _ source: UInt64
) -> Int64 {
    guard cruntime_is_task(source) != 0, let task = unsafe taskLayout(context) else {
        return unsafe probeReadString(context, destination, length, source)
    }
    let size = length & 0xffff_ffff
    guard let to = unsafe writableBytes(context, destination, size) else { return 0 }
    if size == 0 { return 0 }
    return unsafe cruntime_task_read_string(task, context.pointee.pid_tgid, source, to, size)
}
