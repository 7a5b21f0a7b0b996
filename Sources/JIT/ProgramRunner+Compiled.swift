internal import CRuntime
internal import Runtime
package import UBPFVM

extension ProgramRunner {
    /// Runs a compiled program with a zeroed stack and returns r0, as `run` does with an interpreted one.
    package mutating func run(
        _ compiled: borrowing CompiledPrograms,
        r1: UInt64? = nil,
        r2: UInt64? = nil
    ) throws(Trap) -> UInt64 {
        let entry = compiled.entry()
        return unsafe try runAny(r1: r1, r2: r2) { context, first, second in
            let result = unsafe cruntime_run(entry, context, first, second)
            unsafe endRun(context)
            return result
        }
    }
}
