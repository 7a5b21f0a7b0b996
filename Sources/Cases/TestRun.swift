package import Controller
import Dispatch
import Glibc
import Synchronization
package import UBPFTesting

/// What `ubpfrun test` was asked for.
package struct TestOptions: Sendable {
    package var files: [String] = []
    /// Only cases whose name contains one of these.
    package var filters: [String] = []
    package var format = Report.Format.text
    package var output: String?
    package var isQuiet = false
    /// Files at a time.
    package var jobs = 0
    package var engine = Engine.interpreter
    package var showsCoverage = false
    package var lcov: String?
    /// Percent of lines that have to be covered.
    package var minimumCoverage: Double?

    package init() {}

    var countsCoverage: Bool { showsCoverage || lcov != nil || minimumCoverage != nil }
}

/// `ubpfrun test`: case files, one after the other or several at a time.
package struct TestRun {
    private let options: TestOptions
    private let installation: Installation

    package init(_ options: TestOptions, _ installation: Installation) {
        self.options = options
        self.installation = installation
    }

    /// Runs all, writes the report, and returns the exit code.
    package func execute() -> Int32 {
        let clock = ContinuousClock()
        let began = clock.now
        var files: [CaseFile] = []
        var failures: [Failure] = []
        for path in options.files {
            do throws(Failures) { files.append(try Self.read(path)) } catch { failures += error.all }
        }
        if !failures.isEmpty { return Self.report(failures) }
        let outcomes = run(files)
        var report = Report()
        var coverage = Coverage()
        for outcome in outcomes {
            switch outcome {
            case .success(let (results, reached)):
                report.results += results
                coverage.merge(reached)
            case .failure(let error): failures += error.all
            }
        }
        if !failures.isEmpty { return Self.report(failures) }
        let took = (clock.now - began).components
        report.nanoseconds = UInt64(took.seconds * 1_000_000_000 + took.attoseconds / 1_000_000_000)
        return finish(report, coverage)
    }

    /// Runs all, and again whenever a file beside the case files or their objects changes; `runs` times in all.
    package func watch(runs: Int = .max) {
        for run in 1...runs {
            // As of before the run: what changes during it counts.
            let directories = directories
            let seen = Watch(directories: directories)
            _ = execute()
            if run == runs { return }
            let names = directories.sorted().joined(separator: ", ")
            Messages(isQuiet: options.isQuiet, isVerbose: false).status("waiting for changes in \(names); Ctrl-C ends")
            seen.awaitChange(in: directories)
        }
    }

    /// Where the case files are, and what they test.
    private var directories: Set<String> {
        var found: Set<String> = []
        for path in options.files {
            found.insert(Self.directory(of: path))
            if let file = try? Self.read(path) {
                found.insert(Self.directory(of: Self.place(of: file.object, beside: path)))
            }
        }
        return found
    }

    private static func directory(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private func finish(_ report: Report, _ coverage: Coverage) -> Int32 {
        do throws(Failure) {
            try write(report.text(options.format, isQuiet: options.isQuiet), to: options.output)
            if options.showsCoverage { try write(coverage.summary + "\n", to: nil) }
            if let lcov = options.lcov { try write(coverage.lcov(), to: lcov) }
            if report.results.isEmpty {
                throw Failure(.badOption, "--filter leaves no case", help: "it takes a part of a case's name")
            }
        } catch {
            return Self.report([error])
        }
        // The report says which.
        if report.failed > 0 { return ErrorCode.casesFailed.exitCode }
        if let minimum = options.minimumCoverage, coverage.lines.percent < minimum {
            return Self.report([
                Failure(
                    .coverageTooLow,
                    "lines covered: \(coverage.lines), expected at least \(minimum) %",
                    help: "--coverage shows what is missing"
                )
            ])
        }
        return ExitCode.success
    }

    /// Prints errors; the first one's exit code.
    private static func report(_ failures: [Failure]) -> Int32 {
        for failure in failures { Messages.error(failure) }
        return failures.first?.code.exitCode ?? ExitCode.success
    }

    private func write(_ text: String, to path: String?) throws(Failure) {
        // The sink ends what it writes with a line's end.
        try OutputSink(format: .text, path: path, pid: getpid()).line(String(text.dropLast()))
    }

    // MARK: Files

    struct Failures: Error {
        let all: [Failure]
    }

    static func read(_ path: String) throws(Failures) -> CaseFile {
        guard let text = contents(path) else {
            throw Failures(all: [Failure(.objectNotFound, "no case file \(path)", why: "it cannot be read")])
        }
        switch Parser.parse(text, path: path) {
        case .success(let file): return file
        case .failure(let errors): throw Failures(all: errors.all.map(\.failure))
        }
    }

    private typealias Outcome = Result<([CaseResult], Coverage), Failures>

    /// Runs files, several at a time: each has objects and memory of its own.
    private func run(_ files: [CaseFile]) -> [Outcome] {
        let outcomes = Mutex<[Int: Outcome]>([:])
        let next = Mutex(0)
        let jobs = options.jobs > 0 ? options.jobs : max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        DispatchQueue.concurrentPerform(iterations: min(Int(jobs), files.count)) { _ in
            while true {
                let index = next.withLock { next in
                    defer { next += 1 }
                    return next
                }
                guard index < files.count else { return }
                let outcome = run(files[index])
                outcomes.withLock { $0[index] = outcome }
            }
        }
        return outcomes.withLock { found in files.indices.compactMap { found[$0] } }
    }

    private func run(_ file: CaseFile) -> Outcome {
        let cases = file.cases.filter { test in
            options.filters.isEmpty || options.filters.contains { test.name.contains($0) }
        }
        if cases.isEmpty { return .success(([], Coverage())) }
        let object: BPFObject
        do throws(Failure) { object = try load(file.object, beside: file.path) } catch {
            var failure = error
            failure.place = failure.place ?? "\(file.path):\(file.objectLine)"
            return .failure(Failures(all: [failure]))
        }
        let runner = runner(file, object)
        let results = cases.map { runner.run($0) }
        return .success((results, runner.coverage))
    }

    func runner(_ file: CaseFile, _ object: BPFObject) -> Runner {
        Runner(file, object, countsCoverage: options.countsCoverage, engine: options.engine) { types in
            switch types {
            case "own": .own
            case "kernel": .runningKernel
            default: .object(try load(types, beside: file.path))
            }
        } headers: { header, type in
            let compiled = try CompiledObject.compile(
                header: Self.place(of: header, beside: file.path),
                type: type,
                installation: installation
            )
            return try BPFObject(path: compiled.path)
        }
    }

    /// An object or source, relative to the case file, or a tool's name.
    func load(_ path: String, beside file: String) throws(Failure) -> BPFObject {
        BPFObject(try LoadedProgram.load(Self.place(of: path, beside: file), installation))
    }

    private static func place(of path: String, beside file: String) -> String {
        let slash = file.lastIndex(of: "/")
        let near = path.hasPrefix("/") ? path : (slash.map { String(file[...$0]) } ?? "") + path
        return unsafe access(near, R_OK) == 0 ? near : path
    }

    private static func contents(_ path: String) -> String? {
        guard let file = unsafe fopen(path, "r") else { return nil }
        defer { _ = unsafe fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = unsafe fread(&chunk, 1, chunk.count, file)
            if count == 0 { break }
            bytes += chunk.prefix(count)
        }
        return unsafe ferror(file) == 0 ? String(decoding: bytes, as: UTF8.self) : nil
    }
}
