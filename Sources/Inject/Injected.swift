internal import CLinux

/// A library that serves its socket in a target.
package struct Injected: Sendable {
    package let pid: Int32
    /// Our end of the conversation (SOCK_SEQPACKET); the caller closes it, which ends it.
    package let socket: Int32
    /// How long the borrowed thread was not its own, from the request to stop it until it was let go.
    package let stoppedNanoseconds: UInt64
    package let totalNanoseconds: UInt64
    /// The library was there already.
    package let wasResident: Bool
    /// The injector's memory in the target, which goes with the worker.
    package let memory: Range<UInt64>

    let reader: Int32

    /// Waits, after `socket` was closed, until the target has given back everything; false if it has not within the time.
    package func waitUntilGone(milliseconds: UInt64) -> Bool {
        let deadline = clinux_now() + milliseconds * 1_000_000
        let target = RemoteMemory(thread: reader)
        while target.load(memory.lowerBound, as: UInt64.self) != nil {
            if clinux_now() > deadline { return false }
            clinux_sleep(100_000)
        }
        return true
    }
}
