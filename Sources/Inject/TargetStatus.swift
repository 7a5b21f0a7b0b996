import Glibc

/// What `/proc/PID/status` says about a process, as far as it decides whether the process may be touched (proc(5)).
package struct TargetStatus: Equatable, Sendable {
    package var pid: Int32
    package var name: String
    /// The letter of the state: R, S, D, T, t, Z, X, I.
    package var state: Character
    package var effectiveUser: UInt32
    package var threads: Int
    /// The process that traces it, 0 for none.
    package var tracer: Int32
    package var seccomp: Int
    /// How many seccomp filters it has; 1 before Linux 5.9 for any.
    package var filters: Int
    /// Signals that the main thread blocks; bit n-1 is signal n.
    package var blockedSignals: UInt64
    /// Signals that the process ignores.
    package var ignoredSignals: UInt64

    package func ignores(_ signal: Int32) -> Bool { ignoredSignals & 1 << UInt64(signal - 1) != 0 }

    /// Reads the status of a process; nil where there is none.
    package static func read(pid: Int32) -> TargetStatus? {
        guard let text = smallFile("/proc/\(pid)/status") else { return nil }
        return TargetStatus(pid: pid, text: text)
    }

    init?(pid: Int32, text: String) {
        var fields: [Substring: Substring] = [:]
        for line in text.split(separator: "\n") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[line[..<colon]] = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
        }
        func number(_ key: Substring, column: Int = 0) -> Int? {
            guard let words = fields[key]?.split(whereSeparator: { $0 == "\t" || $0 == " " }), column < words.count
            else {
                return nil
            }
            return Int(words[column])
        }
        guard let name = fields["Name"], let state = fields["State"]?.first, let user = number("Uid", column: 1) else {
            return nil
        }
        self.pid = pid
        self.name = String(name)
        self.state = state
        effectiveUser = UInt32(truncatingIfNeeded: user)
        threads = number("Threads") ?? 1
        tracer = Int32(truncatingIfNeeded: number("TracerPid") ?? 0)
        seccomp = number("Seccomp") ?? 0
        filters = number("Seccomp_filters") ?? (seccomp == 2 ? 1 : 0)
        blockedSignals = fields["SigBlk"].flatMap { UInt64($0, radix: 16) } ?? 0
        ignoredSignals = fields["SigIgn"].flatMap { UInt64($0, radix: 16) } ?? 0
    }

    /// What tells one program of a process from the next: exec(3) gives it another stack and heap (start_code, start_stack, start_brk and
    /// arg_start of proc(5)).
    static func imageMark(_ thread: Int32) -> [Substring] {
        guard let stat = smallFile("/proc/\(thread)/stat"), let end = stat.lastIndex(of: ")") else { return [] }
        let fields = stat[end...].split(separator: " ")
        // The state, field 3, has index 1 here.
        return [26, 28, 47, 48].compactMap { $0 - 2 < fields.count ? fields[$0 - 2] : nil }
    }

    /// The one reason why `user` cannot attach to the process, with what helps; nil where nothing speaks against it.
    ///
    /// In the order of the kernel's own checks (kernel/ptrace.c, `ptrace_attach` and `__ptrace_may_access`).
    package func obstacle(user: UInt32, yamaScope: Int) -> (why: String, help: String)? {
        if state == "Z" || state == "X" { return ("it has ended (zombie)", "its parent has to reap it") }
        if tracer != 0 { return ("it is already traced by pid \(tracer)", "end that debugger first") }
        if user != 0, effectiveUser != user {
            return ("it runs as uid \(effectiveUser), you are uid \(user)", "sudo -u '#\(effectiveUser)' ubpfrun ...")
        }
        if yamaScope == 3 {
            return ("kernel.yama.ptrace_scope=3 forbids it to everyone", "start it under ubpfrun instead")
        }
        if user != 0, yamaScope > 0 {
            return ("kernel.yama.ptrace_scope=\(yamaScope) and it is not your child", "start it under ubpfrun instead")
        }
        return nil
    }

    /// Whether a tracer is another process of this program, which lets go within milliseconds.
    static func isOurs(_ tracer: Int32) -> Bool {
        guard let name = smallFile("/proc/\(tracer)/comm") else { return true }
        return name == smallFile("/proc/self/comm")
    }

    /// `kernel.yama.ptrace_scope`; 0 where the kernel has no Yama.
    package static var yamaScope: Int {
        smallFile("/proc/sys/kernel/yama/ptrace_scope").flatMap { Int($0.prefix { $0 != "\n" }) } ?? 0
    }
}

/// A small file of /proc.
func smallFile(_ path: String) -> String? {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { _ = close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 8192)
    let got = unsafe bytes.withUnsafeMutableBytes { unsafe Glibc.read(descriptor, $0.baseAddress, $0.count) }
    return got > 0 ? String(decoding: bytes[..<got], as: UTF8.self) : nil
}
