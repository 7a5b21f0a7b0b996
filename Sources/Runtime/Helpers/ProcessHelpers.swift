import CRuntime
import CSession

/// `long bpf_probe_read*(dst, size, unsafe_ptr)`.
@_noLocks
func probeRead(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ destination: UInt64,
    _ length: UInt64,
    _ source: UInt64
) -> Int64 {
    let size = length & 0xffff_ffff
    guard let to = unsafe writable(context, destination, size) else { return 0 }
    if size == 0 { return 0 }
    if unsafe ownStack(context, source) >= size, let from = unsafe UnsafeRawPointer(bitPattern: UInt(source)) {
        unsafe cruntime_copy(to, from, size)
        return 0
    }
    let result = unsafe cruntime_fetch(to, source, size)
    if result != 0 { unsafe countFault(context) }
    return result
}

/// Bytes from an address on that are sure to be there, without a system call: those of the stack that the probed thread is on, which
/// is there as long as the probe runs.
@_noLocks @inline(__always)
private func ownStack(_ context: UnsafeMutablePointer<cruntime_context>, _ address: UInt64) -> UInt64 {
    guard let regs = unsafe context.pointee.regs else { return 0 }
    let high = unsafe context.pointee.walk_high
    return unsafe address >= regs.pointee.rsp && address < high ? high &- address : 0
}

/// `long bpf_probe_read*_str(dst, size, unsafe_ptr)`: the length with its NUL.
@_noLocks
func probeReadString(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ destination: UInt64,
    _ length: UInt64,
    _ source: UInt64
) -> Int64 {
    let size = length & 0xffff_ffff
    guard let to = unsafe writable(context, destination, size) else { return 0 }
    if size == 0 { return 0 }
    let there = unsafe ownStack(context, source)
    if there != 0, case let result = unsafe cruntime_copy_string(to, source, size, there), result != 0 {
        return result
    }
    let result = unsafe cruntime_read_string(to, source, size)
    if result < 0 { unsafe countFault(context) }
    return result
}

@_noLocks
private func countFault(_ context: UnsafeMutablePointer<cruntime_context>) {
    guard let session = unsafe SessionView(context) else { return }
    unsafe _ = cruntime_add64(cruntime_guest_faults(session.sharedHeader), 1)
}

/// `u32 bpf_get_prandom_u32(void)`: xorshift64*, seeded at first use, none of the target's own random state.
@_noLocks
func random(_ context: UnsafeMutablePointer<cruntime_context>) -> Int64 {
    var state = unsafe context.pointee.random
    if state == 0 {
        state = unsafe cruntime_monotonic_ns() ^ (context.pointee.pid_tgid &* 0x9e37_79b9_7f4a_7c15)
        if state == 0 { state = 1 }
    }
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    unsafe context.pointee.random = state
    return Int64((state &* 0x2545_f491_4f6c_dd1d) >> 32)
}

/// `long bpf_get_current_comm(buf, size)`: the thread's name, padded with zeros.
@_noLocks
func currentComm(_ context: UnsafeMutablePointer<cruntime_context>, _ buffer: UInt64, _ length: UInt64) -> Int64 {
    let size = length & 0xffff_ffff
    guard let to = unsafe writableBytes(context, buffer, size) else { return 0 }
    if size == 0 { return Failure.invalid }
    var comm = cruntime_comm()
    unsafe cruntime_get_comm(&comm)
    let copied = size < 16 ? size : 16
    unsafe cruntime_copy(to, &comm, copied)
    unsafe cruntime_zero(to.advanced(by: Int(copied)), size &- copied)
    // The name always ends in NUL (strscpy).
    unsafe to.assumingMemoryBound(to: UInt8.self)[Int(copied) &- 1] = 0
    return 0
}

/// `long bpf_strncmp(s1, s1_sz, s2)`.
@_noLocks
func compareStrings(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ first: UInt64,
    _ length: UInt64,
    _ second: UInt64
) -> Int64 {
    let size = length & 0xffff_ffff
    guard let a = unsafe readableBytes(context, first, size) else { return 0 }
    var index: UInt64 = 0
    while index < size {
        // s2 has no given size: each byte up to its NUL is checked.
        guard let b = unsafe readableBytes(context, second &+ index, 1) else { return 0 }
        let x = unsafe a.assumingMemoryBound(to: UInt8.self)[Int(index)]
        let y = unsafe b.assumingMemoryBound(to: UInt8.self)[0]
        // lib/string.c, strncmp: -1, 0 or 1
        if x != y { return x < y ? -1 : 1 }
        if x == 0 { return 0 }
        index &+= 1
    }
    return 0
}
