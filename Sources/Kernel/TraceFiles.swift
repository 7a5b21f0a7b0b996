import CLinux
import Glibc
import Loader

/// Small text files of sysfs and tracefs.
enum FileText {
    static func read(_ path: String) -> String? {
        guard let bytes = try? readFile(path) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// 0 or an errno value.
    static func write(_ path: String, _ text: String) -> Int32 {
        let file = unsafe open(path, O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return clinux_errno() }
        defer { _ = close(file) }
        let bytes = Array(text.utf8)
        let written = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(file, $0.baseAddress, $0.count) }
        return written == bytes.count ? 0 : clinux_errno()
    }
}

/// tracefs, where the numbers of tracepoints are.
///
/// Where nobody has mounted it, it is mounted for us alone: on a descriptor, in no directory (fsmount(2)).
package struct TraceFiles: ~Copyable {
    package let path: String
    private let mount: Int32

    package init() throws(KernelError) {
        let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        if let place = places.first(where: { Self.isDirectory("\($0)/events") }) {
            path = place
            mount = -1
            return
        }
        let own = try Self.mountForUs()
        mount = own
        path = "/proc/self/fd/\(own)"
    }

    private static func mountForUs() throws(KernelError) -> Int32 {
        let kind = Array("tracefs".utf8) + [0]
        let context = unsafe kind.withUnsafeBytes {
            // FSOPEN_CLOEXEC
            clinux_syscall(430, Int64(Int(bitPattern: $0.baseAddress)), 1, 0, 0, 0, 0)
        }
        guard context >= 0 else { throw KernelError(call: "fsopen(tracefs)", errno: Int32(-context)) }
        defer { _ = close(Int32(context)) }
        // FSCONFIG_CMD_CREATE
        let made = clinux_syscall(431, context, 6, 0, 0, 0, 0)
        guard made >= 0 else { throw KernelError(call: "fsconfig(tracefs)", errno: Int32(-made)) }
        // FSMOUNT_CLOEXEC
        let result = clinux_syscall(432, context, 1, 0, 0, 0, 0)
        guard result >= 0 else { throw KernelError(call: "fsmount(tracefs)", errno: Int32(-result)) }
        return Int32(result)
    }

    deinit { if mount >= 0 { _ = close(mount) } }

    /// The number of `category/name`; nil where there is no such tracepoint.
    package borrowing func identifier(_ tracepoint: String) -> UInt64? {
        guard !tracepoint.contains("..") else { return nil }
        return FileText.read("\(path)/events/\(tracepoint)/id").flatMap { UInt64($0.prefix { $0.isNumber }) }
    }

    /// All tracepoints, as `category/name`.
    package borrowing func tracepoints() -> [String] {
        Self.list("\(path)/events").flatMap { category in
            Self.list("\(path)/events/\(category)").filter { !["enable", "filter"].contains($0) }
                .map { "\(category)/\($0)" }
        }
    }

    /// Functions that the kernel can trace; nil where it does not say.
    package borrowing func tracedFunctions() -> [String]? {
        guard let text = FileText.read("\(path)/available_filter_functions"), !text.isEmpty else { return nil }
        // `name`, or `name [module]`.
        return text.split(separator: "\n").map { line in String(line.prefix { $0 != " " && $0 != "\t" }) }
    }

    static func isDirectory(_ path: String) -> Bool {
        guard let directory = unsafe opendir(path) else { return false }
        unsafe closedir(directory)
        return true
    }

    static func list(_ path: String) -> [String] {
        guard let directory = unsafe opendir(path) else { return [] }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) {
                unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names.sorted()
    }
}

/// A trace instance of our own, for the lines of `bpf_printk`: readers of the common one take them from each other.
///
/// Lines of all programs of the machine come, not only ours.
package struct TraceInstance: ~Copyable {
    private let files: TraceFiles
    private let path: String
    private let pipe: Int32
    private var rest: [UInt8] = []

    /// A line of `bpf_printk`.
    package struct Line: Equatable, Sendable {
        package var comm: String
        package var thread: Int32
        package var text: String
    }

    package static func make() throws(KernelError) -> TraceInstance {
        let files = try TraceFiles()
        removeStale(files.path)
        let directory = "\(files.path)/instances/ubpfrun-\(getpid())"
        let pipe = try open(directory)
        return TraceInstance(files: files, path: directory, pipe: pipe)
    }

    private init(files: consuming TraceFiles, path: String, pipe: Int32) {
        self.files = files
        self.path = path
        self.pipe = pipe
    }

    private static func open(_ directory: String) throws(KernelError) -> Int32 {
        guard unsafe mkdir(directory, 0o700) == 0 else {
            throw KernelError(call: "mkdir in tracefs/instances", errno: clinux_errno())
        }
        let error = FileText.write("\(directory)/events/bpf_trace/bpf_trace_printk/enable", "1")
        let pipe = error == 0 ? unsafe Glibc.open("\(directory)/trace_pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1
        guard pipe >= 0 else {
            let number = error == 0 ? clinux_errno() : error
            _ = unsafe rmdir(directory)
            throw KernelError(call: "tracefs event bpf_trace_printk", errno: number)
        }
        return pipe
    }

    deinit {
        _ = close(pipe)
        _ = unsafe rmdir(path)
    }

    /// Instances of controllers that were killed.
    private static func removeStale(_ root: String) {
        for name in TraceFiles.list("\(root)/instances") where name.hasPrefix("ubpfrun-") {
            guard let pid = Int32(name.dropFirst(8)), kill(pid, 0) != 0, clinux_errno() == ESRCH else { continue }
            _ = unsafe rmdir("\(root)/instances/\(name)")
        }
    }

    /// The lines that have come since the last call, a megabyte at most: the programs of others print as well, and need not end.
    package mutating func lines() -> [Line] {
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        // One read gives a page or two.
        while rest.count < 1 << 20 {
            let size = chunk.count
            let count = unsafe chunk.withUnsafeMutableBytes { unsafe read(pipe, $0.baseAddress, size) }
            if count <= 0 { break }
            rest += chunk[..<count]
        }
        guard let end = rest.lastIndex(of: UInt8(ascii: "\n")) else { return [] }
        let text = String(decoding: rest[...end], as: UTF8.self)
        rest = Array(rest[(end + 1)...])
        return text.split(separator: "\n").map { Self.parse(String($0)) }
    }

    /// Reads `            comm-123     [001] ...11  12.5: bpf_trace_printk: text`.
    package static func parse(_ line: String) -> Line {
        let mark = ": bpf_trace_printk: "
        guard let found = line.firstRange(of: mark) else { return Line(comm: "", thread: 0, text: line) }
        let head = line[..<found.lowerBound]
        let text = String(line[found.upperBound...])
        // A comm may hold blanks and hyphens: the CPU in brackets ends it, and the last hyphen before that.
        guard let bracket = head.range(of: " [")?.lowerBound, let hyphen = head[..<bracket].lastIndex(of: "-") else {
            return Line(comm: "", thread: 0, text: text)
        }
        let thread = head[head.index(after: hyphen)..<bracket].filter(\.isNumber)
        let comm = head[..<hyphen].drop { $0 == " " }
        return Line(comm: String(comm), thread: Int32(thread) ?? 0, text: text)
    }
}

extension StringProtocol {
    fileprivate func range(of text: String) -> Range<Index>? { self.ranges(of: text).last }
}
