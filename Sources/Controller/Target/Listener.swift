import CLinux

/// Where programs that a target executes report, by the name in their environment.
package struct Listener: ~Copyable {
    private let socket: Descriptor
    /// The socket's abstract name.
    package let name: String

    package init() throws(Failure) {
        var bytes = [CChar](repeating: 0, count: 64)
        socket = try Descriptor(unsafe clinux_listen(&bytes), "listening for programs that are executed")
        name = String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    package var descriptor: Int32 { socket.number }

    /// The next program that reports; nil where it is gone already, or somebody else's.
    package func accept() -> Target? {
        let number = clinux_accept(socket.number)
        guard number >= 0 else { return nil }
        let channel = Channel(Descriptor(adopting: number))
        let pid = channel.peer
        let pidfd = clinux_pidfd(pid)
        guard pid > 0, pidfd >= 0 else { return nil }
        return Target(.follower, pid: pid, pidfd: Descriptor(adopting: pidfd), channel: channel)
    }
}
