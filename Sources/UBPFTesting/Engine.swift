import CRuntime
import CWorld
import ISA
import JIT
import Runtime
import UBPFVM

/// What runs a program.
public enum Engine: String, CaseIterable, Sendable {
    /// The interpreter: checks every access, and counts coverage.
    case interpreter
    /// Compiled, with the interpreter's checks.
    case checkedJIT = "checked-jit"
    /// Compiled without checks, as verified programs run in targets. Only for programs that the verifier accepts.
    case jit
    /// The running kernel, by `BPF_PROG_TEST_RUN`: for root, and programs of the types that it takes. Its helpers tell of the real
    /// world, not of the ``World``.
    case kernel

    /// Whether this process may use it here.
    public var isAvailable: Bool {
        switch self {
        case .interpreter, .checkedJIT, .jit: true
        case .kernel: KernelEngine.isAvailable
        }
    }
}

/// The programs of a session as machine code.
@safe
final class Compiled {
    private let code: CompiledPrograms

    init(_ programs: [[LinkedInstruction]], _ session: SessionView, isChecked: Bool) throws(TestingError) {
        var options = CompileOptions(isChecked ? .checked : .unchecked, session: session)
        unsafe options.externals = cworld_table()
        var failure: CodeError?
        var result: CompiledPrograms?
        // The compiler reads each program where it lies in the session.
        let buffers = unsafe programs.indices.map { index in
            unsafe UnsafeBufferPointer(start: session.instructions(index), count: programs[index].count)
        }
        do throws(CodeError) { result = unsafe try CompiledPrograms.compile(buffers, options) } catch {
            failure = error
        }
        if let failure { throw .compile("\(failure)") }
        guard let result = result.take() else { throw .compile("no code") }
        code = result
    }

    func run(_ context: UnsafeMutablePointer<cruntime_context>, program: Int, r1: UInt64, r2: UInt64) -> UInt64 {
        unsafe context.pointee.trap.kind = 0
        unsafe context.pointee.trap.instruction = UInt32.max
        unsafe context.pointee.tail_calls = 0
        unsafe prepareWindows(context)
        let result = unsafe cruntime_run(code.entry(program), context, r1, r2)
        unsafe endRun(context)
        return result
    }
}
