import ISA
import Kernel

/// The kernel of this machine: verifier, JIT and `BPF_PROG_TEST_RUN`; needs root.
///
/// Programs are of type SYSCALL, whose context is plain memory that is copied back.
final class KernelEngine: Engine {
    static let name = "kernel"
    private let program: KernelProgram

    init(_ program: [Instruction]) throws {
        // BPF_F_SLEEPABLE
        self.program = try KernelProgram(program, type: .syscall, flags: 1 << 4)
    }

    func run(_ context: [UInt8]) throws -> Outcome {
        let run = try program.run(context: context)
        return Outcome(result: run.result, context: run.context)
    }
}
