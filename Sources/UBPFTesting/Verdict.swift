import Glibc
import ISA
import Loader
import Verifier
import VerifierInput

/// Which kernel's types CO-RE relocations are resolved against.
public enum KernelTypes: Sendable {
    /// The object's own: fields lie where the program's headers say. The same on every machine.
    case own
    /// Those of the running kernel; the object's own where it tells none.
    case runningKernel
    /// Those of another object, as a kernel with other fields would have them; the object's own where it has none.
    case object(BPFObject)

    /// Those of another kernel; nil where it is the object's own.
    var types: Types? {
        switch self {
        case .own: nil
        case .runningKernel: runningKernelTypes.map { Types(btf: $0) }
        case .object(let other): other.types
        }
    }

    func relocate(_ program: ProgramSpec, _ local: BTF) throws(LoaderError) -> ProgramSpec {
        switch self {
        case .own: return try program.relocated(local: local, target: local)
        case .runningKernel: return try program.relocated(local: local, target: runningKernelTypes ?? local)
        case .object(let other):
            guard let types = other.spec.btf else { return try program.relocated(local: local, target: local) }
            func isOther(_ relocation: CoreRelocation) -> Bool {
                guard let type = local[relocation.type] else { return true }
                // A flavour is another name for the same type.
                let name = local.name(type).components(before: "___")
                return !types.types(named: name).isEmpty
            }
            // First what changes nothing but numbers, so that the others' instructions stay where they are.
            var own = program
            own.relocations.removeAll(where: isOther)
            var result = try own.relocated(local: local, target: local)
            result.relocations = program.relocations.filter(isOther)
            return try result.relocated(local: local, target: types)
        }
    }
}

/// What the verifier says about a program.
public enum Verdict: Equatable, Sendable {
    /// It does no harm.
    case accepted
    /// The verifier does not know programs of this type; memory accesses are checked as they run.
    case notChecked(String)
    /// It is refused.
    case rejected(Rejection)

    static func relocate(
        _ program: ProgramSpec,
        of spec: ObjectSpec,
        _ types: KernelTypes
    ) throws(TestingError) -> ProgramSpec {
        if let problem = program.problems.first { throw .program(program.name, problem.description) }
        if program.relocations.isEmpty { return program }
        guard let local = spec.btf else {
            throw .program(program.name, "has CO-RE relocations, but the object has no BTF")
        }
        do { return try types.relocate(program, local) } catch {
            throw TestingError(error)
        }
    }

    static func refusal(_ program: ProgramSpec, of spec: ObjectSpec, _ types: TypeFacts?) -> VerifierError? {
        do {
            _ = try verify(subject(program, of: spec, types))
            return nil
        } catch {
            return error
        }
    }

    /// Programs for the kernel may call helpers that only it has; tests mock them.
    static func subject(_ program: ProgramSpec, of spec: ObjectSpec, _ types: TypeFacts?) -> Subject {
        var subject = Subject(program: program, of: spec, types: types)
        switch program.attach {
        case .kernel: subject.platform = .kernel
        case .none(let hook): subject.platform = hook == "syscall" ? .userspace : .kernel
        case .uprobe, .usdt: subject.platform = .userspace
        }
        return subject
    }
}

/// Why the verifier refuses a program.
public struct Rejection: Equatable, Sendable {
    /// The rule's number, like `V012`.
    public let code: String
    /// The rule's name, like `nullPointer`.
    public let rule: String
    /// Source file, where the object has line information.
    public let file: String?
    /// Source line.
    public let line: Int?
    /// What is wrong, in one line.
    public let message: String
    /// What is wrong, how it came to that and what to do, as `ubpfrun check` prints it.
    public let explanation: String
}

extension BPFObject {
    /// What the verifier says about a program.
    public func verdict(_ name: String, types: KernelTypes = .own) throws(TestingError) -> Verdict {
        guard let original = spec.programs.first(where: { $0.name == name }) else { throw .noProgram(name, programs) }
        let program = try Verdict.relocate(original, of: spec, types)
        let facts = spec.btf.map { TypeFacts($0) }
        guard let error = Verdict.refusal(program, of: spec, facts) else { return .accepted }
        if error.rule == .programType { return .notChecked(error.what) }
        let line = program.lines.last { $0.instruction <= error.instruction }
        let diagnosis = Diagnosis(error, in: Verdict.subject(program, of: spec, facts), of: program)
        return .rejected(
            Rejection(
                code: error.rule.code,
                rule: "\(error.rule)",
                file: line?.file,
                line: line?.line,
                message: error.description,
                explanation: diagnosis.text(code: error.rule.code)
            )
        )
    }

    /// Throws, with the verifier's explanation, where it refuses the program.
    public func expectVerifies(_ program: String, types: KernelTypes = .own) throws(TestingError) {
        switch try verdict(program, types: types) {
        case .accepted: break
        case .notChecked(let why): throw .expectation("\(program) cannot be verified: \(why)")
        case .rejected(let rejection): throw .expectation("\(program) is rejected\n\(rejection.explanation)")
        }
    }

    /// Throws where the verifier accepts the program, or refuses it for another reason or at another line.
    ///
    /// - Parameters:
    ///   - program: the program's name.
    ///   - kind: a rule's number or name, like `V012` or `nullPointer`; nil for any.
    ///   - line: the line of the source; nil for any.
    public func expectRejects(_ program: String, _ kind: String? = nil, line: Int? = nil) throws(TestingError) {
        if let kind, !Rule.allCases.contains(where: { $0.code == kind || "\($0)" == kind }) {
            throw .expectation("the verifier has no rule \(kind); it has: \(Self.rules.joined(separator: ", "))")
        }
        guard case .rejected(let found) = try verdict(program) else {
            throw .expectation("\(program) is accepted, expected a rejection\(kind.map { " (\($0))" } ?? "")")
        }
        if let kind, kind != found.code, kind != found.rule {
            throw .expectation(
                "\(program) is rejected as \(found.rule) (\(found.code)), expected \(kind)\n\(found.message)"
            )
        }
        if let line, line != found.line {
            throw .expectation(
                "\(program) is rejected at line \(found.line.map(String.init) ?? "?"), expected \(line)\n\(found.message)"
            )
        }
    }

    /// Names of the verifier's rules.
    public static var rules: [String] { Rule.allCases.map { "\($0)" } }
}

/// The running kernel's types; nil where it tells none.
private let runningKernelTypes: BTF? = {
    guard let bytes = readFile("/sys/kernel/btf/vmlinux") else { return nil }
    return try? BTF(bytes, name: "/sys/kernel/btf/vmlinux")
}()

extension String {
    /// What stands before the first `separator`; all where there is none.
    fileprivate func components(before separator: String) -> String {
        firstRange(of: separator).map { String(self[..<$0.lowerBound]) } ?? self
    }
}

/// All bytes of a file; nil where it cannot be read.
func readFile(_ path: String) -> [UInt8]? {
    guard let file = unsafe fopen(path, "r") else { return nil }
    defer { _ = unsafe fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = unsafe fread(&chunk, 1, chunk.count, file)
        if count == 0 { return bytes }
        bytes += chunk.prefix(count)
    }
}
