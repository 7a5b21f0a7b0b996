internal import CLinux
package import ISA

/// Everything that a run was asked for.
package struct RunOptions: Equatable, Sendable {
    /// Object, source or tool.
    package var program = ""
    package var command: [String] = []
    /// Running processes to attach to.
    package var pids: [Int32] = []
    package var attach: [String] = []
    /// `NAME=VALUE` of `--set`.
    package var assignments: [String] = []
    /// Options that are not ours, with their values, in order: the object's.
    package var rest: [String] = []
    package var interval: Double?
    package var count: Int?
    package var duration: Double?
    package var format: OutputFormat?
    package var output: String?
    package var isQuiet = false
    package var isVerbose = false
    package var isStrict = false
    package var readyDescriptor: Int32?
    /// Socket of a target that started us as its helper.
    package var helperSocket: Int32?
    package var top: Int?
    package var olderMilliseconds: UInt64?
    package var combinedOnly = false
    /// Run programs that the verifier refuses, with checks as they run.
    package var skipsVerifier = false
    package var strictLeaks = false
    /// What programs may do to their process.
    package var permissions: Set<HelperPermission> = []
    /// Children made by fork run the programs too.
    package var followsFork = false
    /// Programs that a target executes join the session.
    package var followsExec = false

    /// `[MAP=]TYPE` of records that programs in the kernel send.
    package var events: [EventChoice] = []
    /// A file with the types of another kernel, for CO-RE.
    package var types: String?
    /// Where programs on functions of processes run.
    package var backend = Backend.auto

    /// The same workload in the process and in the kernel, and how the maps differ.
    package var comparesBackends = false

    package enum Backend: String, CaseIterable, Sendable {
        /// In the process, unless that is not possible.
        case auto
        case user
        case kernel
    }

    package init() {}

    /// Fills what the command line left open from `UBPF_<FLAG>`.
    package mutating func fillFromEnvironment(_ value: (String) -> String?) throws(Failure) {
        let positive = { (text: String) -> Double? in Double(text).flatMap { $0 > 0 ? $0 : nil } }
        let number = { (text: String) -> Int? in Int(text).flatMap { $0 > 0 ? $0 : nil } }
        let flag = { (text: String) -> Bool? in ["1": true, "true": true, "0": false, "false": false][text] }
        let words = { (text: String) -> [String]? in text.split(separator: " ").map(String.init) }
        try Self.fill(&interval, "UBPF_INTERVAL", value, "seconds", positive)
        try Self.fill(&count, "UBPF_COUNT", value, "a number of reports", number)
        try Self.fill(&duration, "UBPF_DURATION", value, "seconds", positive)
        try Self.fill(&format, "UBPF_FORMAT", value, "text or json", OutputFormat.init(rawValue:))
        try Self.fill(&output, "UBPF_OUTPUT", value, "a path") { $0 }
        try Self.fill(&top, "UBPF_TOP", value, "a number of places", number)
        try Self.fill(&olderMilliseconds, "UBPF_OLDER", value, "milliseconds") { UInt64($0) }
        for (path, name) in Self.flags where !self[keyPath: path] {
            var set: Bool?
            try Self.fill(&set, name, value, "1 or 0", flag)
            self[keyPath: path] = set ?? false
        }
        var more: [String]?
        try Self.fill(&more, "UBPF_ATTACH", value, "PROGRAM=SYMBOL ...", words)
        if attach.isEmpty { attach = more ?? [] }
        more = nil
        try Self.fill(&more, "UBPF_SET", value, "NAME=VALUE ...", words)
        // The command line's assignments come last and win.
        assignments = (more ?? []) + assignments
    }

    /// Reads `-p` values: numbers, several in one with commas or blanks between them (as `pidof` prints them).
    package mutating func addPids(_ text: String) throws(Failure) {
        let words = text.split { $0 == "," || $0 == " " || $0 == "\n" }
        for word in words {
            guard let pid = Int32(word), pid > 0 else {
                throw .badOption("--pid", value: text, expects: "the number of a process")
            }
            if !pids.contains(pid) { pids.append(pid) }
        }
        if words.isEmpty { throw .badOption("--pid", value: text, expects: "the number of a process") }
    }

    /// Refuses numbers that mean nothing; the environment's were checked when they were read.
    package func check() throws(Failure) {
        if !pids.isEmpty, !command.isEmpty {
            throw .usage("either -p PID or -- COMMAND, not both")
        }
        if comparesBackends, followsFork || followsExec || backend != .auto {
            throw .usage("--compare-backends runs both ways itself, without --backend, --follow-fork and --follow-exec")
        }
        if comparesBackends, command.isEmpty, pids.isEmpty || duration == nil {
            throw .usage(
                "--compare-backends runs a workload twice",
                help: "ubpfrun OBJECT --compare-backends -- COMMAND, or -p PID -d SECONDS"
            )
        }
        if let interval, !(interval > 0 && interval.isFinite) {
            throw .badOption("--interval", value: "\(interval)", expects: "seconds, more than 0")
        }
        if let duration, !(duration > 0 && duration.isFinite) {
            throw .badOption("--duration", value: "\(duration)", expects: "seconds, more than 0")
        }
        if let count, count < 1 { throw .badOption("--count", value: "\(count)", expects: "a number of reports") }
        if let top, top < 1 { throw .badOption("--top", value: "\(top)", expects: "a number of places") }
        if let readyDescriptor, clinux_is_open(readyDescriptor) == 0 {
            throw .badOption("--ready-fd", value: "\(readyDescriptor)", expects: "the number of an open descriptor")
        }
    }

    private static var flags: [(WritableKeyPath<RunOptions, Bool>, String)] {
        [
            (\.isQuiet, "UBPF_QUIET"), (\.isVerbose, "UBPF_VERBOSE"), (\.isStrict, "UBPF_STRICT"),
            (\.combinedOnly, "UBPF_COMBINED_ONLY"), (\.skipsVerifier, "UBPF_NO_VERIFY"),
            (\.strictLeaks, "UBPF_STRICT_LEAKS"), (\.followsFork, "UBPF_FOLLOW_FORK"),
        ]
    }

    /// The variables that `fillFromEnvironment` reads, in the order of the manual.
    package static let environmentNames = [
        "UBPF_INTERVAL", "UBPF_COUNT", "UBPF_DURATION", "UBPF_FORMAT", "UBPF_OUTPUT", "UBPF_TOP", "UBPF_OLDER",
        "UBPF_QUIET", "UBPF_VERBOSE", "UBPF_STRICT", "UBPF_COMBINED_ONLY", "UBPF_NO_VERIFY",
        "UBPF_STRICT_LEAKS", "UBPF_FOLLOW_FORK", "UBPF_ATTACH", "UBPF_SET",
    ]

    private static func fill<T>(
        _ field: inout T?,
        _ name: String,
        _ value: (String) -> String?,
        _ expects: String,
        _ parse: (String) -> T?
    ) throws(Failure) {
        guard field == nil, let text = value(name), !text.isEmpty else { return }
        guard let result = parse(text) else { throw Failure.badEnvironment(name, value: text, expects: expects) }
        field = result
    }
}
