internal import CLinux
internal import Glibc

/// Why a borrowed thread could not do what was asked.
enum BorrowFailure: Error {
    case systemCall(String, Int32)
    case ended
    case stopped
    case timeout
    /// A seccomp filter forbids this system call.
    case filtered(String)
}

/// A thread of another process, stopped, with its registers saved; it makes system calls for us and runs on as if nothing had been.
struct BorrowedThread: ~Copyable {
    var tracee: Tracee

    init(process: Int32, tid: Int32, deadline: UInt64, ignoresTraps: Bool, suspendSeccomp: Bool) throws(BorrowFailure) {
        tracee = Tracee(process: process, tid: tid, deadline: deadline)
        tracee.ignoresTraps = ignoresTraps
        do {
            try tracee.request(suspendSeccomp: suspendSeccomp)
            try tracee.awaitStop(acceptsGroupStop: false)
            try tracee.blockSignals()
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

/// The state of a thread that this one traces.
struct Tracee {
    let tid: Int32
    /// The process ignores SIGTRAP: a single step would take that away, as the kernel forces its signal through.
    var ignoresTraps = false
    private(set) var registers = clinux_registers()
    private var mask: UInt64 = 0
    private var deadline: UInt64
    private let process: Int32
    private var isAttached = false
    private var isMasked = false
    /// Its registers are not its own now.
    private var isForeign = false
    /// It stands where the kernel restarts interrupted system calls on its way out.
    private var isInSignalStop = true
    /// Signals that came through the mask, bit n-1 for signal n; they are sent again.
    private var held: UInt64 = 0
    private var requested: UInt64 = 0
    private(set) var stoppedNanoseconds: UInt64 = 0

    init(process: Int32, tid: Int32, deadline: UInt64) {
        self.tid = tid
        self.process = process
        self.deadline = deadline
    }

    /// Asks the thread to stop.
    mutating func request(suspendSeccomp: Bool) throws(BorrowFailure) {
        requested = clinux_now()
        let limit = min(deadline, requested + 1_000_000_000)
        while true {
            var failed = clinux_seize(tid, suspendSeccomp ? 1 : 0)
            if failed == -EPERM, suspendSeccomp { failed = clinux_seize(tid, 0) }
            if failed == -EPERM, clinux_now() < limit {
                // ptrace(2) says the same of a thread that is ending, and of one that another ubpfrun has for a moment.
                guard let status = TargetStatus.read(pid: tid), status.state != "Z", status.state != "X" else {
                    throw .ended
                }
                if status.tracer == 0 || TargetStatus.isOurs(status.tracer) {
                    clinux_sleep(200_000)
                    continue
                }
            }
            try check(failed, "PTRACE_SEIZE")
            break
        }
        isAttached = true
        try check(clinux_interrupt(tid), "PTRACE_INTERRUPT")
    }

    /// Waits until it has stopped, and reads its registers.
    mutating func awaitStop(acceptsGroupStop: Bool) throws(BorrowFailure) {
        try untilInterrupted(acceptsGroupStop)
        try check(unsafe clinux_get_registers(tid, &registers), "PTRACE_GETREGS")
    }

    mutating func blockSignals() throws(BorrowFailure) {
        try check(unsafe clinux_get_mask(tid, &mask), "PTRACE_GETSIGMASK")
        isMasked = true
        // A step's own SIGTRAP must pass: blocked, it would cost the process its handler.
        let trap: UInt64 = ignoresTraps ? 0 : 1 << UInt64(SIGTRAP - 1)
        try check(clinux_set_mask(tid, ~trap), "PTRACE_SETSIGMASK")
        leaveCriticalSection()
        // From here on it makes calls of ours, which nobody may give up halfway: it only has to get a CPU.
        deadline = max(deadline, clinux_now() + 30_000_000_000)
    }

    /// ESRCH from ptrace(2) means that the thread has been killed.
    private func check(_ result: Int32, _ what: String) throws(BorrowFailure) {
        if result == -ESRCH || result == -ECHILD { throw .ended }
        if result < 0 { throw .systemCall(what, result) }
    }

    /// Waits for the stop that PTRACE_INTERRUPT asked for; signals on the way there are delivered.
    private func untilInterrupted(_ acceptsGroupStop: Bool) throws(BorrowFailure) {
        while true {
            var signal: Int32 = 0
            switch StopKind(unsafe clinux_wait_stop(tid, deadline, &signal)) {
            case .event:
                if signal == SIGTRAP || acceptsGroupStop { return }
                throw .stopped
            case .signal: try check(clinux_resume(tid, clinux_run_on, signal), "PTRACE_CONT")
            case .systemCall, .other: try check(clinux_resume(tid, clinux_run_on, 0), "PTRACE_CONT")
            case .timeout: throw .timeout
            case .ended: throw .ended
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
        if ignoresTraps {
            isInSignalStop = false
            try run(clinux_run_to_syscall)
            try run(clinux_run_to_syscall)
        } else {
            // Before the instruction comes a SIGTRAP that somebody sent, after it that of the step.
            while true {
                try run(clinux_run_step)
                try check(unsafe clinux_get_registers(tid, &changed), "PTRACE_GETREGS")
                if changed.rip != instruction { break }
                hold(SIGTRAP)
            }
        }
        try check(unsafe clinux_get_registers(tid, &changed), "PTRACE_GETREGS")
        return Int64(bitPattern: changed.rax)
    }

    /// Runs to the stop that is asked for; SIGSTOP, which no mask holds, and a SIGTRAP that was sent are kept for later.
    private mutating func run(_ run: clinux_run) throws(BorrowFailure) {
        let steps = run == clinux_run_step
        try check(clinux_resume(tid, run, 0), "PTRACE_SINGLESTEP")
        while true {
            var signal: Int32 = 0
            switch StopKind(unsafe clinux_wait_stop(tid, deadline, &signal)) {
            case .systemCall where !steps: return
            case .signal:
                if steps, signal == SIGTRAP { return }
                hold(signal)
            case .systemCall, .event, .other: break
            case .timeout: throw .timeout
            case .ended: throw .ended
            }
            try check(clinux_resume(tid, run, 0), "PTRACE_SINGLESTEP")
        }
    }

    private mutating func hold(_ signal: Int32) {
        if signal > 0, signal <= 64 { held |= 1 << UInt64(signal - 1) }
    }

    /// Moves the thread to another instruction for good.
    mutating func move(to instruction: UInt64) -> Bool {
        var changed = registers
        changed.rip = instruction
        return replace(changed)
    }

    /// Changes the thread's registers for good.
    mutating func replace(_ changed: clinux_registers) -> Bool {
        var changed = changed
        guard unsafe clinux_set_registers(tid, &changed) == 0 else { return false }
        registers = changed
        return true
    }

    /// Where the thread has registered its rseq area.
    func restartableSequences() -> clinux_rseq? {
        var rseq = clinux_rseq()
        guard unsafe clinux_get_rseq(tid, &rseq) >= 0, rseq.address != 0 else { return nil }
        return rseq
    }

    /// A thread in a restartable sequence (rseq(2)) continues at its abort handler, as after a preemption.
    ///
    /// The kernel forgets the sequence as soon as it sees the thread elsewhere.
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
        var wasInterrupted =
            registers.rax == interrupted && registers.orig_rax != ~0
            && TargetThread.restartable.contains(Int(truncatingIfNeeded: registers.orig_rax))
        if wasInterrupted { registers.rax = restarts }
        // ERESTART_RESTARTBLOCK makes the kernel call restart_syscall for the thread, for which a filter may kill it.
        // ERESTARTNOHAND makes the call again as it was, unless a handler runs: a sleep may be longer than asked for.
        let restartsByCall = registers.rax == UInt64(bitPattern: -516) && registers.orig_rax != ~0
        if restartsByCall, TargetStatus.read(pid: tid)?.seccomp == 2 {
            registers.rax = restarts
            wasInterrupted = true
        }
        if isForeign {
            // Outside of a signal stop the kernel restarts nothing: make the thread pass through one.
            if !isInSignalStop { _ = clinux_interrupt(tid) }
            if unsafe clinux_set_registers(tid, &registers) == -ESRCH {
                // It runs: a call of ours took longer than we wanted to wait.
                _ = clinux_interrupt(tid)
                settle()
                _ = unsafe clinux_set_registers(tid, &registers)
            } else if !isInSignalStop, clinux_resume(tid, clinux_run_on, 0) == 0 {
                settle()
            }
        } else if wasInterrupted {
            _ = unsafe clinux_set_registers(tid, &registers)
        }
        if isMasked { _ = clinux_set_mask(tid, mask) }
        if clinux_detach(tid, 0) == -ESRCH {
            // It has not stopped yet, and would for ever once it does.
            settle()
            _ = clinux_detach(tid, 0)
        }
        stoppedNanoseconds = clinux_now() - requested
        var signal: Int32 = 1
        while held != 0, signal <= 64 {
            if held & 1 << UInt64(signal - 1) != 0 { _ = clinux_thread_signal(process, tid, signal) }
            signal += 1
        }
    }

    /// Waits for the last stop.
    private mutating func settle() {
        while true {
            var signal: Int32 = 0
            switch StopKind(unsafe clinux_wait_stop(tid, max(deadline, clinux_now() + 1_000_000_000), &signal)) {
            case .event, .timeout, .ended: return
            case .signal:
                // A late step's own is nobody else's.
                if !(isForeign && signal == SIGTRAP) { hold(signal) }
            case .systemCall, .other: break
            }
            if clinux_resume(tid, clinux_run_on, 0) != 0 { return }
        }
    }
}

/// Why a tracee stopped, or that it did not.
private enum StopKind {
    case systemCall, event, signal, other, timeout, ended

    init(_ result: Int32) {
        switch result {
        case Int32(bitPattern: clinux_stop_syscall.rawValue): self = .systemCall
        case Int32(bitPattern: clinux_stop_event.rawValue): self = .event
        case Int32(bitPattern: clinux_stop_signal.rawValue): self = .signal
        case Int32(bitPattern: clinux_stop_other.rawValue): self = .other
        case -ETIMEDOUT: self = .timeout
        default: self = .ended
        }
    }
}
