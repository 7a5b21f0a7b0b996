internal import Glibc
internal import Symbols

/// One thread of a process, as /proc shows it.
struct TargetThread {
    var tid: Int32
    var state: Character
    /// The system call that it sleeps in; nil while it runs.
    var call: Int?

    /// Every thread of a process.
    static func all(of pid: Int32) -> [TargetThread] {
        threadNumbers(pid).compactMap { tid in
            guard let stat = smallFile("/proc/\(pid)/task/\(tid)/stat"), let end = stat.lastIndex(of: ")"),
                let state = stat[end...].dropFirst(2).first
            else { return nil }
            var call: Int?
            if state == "S", let text = smallFile("/proc/\(pid)/task/\(tid)/syscall") {
                call = text.split(separator: " ").first.flatMap { Int($0) }
            }
            return TargetThread(tid: tid, state: state, call: call)
        }
    }

    var isAlive: Bool { !"ZX".contains(state) }

    /// How little it costs the thread to be stopped; lower is better, nil when it cannot be.
    var rank: Int? {
        switch state {
        case "S":
            guard let call else { return 2 }
            if Self.transparent.contains(call) { return 0 }
            return Self.restartable.contains(call) ? 1 : 3
        case "R": return 2
        default: return nil
        }
    }

    /// Sleeping calls that the kernel restarts by itself after a stop (signal(7)): poll, pause, select, wait4, flock, pselect6, ppoll,
    /// nanosleep, clock_nanosleep, futex, waitid, rt_sigsuspend, restart_syscall.
    private static let transparent: Set<Int> = [7, 34, 23, 61, 73, 270, 271, 35, 230, 202, 247, 130, 219]

    /// Calls that may return EINTR after a stop although no signal was handled (signal(7), "Interruption of system calls and library
    /// functions by stop signals"), and do nothing before: read, write, readv, writev, accept, sendto, recvfrom, sendmsg, recvmsg,
    /// accept4, recvmmsg (sockets with a timeout, inotify); epoll_wait, epoll_pwait, epoll_pwait2; semop, semtimedop; rt_sigtimedwait;
    /// io_getevents, io_pgetevents, io_uring_enter; futex_waitv.
    static let restartable: Set<Int> = [
        0, 1, 19, 20, 43, 44, 45, 46, 47, 288, 299, 232, 281, 441, 65, 220, 128, 208, 333, 426, 449,
    ]
}

/// A thread's id in its own PID namespace (the last number of NSpid, proc(5)).
func ownNumber(_ tid: Int32, of pid: Int32) -> Int32 {
    guard let text = smallFile("/proc/\(pid)/task/\(tid)/status") else { return tid }
    for line in text.split(separator: "\n") where line.hasPrefix("NSpid:") {
        return line.split(whereSeparator: { $0 == "\t" || $0 == " " }).last.flatMap { Int32($0) } ?? tid
    }
    return tid
}
