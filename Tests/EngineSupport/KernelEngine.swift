package import ISA
internal import Kernel

/// The kernel of this machine: verifier, JIT and `BPF_PROG_TEST_RUN`; needs root.
///
/// Programs are of type SYSCALL, whose context is plain memory that is copied back.
package final class KernelEngine: Engine {
    package static let name = "kernel"
    private let program: KernelProgram

    package init(_ program: [Instruction]) throws {
        // BPF_F_SLEEPABLE
        self.program = try KernelProgram(program, type: .syscall, flags: 1 << 4)
    }

    package func run(_ context: [UInt8]) throws -> Outcome {
        let run = try program.run(context: context)
        return Outcome(result: run.result, context: run.context)
    }
}
