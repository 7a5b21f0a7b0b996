import CLinux
import CSession
import Glibc

extension Target {
    /// Starts a command that passed `Preflight` under `LD_PRELOAD`, with the caller's uid, terminal and signal mask.
    package static func start(_ command: Preflight, library: String, follow: String? = nil) throws(Failure) -> Target {
        var ours: Int32 = -1
        var theirs: Int32 = -1
        let result = unsafe clinux_socket_pair(&ours, &theirs)
        guard result == 0 else { throw Failure.socketFailed("socketpair", errno: -result) }
        let near = Descriptor(adopting: ours)
        let far = Descriptor(adopting: theirs)
        var environment = Self.environment(environmentList(), library: library, socket: far.number)
        if let follow { environment.append("\(CSESSION_ENV_FOLLOW)=\(follow)") }
        let held = try HeldCommand(command, environment, inherited: far.number)
        // The child has its own.
        _ = consume far
        let pidfd = try held.release()
        return Target(.child, pid: held.pid, pidfd: Descriptor(adopting: pidfd), channel: Channel(near))
    }

    /// The caller's environment with the library first in LD_PRELOAD and the socket's number.
    package static func environment(_ own: [String], library: String, socket: Int32) -> [String] {
        var result: [String] = []
        var preload = library
        for entry in own {
            if let value = value(of: "LD_PRELOAD", in: entry) {
                if !value.isEmpty { preload = "\(library):\(value)" }
            } else if value(of: CSESSION_ENV_SOCKET, in: entry) == nil,
                value(of: CSESSION_ENV_FOLLOW, in: entry) == nil
            {
                result.append(entry)
            }
        }
        result.append("LD_PRELOAD=\(preload)")
        result.append("\(CSESSION_ENV_SOCKET)=\(socket)")
        return result
    }

    private static func value(of name: String, in entry: String) -> String? {
        entry.hasPrefix("\(name)=") ? String(entry.dropFirst(name.count + 1)) : nil
    }
}

/// A command that has a process already, and waits to be executed.
final class HeldCommand {
    let path: String
    private var held = clinux_held()
    private var waits = true

    var pid: Int32 { held.pid }

    /// A command as it is, without the library; what it is linked with does not matter.
    convenience init(plain command: [String]) throws(Failure) {
        try self.init(try Preflight(plain: command), environmentList(), inherited: -1)
    }

    init(_ command: Preflight, _ environment: [String], inherited: Int32) throws(Failure) {
        path = command.path
        var made = clinux_held()
        let result = unsafe withCStrings(command.arguments) { arguments in
            unsafe withCStrings(environment) { variables in
                unsafe command.path.withCString { path in
                    // The child has memory of its own, and these strings in it.
                    var child = unsafe clinux_child(
                        path: path,
                        arguments: arguments,
                        environment: variables,
                        inherited: inherited
                    )
                    return unsafe clinux_hold(&child, &made)
                }
            }
        }
        held = made
        waits = result == 0
        guard result == 0 else { throw Failure.execFailed(command.path, errno: -result) }
    }

    /// Has the command executed; a descriptor of its process.
    func release() throws(Failure) -> Int32 {
        waits = false
        let result = unsafe clinux_release(&held)
        guard result == 0 else {
            _ = close(held.pidfd)
            throw Failure.execFailed(path, errno: -result)
        }
        return held.pidfd
    }

    deinit {
        guard waits else { return }
        unsafe clinux_abandon(&held)
        _ = close(held.pidfd)
    }
}

/// Calls `body` with a NULL-terminated array of C strings.
func withCStrings<R>(_ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> R) -> R {
    let total = strings.reduce(0) { $0 + $1.utf8.count + 1 }
    return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: max(1, total)) { text in
        unsafe withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<CChar>?.self, capacity: strings.count + 1) {
            list in
            var position = 0
            for (index, string) in strings.enumerated() {
                unsafe list.initializeElement(at: index, to: text.baseAddress?.advanced(by: position))
                for byte in string.utf8 {
                    unsafe text.initializeElement(at: position, to: CChar(bitPattern: byte))
                    position += 1
                }
                unsafe text.initializeElement(at: position, to: 0)
                position += 1
            }
            unsafe list.initializeElement(at: strings.count, to: nil)
            // The allocation holds at least the terminator.
            guard let base = list.baseAddress else { preconditionFailure("empty allocation") }
            return unsafe body(UnsafePointer(base))
        }
    }
}
