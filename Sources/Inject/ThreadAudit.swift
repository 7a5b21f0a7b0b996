internal import Glibc
internal import Symbols

/// Threads that a trap would kill: the kernel ends a process whose thread traps while it blocks the signal.
package enum ThreadAudit {
    /// SIGILL, SIGTRAP and SIGSEGV, as a mask of blocked signals.
    package static let traps: UInt64 = 1 << UInt64(SIGILL - 1) | 1 << UInt64(SIGTRAP - 1) | 1 << UInt64(SIGSEGV - 1)

    /// The threads of a process that block one of `signals` now (SigBlk of proc(5)).
    package static func threads(of pid: Int32, blocking signals: UInt64 = traps) -> [Int32] {
        threadNumbers(pid).filter { tid in
            guard let text = smallFile("/proc/\(pid)/task/\(tid)/status"),
                let status = TargetStatus(pid: tid, text: text)
            else { return false }
            return status.blockedSignals & signals != 0
        }
    }
}
