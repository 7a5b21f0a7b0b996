internal import CLinux
internal import Glibc
internal import Symbols

/// The questions that are asked before a process is touched, each with its own answer.
enum Preconditions {
    /// A living thread of a process that may be touched.
    static func check(_ pid: Int32) throws(InjectError) -> Int32 {
        guard pid > 0, let status = TargetStatus.read(pid: pid) else { throw .noProcess(pid) }
        guard pid != getpid(), !threadNumbers(getpid()).contains(pid) else { throw .ownProcess(pid) }
        let threads = TargetThread.all(of: pid)
        guard let reader = threads.first(where: \.isAlive)?.tid else { throw .zombie(pid) }
        if isKernelThread(pid) { throw .kernelThread(pid, name: status.name) }
        var alive = reader == pid ? status : TargetStatus.read(pid: reader) ?? status
        let patience = clinux_now() + 1_000_000_000
        while alive.tracer != 0, clinux_now() < patience, TargetStatus.isOurs(alive.tracer) {
            clinux_sleep(500_000)
            alive = TargetStatus.read(pid: reader) ?? status
        }
        if alive.tracer != 0 { throw .traced(pid, by: process(of: alive.tracer)) }
        try checkPermission(pid, reader: reader, alive)
        if alive.state == "T" { throw .stopped(pid) }
        try checkProgram(pid, reader: reader)
        if let parent = parent(of: pid), clinux_same_memory(reader, parent) == 1 {
            throw .sharedMemory(pid, with: parent)
        }
        // Each thread has its own.
        let modes = Set(threads.compactMap { $0.isAlive ? TargetStatus.read(pid: $0.tid)?.seccomp : nil })
        if modes.contains(1) { throw .strictSeccomp(pid) }
        if modes.contains(2) { try checkFilters(pid) }
        return reader
    }

    /// Filters are asked before the first system call; here is only whether that can be done.
    private static func checkFilters(_ pid: Int32) throws(InjectError) {
        guard geteuid() == 0, let own = TargetStatus.read(pid: getpid()), own.seccomp == 0 else {
            throw .filtered(
                pid,
                reason:
                    "it has a seccomp filter, which only root, outside of any, may look into: it could kill for a call"
            )
        }
    }

    /// The kernel's own answer, without a touch, and the likeliest reason for a no.
    private static func checkPermission(_ pid: Int32, reader: Int32, _ status: TargetStatus) throws(InjectError) {
        let answer = clinux_may_attach(reader)
        guard answer < 0 else { return }
        if answer == -ENOENT || answer == -ESRCH { throw .noProcess(pid) }
        let user = geteuid()
        if user != 0, status.effectiveUser != user {
            throw .otherUser(pid, uid: status.effectiveUser, own: user)
        }
        let scope = TargetStatus.yamaScope
        if scope == 3 || (user != 0 && scope > 0) { throw .yama(pid, scope: scope) }
        let path = executablePath(reader)
        if let info = try? BinaryInfo.inspect(path), info.isSetuid || info.isSetgid || info.hasCapabilities {
            throw .setuid(pid, path: path)
        }
        throw .notDumpable(pid, reason: errorText(answer))
    }

    private static func checkProgram(_ pid: Int32, reader: Int32) throws(InjectError) {
        let path = executablePath(reader)
        guard let info = try? BinaryInfo.inspect("/proc/\(reader)/exe") else { throw .ended(pid) }
        if info.form == .elf32 {
            throw .noLoader(
                pid,
                path: "\(path) is a 32-bit program",
                why: "only 64-bit x86-64 programs are supported",
                kind: .otherArchitecture
            )
        }
        switch info.interpreter {
        case .glibc: return
        case .none(let isPIE):
            let kind = isPIE ? "it is a static-pie: no PT_INTERP" : "no PT_INTERP"
            throw .noLoader(
                pid,
                path: "\(path) is statically linked",
                why: info.isGo ? "it is a Go program without libc, which has no dlopen" : "\(kind), and so no dlopen"
            )
        case .musl(let name):
            throw .noLoader(pid, path: "\(path) uses musl", why: "its interpreter is \(name)", kind: .otherLibc)
        case .unknown(let name):
            // A program started as `ld.so PROGRAM` has the loader itself for its executable; what it runs cannot be told from here.
            throw .noLoader(
                pid,
                path: "\(path) has an unknown dynamic linker",
                why: "its interpreter is \(name)",
                kind: .otherLibc
            )
        }
    }

    /// The process that a thread belongs to: TracerPid is that of a thread.
    private static func process(of thread: Int32) -> Int32 {
        let line = smallFile("/proc/\(thread)/status")?.split(separator: "\n").first { $0.hasPrefix("Tgid:") }
        return line?.split(separator: "\t").last.flatMap { Int32($0) } ?? thread
    }

    /// PF_KTHREAD of proc(5)'s flags.
    private static func isKernelThread(_ pid: Int32) -> Bool {
        guard let stat = smallFile("/proc/\(pid)/stat"), let end = stat.lastIndex(of: ")") else { return false }
        let fields = stat[end...].split(separator: " ")
        guard fields.count > 7, let flags = UInt64(fields[7]) else { return false }
        return flags & 0x0020_0000 != 0
    }

    private static func parent(of pid: Int32) -> Int32? {
        guard let stat = smallFile("/proc/\(pid)/stat"), let end = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[end...].split(separator: " ")
        guard fields.count > 2, let parent = Int32(fields[2]), parent > 0 else { return nil }
        return parent
    }
}
