internal import CRuntime
internal import ISA
internal import Runtime

// Watching a run costs nothing where nobody watches: the interpreter leaves its loop when the budget is 0, which for a watched
// run is before every instruction.

/// The instructions that a run may execute; for a watched one they are kept with the observer, and the interpreter's own budget is 0.
@_noLocks
func beginBudget(_ context: UnsafeMutablePointer<cruntime_context>) -> UInt64 {
    let budget = unsafe context.pointee.budget
    if let observer = unsafe context.pointee.observer {
        unsafe observer.pointee.budget = budget
        unsafe context.pointee.budget = 0
    }
    return budget
}

/// Whether the instruction at `index` may be executed though the budget is 0: `.none`, or why the run ends.
@_noLocks @inline(never)
func oneMoreInstruction(_ context: UnsafeMutablePointer<cruntime_context>, _ index: Int, _ r: Registers) -> TrapKind {
    guard let observer = unsafe context.pointee.observer else { return .budget }
    let left = unsafe observer.pointee.budget
    if left == 0 { return .budget }
    unsafe observer.pointee.budget = left &- 1
    let goesOn = unsafe cruntime_observe(observer, context, UInt32(truncatingIfNeeded: index), r.pointer)
    return goesOn == 0 ? .stopped : .none
}

/// Whether `may_goto` has to leave its loop for the sake of the rest of the program.
@_noLocks @inline(never)
func isShort(_ context: UnsafeMutablePointer<cruntime_context>, _ budget: UInt64, _ reserve: UInt64) -> Bool {
    if let observer = unsafe context.pointee.observer { return unsafe observer.pointee.budget <= reserve }
    return budget <= reserve
}
