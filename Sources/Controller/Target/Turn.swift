import CLinux
import Glibc

/// The turn to attach to processes: of several ubpfrun, one at a time plans for a process and changes its code.
///
/// The next one then finds the agent that the first brought. Whoever waits too long goes on all the same: the agent
/// refuses code that is not what was planned for. A controller that is killed loses its turn.
final class Turn {
    private var sockets: [Int32] = []

    init(_ pids: [Int32], milliseconds: UInt64 = 5000) {
        let end = monotonicNanoseconds() + milliseconds * 1_000_000
        // In one order by all, so that nobody waits for whom it keeps waiting.
        for pid in pids.sorted() {
            var socket = unsafe clinux_claim("ubpf-attach-\(pid)")
            while socket == -EADDRINUSE, monotonicNanoseconds() < end {
                usleep(2000)
                socket = unsafe clinux_claim("ubpf-attach-\(pid)")
            }
            if socket >= 0 { sockets.append(socket) }
        }
    }

    deinit { for socket in sockets { _ = close(socket) } }
}
