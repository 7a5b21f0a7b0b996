package import CRuntime
import CSession

// Helpers that act on the process that the program runs in.

/// `long bpf_send_signal(u32 sig)`, `long bpf_send_signal_thread(u32 sig)`.
///
/// The agent sends them when the run has ended, so that no handler runs, and leaves, in the middle of a program; one signal however
/// often a run asks for it. In the kernel, too, a handler runs only after the probe.
@_noLocks
func sendSignal(_ context: UnsafeMutablePointer<cruntime_context>, _ number: UInt64, toThread: Bool) -> Int64 {
    let signal = number & 0xffff_ffff
    if signal > 64 { return Failure.invalid }
    if signal == 0 { return 0 }
    let bit = UInt64(1) << (signal &- 1)
    if toThread {
        unsafe context.pointee.thread_signals |= bit
    } else {
        unsafe context.pointee.process_signals |= bit
    }
    unsafe context.pointee.effects |= UInt64(CRUNTIME_SENDS_SIGNALS.rawValue)
    return 0
}

/// Sends the signals that a run has asked for.
@_noLocks
package func sendSignals(_ context: UnsafeMutablePointer<cruntime_context>) {
    let process = unsafe context.pointee.process_signals
    let thread = unsafe context.pointee.thread_signals
    unsafe context.pointee.effects &= ~UInt64(CRUNTIME_SENDS_SIGNALS.rawValue)
    unsafe context.pointee.process_signals = 0
    unsafe context.pointee.thread_signals = 0
    // Asked for here: a thread that forked has another number in the child. getpid, kill, tgkill.
    let pid = cruntime_syscall(39, 0, 0, 0, 0, 0, 0)
    let tid = Int64(cruntime_tid())
    var signal: Int64 = 1
    while signal <= 64 {
        let bit = UInt64(1) << UInt64(signal &- 1)
        if process & bit != 0 { _ = cruntime_syscall(62, pid, signal, 0, 0, 0, 0) }
        if thread & bit != 0 { _ = cruntime_syscall(234, pid, tid, signal, 0, 0, 0) }
        signal &+= 1
    }
}

/// Whether the session's user has allowed something (`enum csession_flag`); the image that says so is sealed.
@_noLocks
private func allows(_ context: UnsafeMutablePointer<cruntime_context>, _ flag: csession_flag) -> Bool {
    guard let session = unsafe SessionView(context) else { return false }
    return unsafe session.header.pointee.flags & flag.rawValue != 0
}

/// `long bpf_probe_write_user(void *dst, const void *src, u32 len)`: whatever the process itself may write.
@_noLocks
func probeWrite(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ destination: UInt64,
    _ source: UInt64,
    _ length: UInt64
) -> Int64 {
    guard unsafe allows(context, CSESSION_ALLOW_WRITE) else { return unsafe trap(context, .unknownHelper, 36) }
    let size = length & 0xffff_ffff
    guard let from = unsafe readableBytes(context, source, size) else { return 0 }
    return unsafe cruntime_write(destination, from, size)
}

/// `long bpf_override_return(struct pt_regs *regs, u64 rc)`: the function does not run, and returns `rc`.
@_noLocks
func overrideReturn(_ context: UnsafeMutablePointer<cruntime_context>, _ regs: UInt64, _ value: UInt64) -> Int64 {
    guard unsafe allows(context, CSESSION_ALLOW_OVERRIDE) else { return unsafe trap(context, .unknownHelper, 58) }
    guard unsafe regs == context.pointee.context_low && regs != 0 else {
        return unsafe trap(context, .badArgument, regs)
    }
    unsafe context.pointee.override_value = value
    unsafe context.pointee.effects |= UInt64(CRUNTIME_OVERRIDES.rawValue)
    return 0
}
