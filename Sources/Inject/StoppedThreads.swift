internal import CLinux
internal import Glibc

/// Some threads of a process, held still while its code changes; they run on when the value ends.
///
/// To be used and ended by the thread that made it, as ptrace(2) wants it.
package struct StoppedThreads: ~Copyable {
    private var tracees: [Tracee] = []

    /// Stops them; those that have ended meanwhile are left out.
    package init(pid: Int32, threads: [Int32], milliseconds: UInt64 = 1000) throws(InjectError) {
        let deadline = clinux_now() + milliseconds * 1_000_000
        var requested: [Tracee] = []
        var stopped: [Tracee] = []
        do throws(BorrowFailure) {
            // All are asked before the first is waited for.
            for tid in threads {
                var tracee = Tracee(process: pid, tid: tid, deadline: deadline)
                do throws(BorrowFailure) {
                    try tracee.request(suspendSeccomp: false)
                    requested.append(tracee)
                } catch {
                    if case .ended = error { continue }
                    throw error
                }
            }
            while var tracee = requested.popLast() {
                do throws(BorrowFailure) {
                    try tracee.awaitStop(acceptsGroupStop: true)
                    stopped.append(tracee)
                } catch {
                    if case .ended = error { continue }
                    requested.append(tracee)
                    throw error
                }
            }
        } catch {
            for var tracee in requested + stopped { tracee.release() }
            switch error {
            case .systemCall(let name, let code):
                throw .failed(pid, "a thread of it cannot be stopped (\(name))", reason: errorText(code))
            case .timeout, .stopped, .ended: throw .noThread(pid, states: "D")
            }
        }
        tracees = stopped
    }

    deinit {
        for var tracee in tracees { tracee.release() }
    }

    /// Those that stand still.
    package var threads: [Int32] { tracees.map(\.tid) }

    /// Where a thread stands.
    package func instructionPointer(of tid: Int32) -> UInt64? {
        tracees.first { $0.tid == tid }?.registers.rip
    }

    /// Its stack pointer.
    package func stackPointer(of tid: Int32) -> UInt64? {
        tracees.first { $0.tid == tid }?.registers.rsp
    }

    /// Lets a thread continue elsewhere; false when it has been killed.
    package mutating func move(_ tid: Int32, to instruction: UInt64) -> Bool {
        guard let index = tracees.firstIndex(where: { $0.tid == tid }) else { return false }
        return tracees[index].move(to: instruction)
    }
}
