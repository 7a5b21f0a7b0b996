internal import CLinux
internal import Glibc
internal import Symbols

/// Some threads of a process, held still while its code changes; they run on when the value ends.
///
/// To be used and ended by the thread that made it, as ptrace(2) wants it.
package struct StoppedThreads: ~Copyable {
    private var tracees: [Tracee] = []

    /// Stops them; those that have ended meanwhile are left out.
    package init(pid: Int32, threads: [Int32], milliseconds: UInt64 = 1000) throws(InjectError) {
        tracees = try Self.stop(threads, of: pid, deadline: clinux_now() + milliseconds * 1_000_000)
    }

    /// Stops all threads but one, also those that come meanwhile; `own` is that one's id in its own PID namespace.
    package init(pid: Int32, except own: Int32, milliseconds: UInt64 = 200) throws(InjectError) {
        let deadline = clinux_now() + milliseconds * 1_000_000
        var all: [Tracee] = []
        guard let own = threadNumbers(pid).first(where: { ownNumber($0, of: pid) == own }) else { throw .ended(pid) }
        while true {
            let known = Set(all.map(\.tid))
            let new = TargetThread.all(of: pid).filter { $0.isAlive && $0.tid != own && !known.contains($0.tid) }
            if new.isEmpty { break }
            do throws(InjectError) {
                // Who waits in vfork stops for nobody, and somebody else runs in its memory. One that is ending is soon gone.
                if clinux_now() > deadline || new.contains(where: { $0.state == "D" }) {
                    throw .noThread(pid, states: String(new.map(\.state)))
                }
                all += try Self.stop(new.map(\.tid), of: pid, deadline: deadline)
            } catch {
                for var tracee in all { tracee.release() }
                throw error
            }
        }
        tracees = all
    }

    private static func stop(_ threads: [Int32], of pid: Int32, deadline: UInt64) throws(InjectError) -> [Tracee] {
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
            // Those that have not stopped are waited for: the others need not stand meanwhile.
            for var tracee in stopped + requested { tracee.release() }
            switch error {
            case .systemCall(let name, let code):
                throw .failed(pid, "a thread of it cannot be stopped (\(name))", reason: errorText(code))
            case .timeout, .stopped, .ended, .filtered: throw .noThread(pid, states: "D")
            }
        }
        return stopped
    }

    deinit {
        for var tracee in tracees { tracee.release() }
    }

    /// Lets them run on; a local variable would end with its last use.
    package consuming func release() {}

    /// Those that stand still.
    package var threads: [Int32] { tracees.map(\.tid) }

    /// Where a thread stands.
    package func instructionPointer(of tid: Int32) -> UInt64? {
        tracees.first { $0.tid == tid }?.registers.rip
    }

    /// Whether one of them stands in one of these ranges, or will when a signal handler returns.
    ///
    /// Where a handler returns to lies in its signal's frame, somewhere above the stack pointer: every word there that names a place
    /// in a range is taken for one. (A return address is none: no call ends inside a range.)
    package func isInside(_ ranges: [Range<UInt64>]) -> Bool {
        guard let low = ranges.map(\.lowerBound).min(), let high = ranges.map(\.upperBound).max() else { return false }
        func isWithin(_ word: UInt64) -> Bool {
            low <= word && word < high && ranges.contains { $0.contains(word) }
        }
        return tracees.contains { tracee in
            ranges.contains { $0.contains(tracee.registers.rip) } || stackWords(tracee).contains(where: isWithin)
        }
    }

    /// What lies above a thread's stack pointer, as far as handlers and what they call can be expected to reach.
    private func stackWords(_ tracee: Tracee) -> [UInt64] {
        let memory = RemoteMemory(thread: tracee.tid)
        let pageWords: UInt64 = 4096 / 8
        var start = tracee.registers.rsp & ~7
        var words: [UInt64] = []
        while words.count < Self.stackLimit {
            let count = pageWords - start / 8 % pageWords
            // The end of the stack.
            guard let piece = memory.words(start, count: Int(count)) else { break }
            words += piece
            start += count * 8
        }
        return words
    }

    private static let stackLimit = (256 << 10) / 8

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
