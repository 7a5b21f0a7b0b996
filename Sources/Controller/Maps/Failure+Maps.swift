// The part of the error table that is about maps of sessions that run.

extension Failure {
    static func damagedSession(_ why: String) -> Failure {
        Failure(.noSession, "the session cannot be read", why: why, help: "use the ubpfrun that runs it")
    }

    static func sessionClosed(_ pid: Int32, errno: Int32) -> Failure {
        Failure(.noSession, "the session of process \(pid) cannot be opened: \(errorText(errno))")
    }

    static func sessionHidden(_ pid: Int32, errno: Int32) -> Failure {
        Failure(
            .notPermitted,
            "you may not look at process \(pid): \(errorText(errno))",
            help: "run as its user, or as root"
        )
    }

    static func noSessionProcess(_ pid: Int32) -> Failure { Failure(.noProcess, "there is no process \(pid)") }

    static func sessionEnded(_ pid: Int32) -> Failure {
        Failure(
            .noSession,
            "the session of process \(pid) is over",
            why: "the ubpfrun that it belonged to has ended, or belongs to somebody else"
        )
    }

    static func noSession(_ pid: Int32?) -> Failure {
        guard let pid else {
            return Failure(
                .noSession,
                "no session is running",
                why: "no process that you may look at is a ubpfrun with programs in a process",
                help: "maps of programs in the kernel: bpftool map"
            )
        }
        return Failure(
            .noSession,
            "process \(pid) has no session",
            why: "it is neither a ubpfrun with programs in a process nor a target of one",
            help: "`ubpfrun map list` shows the sessions that there are"
        )
    }

    static func severalSessions(_ pids: [Int32]) -> Failure {
        Failure(
            .usage,
            "there are \(pids.count) sessions",
            why: "they belong to the processes \(pids.map(String.init).joined(separator: ", "))",
            help: "say which: -p PID, of ubpfrun or of a target that has only one"
        )
    }

    static func noMap(_ name: String, known: [String]) -> Failure {
        Failure(
            .noSuchMap,
            "the session has no map '\(name)'",
            why: "it has \(known.joined(separator: ", "))",
            help: nearest(name, among: known).map { "did you mean '\($0)'?" }
        )
    }

    static func mapRefused(_ what: String, _ map: String, status: Int64, why: String? = nil) -> Failure {
        // The kernel's ENOTSUPP has no text.
        let text = status == -524 ? "Operation not supported" : errorText(Int32(clamping: -status))
        return Failure(.mapRefused, "\(what) on map '\(map)': \(text)", why: why)
    }

    static func badMapBytes(_ what: String, _ text: String, _ map: String, expected: String) -> Failure {
        Failure(.badOption, "'\(text)' is no \(what) of map '\(map)'", why: "it takes \(expected)")
    }
}
