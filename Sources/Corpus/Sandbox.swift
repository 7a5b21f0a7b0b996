internal import Glibc

/// Judges records in child processes, so that nothing that happens to one of them stops the others.
@safe
struct Sandbox: ~Copyable {
    private let options: Options
    /// Where the child says what it does.
    private let page: UnsafeMutablePointer<Int32>

    /// Seconds that reading and verifying a record may take, and each engine's run of it.
    private static var patience: Int32 { 30 }
    private static var runPatience: Int32 { 5 }

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
        var accident: Accident?
        while next < jobs.count {
            let child = try start(jobs[next...], after: accident)
            var lines = LineReader()
            var end: End?
            let first = next
            while end == nil {
                end = try wait(for: child, &lines)
                while let line = lines.next() {
                    try output(line + [UInt8(ascii: "\n")])
                    next += 1
                }
            }
            let status = child.wait(killing: end == .timeout)
            if next == jobs.count { return }
            let stage = unsafe Stage(code: page.pointee)
            let what =
                end == .timeout ? "took more than \(patience(in: stage)) s" : "ended with \(describe(status))"
            let kind = end == .timeout ? "timeout" : "crash"
            let news = Accident(stage: stage, reason: Verdict.Reason(kind: kind, message: "\(stage.name) \(what)"))
            if case .running = stage, accident == nil || next > first {
                // Once more for its verdict, without the engine that went wrong.
                accident = news
                continue
            }
            try output(Array(Verdict(id: jobs[next].id, .unsupported, news.reason).line.utf8) + [UInt8(ascii: "\n")])
            next += 1
            accident = nil
        }
    }

    private func patience(in stage: Stage) -> Int32 {
        if case .running = stage { Self.runPatience } else { Self.patience }
    }

    /// Waits for output or the end of a child, or until what it does takes too long; nil where there was output.
    private func wait(for child: borrowing Child, _ lines: inout LineReader) throws(CorpusError) -> End? {
        var stage = unsafe Stage(code: page.pointee)
        var seconds: Int32 = 0
        while true {
            let end = try child.read(into: &lines, seconds: 1)
            if end != .timeout { return end }
            let now = unsafe Stage(code: page.pointee)
            seconds = now == stage ? seconds + 1 : 0
            stage = now
            if seconds >= patience(in: stage) { return .timeout }
        }
    }

    /// How the last child ended while it ran the first of the next one's jobs.
    private struct Accident {
        var stage: Stage
        var reason: Verdict.Reason
    }

    private func describe(_ status: Int32) -> String {
        status & 0x7f == 0 ? "exit status \(status >> 8 & 0xff)" : "signal \(status & 0x7f)"
    }

    private func start(_ jobs: ArraySlice<Job>, after accident: Accident?) throws(CorpusError) -> Child {
        var ends: [Int32] = [0, 0]
        guard unsafe pipe(&ends) == 0 else { throw .failed("pipe") }
        unsafe page.pointee = Stage.preparing.code
        let pid = fork()
        if pid < 0 { throw .failed("fork") }
        if pid == 0 {
            close(ends[0])
            warmUp()
            var accident = accident
            for job in jobs {
                var verdict = judge(job, options) { stage in
                    if stage == accident?.stage { return false }
                    unsafe page.pointee = stage.code
                    return true
                }
                if let accident { verdict.reason = accident.reason }
                accident = nil
                if !writeAll(Array(verdict.line.utf8) + [UInt8(ascii: "\n")], to: ends[1]) { _exit(74) }
            }
            _exit(0)
        }
        close(ends[1])
        return Child(pid: pid, pipe: ends[0])
    }
}

extension Stage {
    fileprivate var code: Int32 {
        switch self {
        case .preparing: 0
        case .verifying: 1
        case .running(.interpreter): 2
        case .running(.checked): 3
        case .running(.unchecked): 4
        }
    }

    fileprivate init(code: Int32) {
        self =
            switch code {
            case 1: .verifying
            case 2: .running(.interpreter)
            case 3: .running(.checked)
            case 4: .running(.unchecked)
            default: .preparing
            }
    }

    fileprivate var name: String {
        switch self {
        case .preparing: "reading the record"
        case .verifying: "the verifier"
        case .running(let engine): engine.rawValue
        }
    }
}

extension Job {
    fileprivate var id: String? {
        switch record {
        case .success(let record): record.id
        case .failure(let error): error.id
        }
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
