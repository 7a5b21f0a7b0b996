import Loader
import Verifier
import VerifierInput

/// What is asked of the verifier before programs run.
package struct VerifierPolicy: Equatable, Sendable {
    /// False: programs that it refuses run all the same, with checks as they run.
    package var verifies = true
    /// Programs must not give addresses away.
    package var strictLeaks = false

    package init(verifies: Bool = true, strictLeaks: Bool = false) {
        self.verifies = verifies
        self.strictLeaks = strictLeaks
    }
}

/// Programs of an object on their way to a session: relocated, then verified.
enum Preparation {
    /// Applies CO-RE; problems that the loader left for us are errors here.
    static func relocate(_ program: ProgramSpec, of object: ObjectSpec) throws(Failure) -> ProgramSpec {
        if let problem = program.problems.first { throw Failure(problem) }
        guard !program.relocations.isEmpty else { return program }
        guard let local = object.btf else {
            throw Failure(.noBTF, "\(object.name) has CO-RE relocations but no BTF")
        }
        do { return try program.relocated(local: local, target: KernelTypes.shared) } catch { throw Failure(error) }
    }

    /// Verifies a relocated program; the error is returned where the policy lets the program run unverified.
    static func verify(
        _ program: ProgramSpec,
        of object: ObjectSpec,
        _ types: TypeFacts?,
        _ policy: VerifierPolicy
    ) throws(Failure) -> VerifierError? {
        var subject = Subject(program: program, of: object, types: types)
        subject.strictLeaks = policy.strictLeaks
        do throws(VerifierError) {
            _ = try Verifier.verify(subject)
            return nil
        } catch {
            if policy.verifies || error.rule.isStructural {
                throw Failure(Diagnosis(error, in: subject, of: program))
            }
            return error
        }
    }
}

/// The kernel's types, read once; the built-in ones where there are none.
private enum KernelTypes {
    static let shared: BTF = {
        guard case .success(let bytes) = readFile("/sys/kernel/btf/vmlinux") else { return BTF.builtin }
        return (try? BTF(bytes, name: "/sys/kernel/btf/vmlinux")) ?? BTF.builtin
    }()
}
