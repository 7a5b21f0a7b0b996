package import CRuntime
import CSession

/// Runs helper `number` (`enum bpf_func_id`) and returns r0; a misuse raises a trap and returns 0.
///
/// Programs of an embedder have the embedder's helpers and no others.
///
/// `bpf_tail_call` (12), `bpf_for_each_map_elem` (164), `bpf_loop` (181) and `bpf_user_ringbuf_drain` (209) run programs: the
/// engine handles them before it comes here.
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
    guard let helper = unsafe helperEntry(number) else {
        return unsafe UInt64(bitPattern: trap(context, .unknownHelper, UInt64(number)))
    }
    return unsafe cruntime_call_helper(helper, r1, r2, r3, r4, r5, context)
}

/// Whether `callHelper`, or the engine before it, has helper `number`.
package func isHelperImplemented(_ number: UInt32) -> Bool {
    switch number {
    case 12, 164, 181, 209: true
    default: unsafe helperEntry(number) != nil
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

/// As `readable`, in less code.
@_noLocks @inline(never)
func readableBytes(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ address: UInt64,
    _ size: UInt64
) -> UnsafeRawPointer? {
    unsafe readable(context, address, size)
}

/// As `writable`, in less code.
@_noLocks @inline(never)
func writableBytes(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ address: UInt64,
    _ size: UInt64
) -> UnsafeMutableRawPointer? {
    unsafe writable(context, address, size)
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

/// What stands in locks and records of this run: its thread and namespace (`cruntime_owner`).
@_noLocks @inline(__always)
func ownTid(_ context: UnsafeMutablePointer<cruntime_context>) -> UInt32 {
    unsafe UInt32(truncatingIfNeeded: context.pointee.pid_tgid) | cruntime_namespace_mark()
}
