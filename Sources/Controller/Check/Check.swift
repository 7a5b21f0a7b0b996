import Glibc
package import ISA
package import Loader
package import Verifier
import VerifierInput

/// What `ubpfrun check` was asked for.
package struct CheckOptions: Equatable, Sendable {
    package var program = ""
    /// Names of the programs to look at; all where empty.
    package var programs: [String] = []
    package var strictLeaks = false
    /// What programs may do to their process.
    package var permissions: Set<HelperPermission> = []
    package var asksKernel = false
    /// A file with the types of another kernel, for CO-RE.
    package var types: String?
    package var isVerbose = false
    package var format = Format.text

    package enum Format: String, CaseIterable, Sendable { case text, json, sarif }

    package init() {}
}

/// What the verifier says about one program.
package struct Verdict: Sendable {
    package var program: String
    package var section: String
    package var type: String
    package var outcome: Outcome
    /// Time of the verifier alone.
    package var microseconds = 0
    package var statistics: Statistics?
    /// The walk, where it was asked for.
    package var log: [String] = []
    package var kernel: KernelVerdict?

    package enum Outcome: Sendable {
        case accepted
        case refused(Failure)
        /// A program of a type that the verifier does not know.
        case notChecked(String)
    }

    package var isRefused: Bool {
        if case .refused = outcome { true } else { false }
    }

    package var isAccepted: Bool {
        if case .accepted = outcome { true } else { false }
    }
}

/// `ubpfrun check`: what the verifier says about each program of an object.
package struct Check {
    private let options: CheckOptions
    private let object: ObjectSpec

    package init(_ options: CheckOptions, _ object: ObjectSpec) throws(Failure) {
        let known = object.programs.map(\.name)
        for name in options.programs where !known.contains(name) {
            throw Failure(
                .unknownProgram,
                "--prog names no program of the object: '\(name)'",
                why: "it has \(known.joined(separator: ", "))",
                help: nearest(name, among: known).map { "did you mean '\($0)'?" }
            )
        }
        if options.asksKernel, geteuid() != 0 {
            throw Failure(
                .notPermitted,
                "--kernel needs root",
                why: "loading a program into the kernel takes CAP_BPF and CAP_PERFMON",
                help: "sudo ubpfrun check --kernel …, or leave --kernel away"
            )
        }
        self.options = options
        self.object = object
    }

    package func verdicts() -> [Verdict] {
        let types = object.btf.map { TypeFacts($0) }
        return object.programs.filter { options.programs.isEmpty || options.programs.contains($0.name) }
            .map { verdict($0, types) }
    }

    private func verdict(_ original: ProgramSpec, _ types: TypeFacts?) -> Verdict {
        var verdict = Verdict(
            program: original.name,
            section: original.section,
            type: original.type.name,
            outcome: .accepted
        )
        let program: ProgramSpec
        do throws(Failure) { program = try Preparation.relocate(original, of: object) } catch {
            verdict.outcome = .refused(error)
            return verdict
        }
        var subject = Subject(program: program, of: object, types: types)
        subject.strictLeaks = options.strictLeaks
        subject.permissions = options.permissions
        subject.platform = Self.platform(program)
        let log = options.isVerbose ? WalkLog(limit: Self.logLimit, mapNames: object.maps.map(\.name)) : nil
        let clock = ContinuousClock()
        let began = clock.now
        do throws(VerifierError) {
            verdict.statistics = try verify(subject, log: log)
        } catch {
            verdict.outcome =
                error.rule == .programType
                ? .notChecked(error.what) : .refused(Failure(Diagnosis(error, in: subject, of: program)))
        }
        let took = (clock.now - began).components
        verdict.microseconds = Int(took.seconds * 1_000_000 + took.attoseconds / 1_000_000_000_000)
        if let log {
            verdict.log = log.lines
            if log.omitted > 0 { verdict.log.append("… \(log.omitted) more steps") }
        }
        if options.asksKernel { verdict.kernel = KernelVerdict.ask(program, of: object) }
        return verdict
    }

    /// Lines of a program's walk.
    private static let logLimit = 5000

    /// Programs that attach to the kernel are checked for there.
    private static func platform(_ program: ProgramSpec) -> Subject.Platform {
        switch program.attach {
        case .uprobe, .usdt, .none: .userspace
        case .kernel: .kernel
        }
    }

    /// Checks and prints; the exit code.
    package static func execute(_ options: CheckOptions) -> Int32 {
        do throws(Failure) {
            let object = try LoadedProgram.load(options.program, types: options.types, Installation.current)
            let verdicts = try Check(options, object).verdicts()
            let report = CheckReport(object: object.name, verdicts: verdicts)
            let sink = try OutputSink(format: .text, path: nil, pid: getpid())
            switch options.format {
            case .text: try sink.line(report.text)
            case .json: try sink.line(report.json)
            case .sarif: try sink.line(report.sarif)
            }
            return verdicts.contains(where: \.isRefused) ? ExitCode.data : ExitCode.success
        } catch {
            Messages.error(error)
            return error.code.exitCode
        }
    }
}
