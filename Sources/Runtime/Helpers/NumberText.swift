import CRuntime
import CSession

/// `long bpf_strtol(buf, buf_len, flags, res)` and `long bpf_strtoul(...)`: the bytes that were read, or a negated errno value.
///
/// Source: `__bpf_strtoull` and `__bpf_strtoll` in kernel/bpf/helpers.c, `_parse_integer` in lib/kstrtox.c.
@_noLocks
func parseNumber(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ buffer: UInt64,
    _ length: UInt64,
    _ flags: UInt64,
    _ result: UInt64,
    isSigned: Bool
) -> Int64 {
    let size = length & 0xffff_ffff
    guard let text = unsafe readableBytes(context, buffer, size), let place = unsafe writableBytes(context, result, 8)
    else {
        return 0
    }
    let bytes = unsafe text.assumingMemoryBound(to: UInt8.self)
    let to = unsafe place.assumingMemoryBound(to: UInt64.self)
    unsafe to.pointee = 0
    // BPF_STRTOX_BASE_MASK is 0x1f.
    guard size > 0, flags == 0 || flags == 8 || flags == 10 || flags == 16 else { return Failure.invalid }
    var at: UInt64 = 0
    while at < size, unsafe isSpace(bytes[Int(at)]) { at &+= 1 }
    let isNegative = unsafe at < size && bytes[Int(at)] == 0x2d
    if isNegative { at &+= 1 }
    if at == size { return Failure.invalid }
    // The kernel copies 63 bytes of what is left.
    let end = size &- at > 63 ? at &+ 63 : size
    var base = flags
    let isZero = unsafe bytes[Int(at)] == 0x30
    let hasX = unsafe isZero && at &+ 1 < end && bytes[Int(at &+ 1)] | 0x20 == 0x78
    if base == 0 {
        let isHexadecimal = unsafe hasX && at &+ 2 < end && digit(bytes[Int(at &+ 2)]) < 16
        base = isHexadecimal ? 16 : isZero ? 8 : 10
    }
    if base == 16, hasX { at &+= 2 }
    var value: UInt64 = 0
    var count = 0
    var overflows = false
    while at < end, case let next = unsafe digit(bytes[Int(at)]), next < base {
        if value > (UInt64.max &- next) / base { overflows = true }
        value = value &* base &+ next
        count &+= 1
        at &+= 1
    }
    if overflows { return Failure.range }
    if count == 0 { return Failure.invalid }
    if isSigned {
        // -2^63 has no positive counterpart.
        if isNegative ? value > 1 << 63 : value >= 1 << 63 { return Failure.range }
        unsafe to.pointee = isNegative ? 0 &- value : value
    } else {
        if isNegative { return Failure.invalid }
        unsafe to.pointee = value
    }
    return Int64(at)
}

@_noLocks
private func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte >= 9 && byte <= 13 || byte == 0xa0 }

/// The value of a digit in any base; 255 for anything else.
@_noLocks
private func digit(_ byte: UInt8) -> UInt64 {
    if byte >= 0x30, byte <= 0x39 { return UInt64(byte &- 0x30) }
    let lower = byte | 0x20
    return lower >= 0x61 && lower <= 0x7a ? UInt64(lower &- 0x57) : 255
}

/// `long bpf_get_ns_current_pid_tgid(dev, ino, nsdata, size)`: `u32 pid, tgid` where the process's PID namespace is the given one.
///
/// Source: kernel/bpf/helpers.c. Device numbers are taken as stat(2) gives them and as the kernel keeps them.
@_noLocks
func namespacePidTgid(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ device: UInt64,
    _ inode: UInt64,
    _ data: UInt64,
    _ length: UInt64
) -> Int64 {
    let size = length & 0xffff_ffff
    guard let place = unsafe writableBytes(context, data, size) else { return 0 }
    unsafe cruntime_zero(place, size)
    guard size == 8 else { return Failure.invalid }
    var found: UInt64 = 0
    var number: UInt64 = 0
    guard unsafe cruntime_pid_namespace(&found, &number) == 0 else { return Failure.noEntry }
    // Kernel: MKDEV, 20 bits of minor number; the device of namespaces has major number 0.
    let minor = found & 0xff | found >> 12 & 0xfff00
    guard number == inode, device == found || device == minor else { return Failure.invalid }
    let ids = unsafe context.pointee.pid_tgid
    unsafe place.assumingMemoryBound(to: UInt32.self)[0] = UInt32(truncatingIfNeeded: ids)
    unsafe place.assumingMemoryBound(to: UInt32.self)[1] = UInt32(truncatingIfNeeded: ids >> 32)
    return 0
}
