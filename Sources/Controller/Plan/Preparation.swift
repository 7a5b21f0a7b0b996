import CSession
package import ISA
import Kernel
import Loader
import Verifier
import VerifierInput

/// What is asked of the verifier before programs run.
package struct VerifierPolicy: Equatable, Sendable {
    /// False: programs that it refuses run all the same, with checks as they run.
    package var verifies = true
    /// Programs must not give addresses away.
    package var strictLeaks = false

    /// What programs may do to their process.
    package var permissions: Set<HelperPermission> = []

    package init(verifies: Bool = true, strictLeaks: Bool = false, permissions: Set<HelperPermission> = []) {
        self.verifies = verifies
        self.strictLeaks = strictLeaks
        self.permissions = permissions
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
        let isInProcess = isInProcess(program)
        do {
            let usesModules = !isInProcess && object.kernelTypes == nil
            return try program.relocated(
                local: local,
                target: kernelTypes(of: object),
                modules: usesModules ? KernelTypes.modules : { _ in [] },
                isInProcess: isInProcess
            )
        } catch { throw Failure(error) }
    }

    /// Whether a program is for processes; those for the kernel are checked as such.
    static func isInProcess(_ program: ProgramSpec) -> Bool {
        switch program.attach {
        case .uprobe, .usdt, .none: true
        case .kernel: false
        }
    }

    /// What CO-RE relocates to: what the object was loaded with, the running kernel's types, or where there are none the
    /// built-in ones.
    static func kernelTypes(of object: ObjectSpec) -> BTF {
        object.kernelTypes ?? KernelTypes.shared ?? BTF.builtin
    }

    /// Where the kernel has the fields of a task that programs read; zeros where no program asks for it.
    static func taskLayout(for programs: [ProgramSpec], of object: ObjectSpec) -> csession_task {
        var task = csession_task()
        let asks = programs.contains { program in
            program.instructions.contains {
                Helper(calledBy: $0) == .getCurrentTask || Helper(calledBy: $0) == .getCurrentTaskBtf
            }
        }
        guard asks else { return task }
        let types = kernelTypes(of: object)
        let found = types.types(named: "task_struct").lazy.compactMap { types[$0] }.first { $0.kind == .structure }
        guard let type = found else { return task }
        for index in 0..<type.count {
            let member = types.member(type, index)
            guard let field = TaskField(rawValue: types.name(member)),
                let offset = UInt16(exactly: member.bitOffset / 8)
            else { continue }
            field.place(in: &task, offset)
        }
        return task
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
        subject.permissions = policy.permissions
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

extension TaskField {
    fileprivate func place(in task: inout csession_task, _ offset: UInt16) {
        switch self {
        case .pid: task.pid = offset
        case .tgid: task.tgid = offset
        case .comm: task.comm = offset
        case .realParent: task.real_parent = offset
        case .parent: task.parent = offset
        case .groupLeader: task.group_leader = offset
        case .startTime: task.start_time = offset
        case .startBoottime: task.start_boottime = offset
        case .exitCode: task.exit_code = offset
        }
    }
}
