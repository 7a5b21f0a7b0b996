public import CPatch
public import CRuntime
import Runtime
import UBPFVM

// What the hit path (CPatch/hit.c) has Swift do, with vector registers saved.

/// Makes a context the session's.
@c(ubpf_agent_prepare) @_noLocks
public func prepareHit(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ session: UnsafePointer<cpatch_session>
) {
    guard let view = unsafe sessionView(session) else { return }
    unsafe prepareContext(context, view)
    unsafe context.pointee.cgroups = unsafe session.pointee.cgroups
    unsafe context.pointee.cgroup_count = unsafe session.pointee.cgroup_count
    unsafe prepareWindows(context)
}

/// Runs a program that has no machine code.
@c(ubpf_agent_interpret) @_noLocks
public func interpretHit(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ session: UnsafePointer<cpatch_session>,
    _ program: UInt32
) {
    guard let view = unsafe sessionView(session) else { return }
    let instructions = unsafe view.instructions(Int(program))
    let length = unsafe Int32(truncatingIfNeeded: view.program(Int(program)).pointee.instruction_count)
    _ = unsafe Interpreter.run(context, instructions, length, r1: context.pointee.context_low, r2: 0)
    if unsafe context.pointee.effects & UInt64(CRUNTIME_SENDS_SIGNALS.rawValue) != 0 { unsafe sendSignals(context) }
}

/// Gives back what a run of a compiled program holds, and does what it left to its end.
@c(ubpf_agent_end) @_noLocks
public func endHit(_ context: UnsafeMutablePointer<cruntime_context>) {
    unsafe endRun(context)
    if unsafe context.pointee.effects & UInt64(CRUNTIME_SENDS_SIGNALS.rawValue) != 0 { unsafe sendSignals(context) }
}

@_noLocks @inline(__always)
private func sessionView(_ session: UnsafePointer<cpatch_session>) -> SessionView? {
    guard let image = unsafe session.pointee.image, let shared = unsafe session.pointee.shared else { return nil }
    return unsafe SessionView(image: image, shared: shared)
}
