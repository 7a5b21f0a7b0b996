internal import CRuntime
internal import ISA
internal import Runtime

// Watching a run costs nothing where nobody watches: the interpreter leaves its loop when the budget is 0, which for a watched
// run is before every instruction.

/// Keeps the budget of a watched run with the observer, and makes the interpreter's own 0.
@_noLocks
func beginBudget(_ context: UnsafeMutablePointer<cruntime_context>) {
    guard let observer = unsafe context.pointee.observer else { return }
    unsafe observer.pointee.budget = unsafe context.pointee.budget
    unsafe context.pointee.budget = 0
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
