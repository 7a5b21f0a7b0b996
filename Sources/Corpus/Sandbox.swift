internal import Glibc

/// What a child is doing, for its parent to know when it dies.
enum Stage: Int32 {
    case preparing, verifying
}

/// Judges records in child processes, so that nothing that happens to one of them stops the others.
@safe
struct Sandbox: ~Copyable {
    private let options: Options
    /// Where the child says what it does.
    private let page: UnsafeMutablePointer<Int32>

    /// Seconds that one record may take.
    private static var patience: Int32 { 30 }

    init(_ options: Options) throws(CorpusError) {
        self.options = options
        let memory = unsafe mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        guard let memory = unsafe memory, unsafe memory != MAP_FAILED else { throw .failed("mmap") }
        unsafe page = memory.assumingMemoryBound(to: Int32.self)
    }

    deinit { unsafe munmap(page, 4096) }

    /// Judges jobs in their order; `output` gets each line with its end.
    func run(_ jobs: [Job], output: (ArraySlice<UInt8>) throws(CorpusError) -> Void) throws(CorpusError) {
        var next = 0
        while next < jobs.count {
            let child = try start(jobs[next...])
            var lines = LineReader()
            var end: End?
            while end == nil {
                end = try child.read(into: &lines, seconds: Self.patience)
                while let line = lines.next() {
                    try output(line + [UInt8(ascii: "\n")])
                    next += 1
                }
            }
            let status = child.wait(killing: end == .timeout)
            if next < jobs.count {
                let verdict = failure(jobs[next], end == .timeout, status)
                try output(Array(verdict.line.utf8)[...] + [UInt8(ascii: "\n")])
                next += 1
            }
        }
    }

    private func failure(_ job: Job, _ isTimeout: Bool, _ status: Int32) -> Verdict {
        let id =
            switch job.record {
            case .success(let record): record.id as String?
            case .failure(let error): error.id
            }
        let stage = unsafe Stage(rawValue: page.pointee) ?? .preparing
        let part =
            switch stage {
            case .preparing: "reading the record"
            case .verifying: "the verifier"
            }
        let reason =
            isTimeout
            ? Verdict.Reason(kind: "timeout", message: "\(part) took more than \(Self.patience) s")
            : Verdict.Reason(kind: "crash", message: "\(part) ended with \(describe(status)); this is a bug")
        return Verdict(id: id, .unsupported, reason)
    }

    private func describe(_ status: Int32) -> String {
        status & 0x7f == 0 ? "exit status \(status >> 8 & 0xff)" : "signal \(status & 0x7f)"
    }

    private func start(_ jobs: ArraySlice<Job>) throws(CorpusError) -> Child {
        var ends: [Int32] = [0, 0]
        guard unsafe pipe(&ends) == 0 else { throw .failed("pipe") }
        unsafe page.pointee = Stage.preparing.rawValue
        let pid = fork()
        if pid < 0 { throw .failed("fork") }
        if pid == 0 {
            close(ends[0])
            for job in jobs {
                let verdict = judge(job, options) { unsafe page.pointee = $0.rawValue }
                if !writeAll(Array(verdict.line.utf8) + [UInt8(ascii: "\n")], to: ends[1]) { _exit(74) }
            }
            _exit(0)
        }
        close(ends[1])
        return Child(pid: pid, pipe: ends[0])
    }
}

private enum End {
    case closed, timeout
}

private struct Child: ~Copyable {
    let pid: pid_t
    let pipe: Int32

    deinit { close(pipe) }

    /// Waits for more output; nil where there was some.
    func read(into lines: inout LineReader, seconds: Int32) throws(CorpusError) -> End? {
        var poll = pollfd(fd: pipe, events: Int16(POLLIN), revents: 0)
        let ready = unsafe Glibc.poll(&poll, 1, seconds * 1000)
        if ready == 0 { return .timeout }
        if ready < 0 {
            if errno == EINTR { return nil }
            throw .failed("poll")
        }
        return try lines.fill(from: pipe) ? nil : .closed
    }

    /// The status of `wait(2)`.
    func wait(killing: Bool) -> Int32 {
        if killing { kill(pid, SIGKILL) }
        var status: Int32 = 0
        while unsafe waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return status
    }
}

extension CorpusError {
    /// The system call that just failed.
    static func failed(_ call: String) -> CorpusError {
        let number = errno
        return .system(call, number, unsafe String(cString: strerror(number)))
    }
}
