import CLinux
package import CSession

/// The controller's end of a session's socket.
package struct Channel: ~Copyable, Sendable {
    private let socket: Descriptor

    package init(_ socket: consuming Descriptor) { self.socket = socket }

    package var descriptor: Int32 { socket.number }

    /// The process at the other end, as the kernel knows it.
    package var peer: Int32 { clinux_peer_pid(socket.number) }

    /// What came in: a message, or the peer's end.
    package enum Incoming {
        case message(csession_message)
        case closed
    }

    package borrowing func receive() throws(Failure) -> Incoming {
        var message = csession_message()
        let size = unsafe withUnsafeMutableBytes(of: &message) { bytes -> Int32 in
            guard let base = bytes.baseAddress else { return 0 }
            return unsafe clinux_receive(socket.number, base, UInt64(bytes.count), nil, nil)
        }
        if size == 0 || size == -104 { return .closed }  // ECONNRESET: killed with our message unread
        guard size == Int32(MemoryLayout<csession_message>.size) else {
            throw size < 0
                ? Failure.socketFailed("receiving from the target", errno: -size)
                : Failure.internalError("libubpf.so sent \(size) bytes: it is of another version than ubpfrun")
        }
        return .message(message)
    }

    package borrowing func send(
        _ kind: csession_message_kind,
        value: UInt64 = 0,
        error: UInt32 = 0,
        plan: UInt32 = 0,
        descriptors: [Int32] = []
    )
        throws(Failure)
    {
        var message = csession_message()
        message.kind = UInt32(kind.rawValue)
        message.site = UInt32.max
        message.value = value
        message.error = error
        message.plan = plan
        let result = unsafe withUnsafeBytes(of: &message) { bytes -> Int32 in
            guard let base = bytes.baseAddress else { return 0 }
            return unsafe clinux_send(socket.number, base, UInt64(bytes.count), descriptors, UInt32(descriptors.count))
        }
        guard result == 0 else { throw Failure.socketFailed("sending to the target", errno: -result) }
    }
}

/// A message's explanation.
package func messageText(_ message: csession_message) -> String {
    unsafe withUnsafeBytes(of: message.text) { unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}
