internal import CRuntime
internal import Runtime

/// The memory that a running program may touch, with its hottest ranges in locals of the interpreter.
///
/// A range that holds fewer than 8 bytes is replaced by the stack's, so that `span - size` cannot wrap below and one
/// unsigned comparison decides. What the three ranges do not cover is asked of `guestMayRead` and `guestMayWrite`.
@safe
struct GuestWindow {
    private let context: UnsafeMutablePointer<cruntime_context>
    private let stackLow: UInt64
    private let stackSpan: UInt64
    private let guestLow: UInt64
    private let guestSpan: UInt64
    private let packetLow: UInt64
    private let packetSpan: UInt64

    @_noLocks @inline(__always)
    init(_ context: UnsafeMutablePointer<cruntime_context>) {
        unsafe self.context = unsafe context
        stackLow = unsafe context.pointee.stack_low
        stackSpan = unsafe context.pointee.stack_high &- context.pointee.stack_low
        let guest = unsafe context.pointee.guest_high &- context.pointee.guest_low
        let packet = unsafe context.pointee.packet_high &- context.pointee.packet_low
        guestLow = guest >= 8 ? unsafe context.pointee.guest_low : stackLow
        guestSpan = guest >= 8 ? guest : stackSpan
        packetLow = packet >= 8 ? unsafe context.pointee.packet_low : stackLow
        packetSpan = packet >= 8 ? packet : stackSpan
    }

    /// Whether `size` (at most 8) bytes at `address` may be read.
    @_noLocks @inline(__always)
    func mayRead(_ address: UInt64, _ size: UInt64) -> Bool {
        covers(address, size) || (unsafe guestMayRead(context, address, size))
    }

    /// Whether `size` (at most 8) bytes at `address` may be written.
    @_noLocks @inline(__always)
    func mayWrite(_ address: UInt64, _ size: UInt64) -> Bool {
        covers(address, size) || (unsafe guestMayWrite(context, address, size))
    }

    @_noLocks @inline(__always)
    private func covers(_ address: UInt64, _ size: UInt64) -> Bool {
        address &- stackLow <= stackSpan &- size || address &- guestLow <= guestSpan &- size
            || address &- packetLow <= packetSpan &- size
    }
}

/// A checked address as a pointer.
@_noLocks @inline(__always)
private func pointer(_ address: UInt64) -> UnsafeMutableRawPointer {
    unsafe UnsafeMutableRawPointer(bitPattern: UInt(address)).unsafelyUnwrapped
}

/// Loads and stores at addresses that were checked; any alignment, as on x86-64 in the kernel.
extension GuestWindow {
    @_noLocks @inline(__always)
    func load8(_ address: UInt64) -> UInt8 { unsafe pointer(address).load(as: UInt8.self) }
    @_noLocks @inline(__always)
    func load16(_ address: UInt64) -> UInt16 { unsafe pointer(address).loadUnaligned(as: UInt16.self) }
    @_noLocks @inline(__always)
    func load32(_ address: UInt64) -> UInt32 { unsafe pointer(address).loadUnaligned(as: UInt32.self) }
    @_noLocks @inline(__always)
    func load64(_ address: UInt64) -> UInt64 { unsafe pointer(address).loadUnaligned(as: UInt64.self) }
    @_noLocks @inline(__always)
    func store(_ address: UInt64, _ value: UInt8) { unsafe pointer(address).storeBytes(of: value, as: UInt8.self) }
    @_noLocks @inline(__always)
    func store(_ address: UInt64, _ value: UInt16) { unsafe pointer(address).storeBytes(of: value, as: UInt16.self) }
    @_noLocks @inline(__always)
    func store(_ address: UInt64, _ value: UInt32) { unsafe pointer(address).storeBytes(of: value, as: UInt32.self) }
    @_noLocks @inline(__always)
    func store(_ address: UInt64, _ value: UInt64) { unsafe pointer(address).storeBytes(of: value, as: UInt64.self) }
}
