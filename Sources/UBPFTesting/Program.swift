import CRuntime
import Loader
import Runtime
import UBPFVM

/// A program of a ``VM``, ready to run.
public struct Program {
    /// The program's name.
    public let name: String
    let index: Int
    let vm: VM
    let session: LoadedSession

    /// What a run left behind.
    public struct Outcome: Equatable, Sendable {
        /// The program's return value.
        public let result: UInt64
        /// The context bytes, as the program left them; empty for probes.
        public let context: [UInt8]
        /// Instructions that ran.
        public let instructions: UInt64
    }

    /// Runs a probe; it sees `registers` as its `struct pt_regs`.
    @discardableResult
    public func run(
        registers: ProbeRegisters = ProbeRegisters(),
        caller: Caller = Caller()
    ) throws(Trap) -> Outcome {
        var native = registers.native
        let run = unsafe withUnsafeMutablePointer(to: &native) { native in
            let memory = unsafe UnsafeMutableRawBufferPointer(start: native, count: MemoryLayout<cruntime_regs>.size)
            return unsafe execute(memory, regs: native, caller)
        }
        if let trap = run.trap { throw trap }
        return Outcome(result: run.result, context: [], instructions: run.instructions)
    }

    /// Runs a program whose context is plain memory: r1 points to a copy of `context` that it may write, r2 is its size.
    @discardableResult
    public func run(context: [UInt8], caller: Caller = Caller()) throws(Trap) -> Outcome {
        var bytes = context
        let run = unsafe bytes.withUnsafeMutableBytes { unsafe execute($0, regs: nil, caller) }
        if let trap = run.trap { throw trap }
        return Outcome(result: run.result, context: bytes, instructions: run.instructions)
    }

    private func execute(
        _ memory: UnsafeMutableRawBufferPointer,
        regs: UnsafeMutablePointer<cruntime_regs>?,
        _ caller: Caller
    ) -> (result: UInt64, instructions: UInt64, trap: Trap?) {
        var context = unsafe session.context
        let low = UInt64(UInt(bitPattern: memory.baseAddress))
        let high = low + UInt64(memory.count)
        if let regs = unsafe regs {
            unsafe (context.context_low, context.context_high) = (low, high)
            unsafe context.regs = unsafe regs
            unsafe context.function_ip = regs.pointee.rip
        } else {
            unsafe (context.packet_low, context.packet_high) = (low, high)
        }
        unsafe context.pid_tgid = UInt64(caller.pid) << 32 | UInt64(caller.tid)
        unsafe context.uid_gid = UInt64(caller.gid) << 32 | UInt64(caller.uid)
        unsafe context.cookie = caller.cookie
        unsafe context.program = UInt32(index)
        unsafe context.budget = vm.budget
        let view = session.session
        let count = unsafe Int32(view.program(index).pointee.instruction_count)
        let size = unsafe regs == nil ? UInt64(memory.count) : 0
        let result = unsafe Interpreter.run(&context, view.instructions(index), count, r1: low, r2: size)
        let instructions = unsafe vm.budget - context.budget
        guard let trap = unsafe UBPFVM.Trap(&context) else { return (result, instructions, nil) }
        return (result, instructions, session.explain(trap, program: Int(unsafe context.program)))
    }
}
