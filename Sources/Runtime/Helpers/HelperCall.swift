package import CRuntime
import CSession

/// Runs helper `number` (`enum bpf_func_id`) and returns r0; a misuse raises a trap and returns 0.
///
/// Programs of an embedder have the embedder's helpers and no others.
///
/// `bpf_tail_call` (12), `bpf_for_each_map_elem` (164) and `bpf_loop` (181) run programs: the engine handles them before it
/// comes here.
@_noLocks
package func callHelper(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ number: UInt32,
    _ r1: UInt64,
    _ r2: UInt64,
    _ r3: UInt64,
    _ r4: UInt64,
    _ r5: UInt64
) -> UInt64 {
    if let helpers = unsafe context.pointee.user_helpers {
        guard number < CRUNTIME_USER_HELPERS, case let helper = unsafe helpers[Int(number)], helper != 0 else {
            return unsafe UInt64(bitPattern: trap(context, .unknownHelper, UInt64(number)))
        }
        return cruntime_call_user(helper, r1, r2, r3, r4, r5)
    }
    return unsafe UInt64(bitPattern: dispatch(context, number, r1, r2, r3, r4, r5))
}

/// Whether `callHelper`, or the engine before it, has helper `number`.
@_noLocks
package func isHelperImplemented(_ number: UInt32) -> Bool {
    switch number {
    case 1...8, 12, 14, 15, 16, 25, 27, 42, 45, 67, 87...89, 105, 106, 112...115, 118, 120, 125, 130...134, 148, 160,
        164, 165, 173, 174, 177, 181, 182, 195, 208, 212...214:
        true
    default: false
    }
}

@_noLocks
private func dispatch(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ number: UInt32,
    _ r1: UInt64,
    _ r2: UInt64,
    _ r3: UInt64,
    _ r4: UInt64,
    _ r5: UInt64
) -> Int64 {
    switch number {
    case 1: unsafe mapLookup(context, r1, r2)
    case 2: unsafe mapUpdate(context, r1, r2, r3, r4)
    case 3: unsafe mapDelete(context, r1, r2)
    // probe_read, probe_read_user, probe_read_kernel, copy_from_user: one address space, the process's own.
    case 4, 112, 113, 148: unsafe probeRead(context, r1, r2, r3)
    case 5: Int64(bitPattern: cruntime_monotonic_ns())
    case 6: unsafe tracePrint(context, r1, r2, r3, r4, r5)
    case 7: unsafe random(context)
    case 8: Int64(cruntime_cpu())
    case 14: unsafe Int64(bitPattern: context.pointee.pid_tgid)
    case 15: unsafe Int64(bitPattern: context.pointee.uid_gid)
    case 16: unsafe currentComm(context, r1, r2)
    case 25: unsafe perfEventOutput(context, r2, r3, r4, r5)
    case 27: unsafe getStackID(context, r2, r3)
    // probe_read_str, probe_read_user_str, probe_read_kernel_str
    case 42: Int64(cruntime_numa_node())
    case 45, 114, 115: unsafe probeReadString(context, r1, r2, r3)
    case 67: unsafe getStack(context, r2, r3, r4)
    case 87: unsafe mapPush(context, r1, r2, r3)
    case 88: unsafe mapTake(context, r1, r2, removes: true)
    case 89: unsafe mapTake(context, r1, r2, removes: false)
    case 105: unsafe parseNumber(context, r1, r2, r3, r4, isSigned: true)
    case 106: unsafe parseNumber(context, r1, r2, r3, r4, isSigned: false)
    // Four milliseconds each, as Debian's kernels count them; from the clock's start, not from five minutes before it.
    case 118: Int64(cruntime_coarse_ns() / 4_000_000)
    case 120: unsafe namespacePidTgid(context, r1, r2, r3, r4)
    case 125: Int64(bitPattern: cruntime_boottime_ns())
    case 130: unsafe ringBufferOutput(context, r1, r2, r3, r4)
    case 131: unsafe ringBufferReserve(context, r1, r2, r3)
    case 132: unsafe ringBufferFinish(context, r1, r2, discards: false)
    case 133: unsafe ringBufferFinish(context, r1, r2, discards: true)
    case 134: unsafe ringBufferQuery(context, r1, r2)
    case 160: Int64(bitPattern: cruntime_coarse_ns())
    case 165: unsafe printText(context, r1, r2, r3, r4, r5)
    case 173: unsafe Int64(bitPattern: context.pointee.function_ip)
    case 174: unsafe Int64(bitPattern: context.pointee.cookie)
    case 177: unsafe tracePrintList(context, r1, r2, r3, r4)
    case 182: unsafe compareStrings(context, r1, r2, r3)
    case 195: unsafe mapLookupSlot(context, r1, r2, r3)
    case 208: Int64(bitPattern: cruntime_tai_ns())
    // Kernel functions, see `Helper`.
    case 212: unsafe numberIteratorNew(context, r1, Int32(truncatingIfNeeded: r2), Int32(truncatingIfNeeded: r3))
    case 213: unsafe numberIteratorNext(context, r1)
    case 214: unsafe numberIteratorDestroy(context, r1)
    default: unsafe trap(context, .unknownHelper, UInt64(number))
    }
}

// MARK: - Arguments

/// Raises a trap; returns the 0 that a misused helper answers.
@_noLocks
func trap(_ context: UnsafeMutablePointer<cruntime_context>, _ kind: TrapKind, _ value: UInt64) -> Int64 {
    unsafe raiseTrap(context, kind, value: value)
    return 0
}

/// `size` bytes at `address` to read; nil, with a trap raised, where the program may not.
@_noLocks @inline(__always)
func readable(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ address: UInt64,
    _ size: UInt64
) -> UnsafeRawPointer? {
    guard unsafe guestMayRead(context, address, size) else {
        unsafe raiseTrap(context, .badArgument, value: address)
        return nil
    }
    return unsafe UnsafeRawPointer(bitPattern: UInt(address))
}

/// `size` bytes at `address` to write; nil, with a trap raised, where the program may not.
@_noLocks @inline(__always)
func writable(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ address: UInt64,
    _ size: UInt64
) -> UnsafeMutableRawPointer? {
    guard unsafe guestMayWrite(context, address, size) else {
        unsafe raiseTrap(context, .badArgument, value: address)
        return nil
    }
    return unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))
}

/// The map of a handle; nil, with a trap raised, for any other number or where there is no session.
@_noLocks @inline(__always)
package func guestMap(_ context: UnsafeMutablePointer<cruntime_context>, _ handle: UInt64) -> MapView? {
    guard let session = unsafe SessionView(context), let map = session.map(handle: handle) else {
        unsafe raiseTrap(context, .badArgument, value: handle)
        return nil
    }
    return map
}

/// The map of a handle where it is of a type (`enum bpf_map_type`); else nil with a trap raised.
@_noLocks
func guestMap(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ handle: UInt64,
    type: UInt32
) -> MapView? {
    guard let map = unsafe guestMap(context, handle) else { return nil }
    guard unsafe map.descriptor.pointee.type == type else {
        unsafe raiseTrap(context, .wrongMapType, value: UInt64(map.index))
        return nil
    }
    return map
}

/// The tid that stands in locks and records of this run.
@_noLocks @inline(__always)
func ownTid(_ context: UnsafeMutablePointer<cruntime_context>) -> UInt32 {
    unsafe UInt32(truncatingIfNeeded: context.pointee.pid_tgid)
}
