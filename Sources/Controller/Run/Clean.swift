import CLinux
import Glibc
import Symbols

/// `ubpfrun clean`: takes out of processes what killed controllers left there.
package struct Clean {
    private let pids: [Int32]
    private let messages: Messages

    /// Cleans `pids`; all processes that have the library and may be touched where that is empty.
    package init(_ pids: [Int32], isQuiet: Bool) {
        self.pids = pids
        messages = Messages(isQuiet: isQuiet, isVerbose: false)
    }

    /// Runs to the end; the process's exit code.
    package func execute() -> Int32 {
        do throws(Failure) {
            let library = try Installation.current.library()
            let loop = try EventLoop.make(interval: nil, duration: nil, hasRings: false)
            var cleaned = 0
            for pid in pids.isEmpty ? processesWithLibrary() : pids {
                do throws(Failure) {
                    let places = try clean(pid, library, loop)
                    cleaned += 1
                    messages.status("pid \(pid): \(counted(places, "place")) restored")
                } catch {
                    if !pids.isEmpty { throw error }
                    messages.warning(error)
                }
            }
            if cleaned == 0 { messages.status("no process has libubpf.so loaded") }
            return ExitCode.success
        } catch {
            Messages.error(error)
            return error.code.exitCode
        }
    }

    private func clean(_ pid: Int32, _ library: String, _ loop: borrowing EventLoop) throws(Failure) -> Int {
        guard let plan = try Target.inspect([pid]).first else { return 0 }
        let target = try Target.attach(plan, library: library)
        defer { target.release() }
        let conversation = Conversation(target, name: "pid \(pid)")
        try conversation.meet(loop)
        return try conversation.sweep(loop)
    }

    /// Processes of ours, or of anybody for root, that have the library mapped.
    private func processesWithLibrary() -> [Int32] {
        guard let directory = unsafe opendir("/proc") else { return [] }
        defer { unsafe closedir(directory) }
        var found: [Int32] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) {
                unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard let pid = Int32(name), pid != getpid(), let maps = try? ProcessMaps.read(pid: pid) else { continue }
            if maps.modules.contains(where: { $0.name.hasPrefix("libubpf.so") }) { found.append(pid) }
        }
        return found.sorted()
    }
}
