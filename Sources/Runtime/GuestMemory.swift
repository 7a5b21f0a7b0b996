package import CRuntime

/// Whether `size` bytes at `address` may be read by the running program.
@_noLocks
package func guestMayRead(_ context: UnsafeMutablePointer<cruntime_context>, _ address: UInt64, _ size: UInt64) -> Bool
{
    unsafe guestMayWrite(context, address, size)
        || covers(context.pointee.rodata_low, context.pointee.rodata_high, address, size)
        || covers(context.pointee.keys_low, context.pointee.keys_high, address, size)
        || covers(context.pointee.context_low, context.pointee.context_high, address, size)
}

/// Whether `size` bytes at `address` may be written by the running program.
@_noLocks
package func guestMayWrite(_ context: UnsafeMutablePointer<cruntime_context>, _ address: UInt64, _ size: UInt64) -> Bool
{
    unsafe covers(context.pointee.stack_low, context.pointee.stack_high, address, size)
        || covers(context.pointee.guest_low, context.pointee.guest_high, address, size)
        || covers(context.pointee.packet_low, context.pointee.packet_high, address, size)
        || (context.pointee.context_writable != 0
            && covers(context.pointee.context_low, context.pointee.context_high, address, size))
}

/// Whether [address, address + size) lies in [low, high), for any values without overflow.
@_noLocks @inline(__always)
private func covers(_ low: UInt64, _ high: UInt64, _ address: UInt64, _ size: UInt64) -> Bool {
    address >= low && address <= high && size <= high - address
}

/// Stops the running program; the first reason stays.
@_noLocks
package func raiseTrap(_ context: UnsafeMutablePointer<cruntime_context>, _ kind: TrapKind, value: UInt64) {
    guard unsafe context.pointee.trap.kind == 0 else { return }
    unsafe context.pointee.trap.kind = kind.code
    unsafe context.pointee.trap.value = value
}

/// Sets what compiled code checks addresses against from the context's ranges; again after they change.
@_noLocks
package func prepareWindows(_ context: UnsafeMutablePointer<cruntime_context>) {
    let stack = unsafe cruntime_window(
        low: context.pointee.stack_low,
        span: context.pointee.stack_high &- context.pointee.stack_low &- 8
    )
    unsafe context.pointee.stack_window = stack
    unsafe context.pointee.guest_window = window(context.pointee.guest_low, context.pointee.guest_high, or: stack)
    unsafe context.pointee.packet_window = window(context.pointee.packet_low, context.pointee.packet_high, or: stack)
    unsafe context.pointee.context_window = window(context.pointee.context_low, context.pointee.context_high, or: stack)
}

/// A range as a window; the stack's for ranges of fewer than 8 bytes, which the slow check knows exactly.
@_noLocks @inline(__always)
private func window(_ low: UInt64, _ high: UInt64, or stack: cruntime_window) -> cruntime_window {
    high &- low >= 8 ? cruntime_window(low: low, span: high &- low &- 8) : stack
}
