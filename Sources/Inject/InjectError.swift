/// Why the library could not be loaded into a running process.
package struct InjectError: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Kind: Equatable, Sendable {
        case noProcess
        case notPermitted
        case staticTarget
        case otherArchitecture
        case otherLibc
        case setuidTarget
        case notAProgram
        case ownProcess
        /// Something passes, or somebody else has to do something first.
        case busy
        case sandboxed
        /// It was tried; the target is as it was.
        case failed
        /// The target ended, or became another program, while it was tried.
        case targetEnded
        case libraryMissing
    }

    package var kind: Kind
    package var pid: Int32
    /// The error code shown to people, from the table of codes in the user documentation.
    package var code: String
    package var message: String
    package var why: String
    package var help: String

    package init(
        _ kind: Kind,
        _ pid: Int32,
        _ message: String,
        why: String = "",
        help: String = "",
        code: String? = nil
    ) {
        self.kind = kind
        self.pid = pid
        self.code = code ?? kind.code
        self.message = message
        self.why = why
        self.help = help
    }

    package var description: String {
        var text = "error[\(code)]: \(message)"
        if !why.isEmpty { text += "\nwhy: \(why)" }
        if !help.isEmpty { text += "\nhelp: \(help)" }
        return text
    }
}

extension InjectError.Kind {
    var code: String {
        switch self {
        case .noProcess: "U106"
        case .notPermitted: "U101"
        case .staticTarget: "U102"
        case .otherArchitecture: "U103"
        case .otherLibc: "U104"
        case .setuidTarget: "U105"
        case .notAProgram: "U108"
        case .ownProcess: "U001"
        case .busy: "U107"
        case .sandboxed: "U130"
        case .failed: "U131"
        case .targetEnded: "U132"
        case .libraryMissing: "U123"
        }
    }
}

extension InjectError {
    private static func attach(_ pid: Int32) -> String { "cannot attach to pid \(pid)" }
    private static let startIt = "start it under ubpfrun instead: ubpfrun TOOL -- COMMAND"

    static func noProcess(_ pid: Int32) -> InjectError { InjectError(.noProcess, pid, "no process \(pid)") }

    static func zombie(_ pid: Int32) -> InjectError {
        InjectError(
            .noProcess,
            pid,
            attach(pid),
            why: "it has ended (zombie)",
            help: "there is nothing left to attach to; its parent has to reap it"
        )
    }

    static func ownProcess(_ pid: Int32) -> InjectError {
        InjectError(
            .ownProcess,
            pid,
            attach(pid),
            why: "it is ubpfrun itself",
            help: "give the pid of another process"
        )
    }

    static func kernelThread(_ pid: Int32, name: String) -> InjectError {
        InjectError(
            .notAProgram,
            pid,
            attach(pid),
            why: "'\(name)' is a kernel thread",
            help: "the kernel's own functions take kprobes: sudo ubpfrun --backend kernel ..."
        )
    }

    static func traced(_ pid: Int32, by tracer: Int32) -> InjectError {
        InjectError(
            .busy,
            pid,
            attach(pid),
            why: "it is already traced by pid \(tracer)",
            help: "end that debugger first (or detach it)"
        )
    }

    static func stopped(_ pid: Int32) -> InjectError {
        InjectError(
            .busy,
            pid,
            attach(pid),
            why: "it is stopped (state T), and a new thread in it could not run",
            help: "continue it first: kill -CONT \(pid)"
        )
    }

    static func sharedMemory(_ pid: Int32, with parent: Int32) -> InjectError {
        InjectError(
            .busy,
            pid,
            attach(pid),
            why: "it is a vfork child and still uses the memory of pid \(parent)",
            help: "try again when it has called exec"
        )
    }

    static func noThread(_ pid: Int32, states: String) -> InjectError {
        InjectError(
            .busy,
            pid,
            attach(pid),
            why:
                "none of its threads can be stopped now (states \(states)): D is inside the kernel, as in vfork(2) or slow I/O",
            help: "try again in a moment"
        )
    }

    static func busyLoader(_ pid: Int32) -> InjectError {
        InjectError(
            .busy,
            pid,
            attach(pid),
            why: "its dynamic linker is at work: it starts, or loads a library",
            help: "try again in a moment"
        )
    }

    static func otherUser(_ pid: Int32, uid: UInt32, own: UInt32) -> InjectError {
        InjectError(
            .notPermitted,
            pid,
            attach(pid),
            why: "it runs as uid \(uid), you are uid \(own)",
            help: "run ubpfrun as that user (sudo -u '#\(uid)' ubpfrun ...) or as root"
        )
    }

    static func yama(_ pid: Int32, scope: Int) -> InjectError {
        InjectError(
            .notPermitted,
            pid,
            attach(pid),
            why: scope == 3
                ? "kernel.yama.ptrace_scope=3 forbids it to everyone"
                : "kernel.yama.ptrace_scope=\(scope) lets \(scope == 1 ? "a process attach to its own children only" : "only root attach")",
            help: scope == 3 ? startIt : "run ubpfrun as root, or \(startIt)"
        )
    }

    static func notDumpable(_ pid: Int32, reason: String) -> InjectError {
        InjectError(
            .notPermitted,
            pid,
            attach(pid),
            why:
                "the kernel does not allow it (\(reason)): it is not dumpable, has capabilities you lack, or is in a container",
            help: "run ubpfrun as root"
        )
    }

    static func setuid(_ pid: Int32, path: String) -> InjectError {
        InjectError(
            .setuidTarget,
            pid,
            attach(pid),
            why: "\(path) is setuid, setgid or has file capabilities: it acts for another user than you",
            help: "run ubpfrun as root"
        )
    }

    static func strictSeccomp(_ pid: Int32) -> InjectError {
        InjectError(
            .sandboxed,
            pid,
            attach(pid),
            why: "it is in strict seccomp mode: any other system call than read, write and exit kills it",
            help: "use the kernel instead: sudo ubpfrun --backend kernel ..."
        )
    }

    static func filtered(_ pid: Int32, reason: String) -> InjectError {
        InjectError(
            .sandboxed,
            pid,
            attach(pid),
            why: reason,
            help: "use the kernel instead: sudo ubpfrun --backend kernel ..."
        )
    }

    static func noLoader(_ pid: Int32, path: String, why: String, kind: Kind = .staticTarget) -> InjectError {
        InjectError(
            kind,
            pid,
            "\(attach(pid)): \(path)",
            why: why,
            help: "use the kernel instead: sudo ubpfrun --backend kernel ..."
        )
    }

    static func noThreads(_ pid: Int32) -> InjectError {
        InjectError(
            .otherLibc,
            pid,
            attach(pid),
            why: "its C library is older than 2.34 and it has not loaded libpthread",
            help: startIt
        )
    }

    static func libraryMissing(_ pid: Int32, _ path: String, reason: String) -> InjectError {
        InjectError(
            .libraryMissing,
            pid,
            "cannot read \(path)",
            why: reason,
            help: "`make build` makes it, or set UBPF_LIB=/path/to/libubpf.so"
        )
    }

    static func unseenLibrary(_ pid: Int32, _ path: String) -> InjectError {
        InjectError(
            .failed,
            pid,
            attach(pid),
            why: "its root directory has neither \(path) nor a /proc to load it through",
            help: "make the library visible there under the same path"
        )
    }

    /// A step failed; nothing of it is left.
    static func failed(_ pid: Int32, _ step: String, reason: String) -> InjectError {
        InjectError(
            .failed,
            pid,
            "\(attach(pid)): \(step)",
            why: reason,
            help: "the target runs on as before"
        )
    }

    static func ended(_ pid: Int32) -> InjectError {
        InjectError(
            .targetEnded,
            pid,
            attach(pid),
            why: "it ended, or became another program, while ubpfrun attached",
            help: "attach again if it still runs"
        )
    }
}
