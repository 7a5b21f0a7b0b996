internal import CLinux
internal import Glibc

/// Why a borrowed thread could not do what was asked.
enum BorrowFailure: Error {
    case systemCall(String, Int32)
    case ended
    case stopped
    case timeout
}

/// A thread of another process, stopped, with its registers saved; it makes system calls for us and runs on as if nothing had been.
struct BorrowedThread: ~Copyable {
    var tracee: Tracee

    init(process: Int32, tid: Int32, deadline: UInt64, suspendSeccomp: Bool) throws(BorrowFailure) {
        tracee = Tracee(process: process, tid: tid, deadline: deadline)
        do {
            try tracee.stop(suspendSeccomp: suspendSeccomp)
        } catch {
            // No deinit after an init that throws.
            tracee.release()
            throw error
        }
    }

    deinit {
        var tracee = tracee
        tracee.release()
    }
}

/// The state of a borrowed thread.
struct Tracee {
    let tid: Int32
    private(set) var registers = clinux_registers()
    private var mask: UInt64 = 0
    private var deadline: UInt64
    /// Its registers are not its own now.
    private var isForeign = false
    private var isMasked = false
    private var isAttached = false
    /// A stop signal that arrived meanwhile; it is sent again.
    private var held: Int32 = 0
    private let process: Int32
    private var seized: UInt64 = 0
    private(set) var stoppedNanoseconds: UInt64 = 0

    init(process: Int32, tid: Int32, deadline: UInt64) {
        self.tid = tid
        self.process = process
        self.deadline = deadline
    }

    /// Stops the thread and blocks its signals.
    mutating func stop(suspendSeccomp: Bool) throws(BorrowFailure) {
        seized = clinux_now()
        var failed = clinux_seize(tid, suspendSeccomp ? 1 : 0)
        if failed == -EPERM, suspendSeccomp { failed = clinux_seize(tid, 0) }
        guard failed == 0 else { throw failed == -ESRCH ? .ended : .systemCall("PTRACE_SEIZE", failed) }
        isAttached = true
        try check(clinux_interrupt(tid), "PTRACE_INTERRUPT")
        try untilInterrupted()
        try check(unsafe clinux_get_registers(tid, &registers), "PTRACE_GETREGS")
        try check(unsafe clinux_get_mask(tid, &mask), "PTRACE_GETSIGMASK")
        isMasked = true
        try check(clinux_set_mask(tid, ~0), "PTRACE_SETSIGMASK")
        leaveCriticalSection()
    }

    /// ESRCH from ptrace(2) means that the thread has been killed.
    private func check(_ result: Int32, _ what: String) throws(BorrowFailure) {
        if result == -ESRCH || result == -ECHILD { throw .ended }
        if result < 0 { throw .systemCall(what, result) }
    }

    /// Waits for the stop that PTRACE_INTERRUPT asked for; signals on the way there are delivered.
    private func untilInterrupted() throws(BorrowFailure) {
        while true {
            var signal: Int32 = 0
            let stop = unsafe clinux_wait_stop(tid, deadline, &signal)
            switch stop {
            case Int32(bitPattern: clinux_stop_event.rawValue):
                if signal == SIGTRAP { return }
                throw .stopped
            case Int32(bitPattern: clinux_stop_signal.rawValue):
                try check(clinux_resume(tid, 0, signal), "PTRACE_CONT")
            case Int32(bitPattern: clinux_stop_syscall.rawValue), Int32(bitPattern: clinux_stop_other.rawValue):
                try check(clinux_resume(tid, 0, 0), "PTRACE_CONT")
            case -ETIMEDOUT: throw .timeout
            default: throw .ended
            }
        }
    }

    /// Runs to the next entry or exit of a system call.
    ///
    /// Only SIGSTOP comes through the mask; it is kept for later.
    private mutating func toSystemCallStop() throws(BorrowFailure) {
        try check(clinux_resume(tid, 1, 0), "PTRACE_SYSCALL")
        while true {
            var signal: Int32 = 0
            let stop = unsafe clinux_wait_stop(tid, deadline, &signal)
            switch stop {
            case Int32(bitPattern: clinux_stop_syscall.rawValue): return
            case Int32(bitPattern: clinux_stop_signal.rawValue):
                held = signal
                try check(clinux_resume(tid, 1, 0), "PTRACE_SYSCALL")
            case Int32(bitPattern: clinux_stop_event.rawValue), Int32(bitPattern: clinux_stop_other.rawValue):
                try check(clinux_resume(tid, 1, 0), "PTRACE_SYSCALL")
            case -ETIMEDOUT: throw .timeout
            default: throw .ended
            }
        }
    }

    /// Makes one system call with the instruction at `instruction`; its result, an errno value negated if it failed.
    mutating func call(
        _ number: Int,
        _ arguments: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64),
        at instruction: UInt64,
        block: UInt64 = 0
    ) throws(BorrowFailure) -> Int64 {
        var changed = registers
        changed.rip = instruction
        changed.rax = UInt64(number)
        // Not in a system call: the kernel must not restart the one that was interrupted.
        changed.orig_rax = ~0
        changed.rdi = arguments.0
        changed.rsi = arguments.1
        changed.rdx = arguments.2
        changed.r10 = arguments.3
        changed.r8 = arguments.4
        changed.r9 = arguments.5
        if block != 0 { changed.rbx = block }
        isForeign = true
        try check(unsafe clinux_set_registers(tid, &changed), "PTRACE_SETREGS")
        try toSystemCallStop()
        try toSystemCallStop()
        try check(unsafe clinux_get_registers(tid, &changed), "PTRACE_GETREGS")
        return Int64(bitPattern: changed.rax)
    }

    /// Where the thread has registered its rseq area.
    func restartableSequences() -> clinux_rseq? {
        var rseq = clinux_rseq()
        guard unsafe clinux_get_rseq(tid, &rseq) >= 0, rseq.address != 0 else { return nil }
        return rseq
    }

    /// A thread in a restartable sequence (rseq(2)) continues at its abort handler, as after a preemption: the kernel forgets the sequence
    /// as soon as it sees the thread elsewhere.
    private mutating func leaveCriticalSection() {
        // Sequences contain no system calls.
        guard registers.orig_rax == ~0, let rseq = restartableSequences() else { return }
        let memory = RemoteMemory(thread: tid)
        guard let descriptor = memory.load(rseq.address &+ 8, as: UInt64.self), descriptor != 0,
            let start = memory.load(descriptor &+ 8, as: UInt64.self),
            let length = memory.load(descriptor &+ 16, as: UInt64.self),
            let abort = memory.load(descriptor &+ 24, as: UInt64.self)
        else { return }
        if registers.rip &- start < length { registers.rip = abort }
    }

    /// Gives the thread back: registers, signal mask, and its interrupted system call.
    mutating func release() {
        guard isAttached else { return }
        isAttached = false
        // Some calls return EINTR on any stop. ERESTARTNOHAND instead lets the kernel decide: EINTR if a handler runs, else again.
        let interrupted = UInt64(bitPattern: Int64(-EINTR))
        let restarts = UInt64(bitPattern: -514)
        let wasInterrupted =
            registers.rax == interrupted && registers.orig_rax != ~0
            && TargetThread.restartable.contains(Int(truncatingIfNeeded: registers.orig_rax))
        if wasInterrupted { registers.rax = restarts }
        if isForeign {
            // The system call is restarted only on the kernel's way out of a signal stop: make it pass through one.
            _ = clinux_interrupt(tid)
            if unsafe clinux_set_registers(tid, &registers) == -ESRCH {
                // It runs: a call of ours took longer than we wanted to wait.
                settle()
                _ = unsafe clinux_set_registers(tid, &registers)
            } else if clinux_resume(tid, 0, 0) == 0 {
                settle()
            }
        } else if wasInterrupted {
            _ = unsafe clinux_set_registers(tid, &registers)
        }
        if isMasked { _ = clinux_set_mask(tid, mask) }
        _ = clinux_detach(tid, 0)
        stoppedNanoseconds = clinux_now() - seized
        if held != 0 { _ = clinux_thread_signal(process, tid, held) }
    }

    /// Waits for the last stop.
    private mutating func settle() {
        while true {
            var signal: Int32 = 0
            switch unsafe clinux_wait_stop(tid, max(deadline, clinux_now() + 1_000_000_000), &signal) {
            case Int32(bitPattern: clinux_stop_event.rawValue): return
            case Int32(bitPattern: clinux_stop_signal.rawValue):
                held = signal
                if clinux_resume(tid, 0, 0) != 0 { return }
            case Int32(bitPattern: clinux_stop_syscall.rawValue), Int32(bitPattern: clinux_stop_other.rawValue):
                if clinux_resume(tid, 0, 0) != 0 { return }
            default: return
            }
        }
    }
}
