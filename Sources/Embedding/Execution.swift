internal import CRuntime
internal import ISA
internal import Runtime
internal import UBPFVM

/// Memory of a caller that a program may read and write.
struct CallerMemory {
    let low: UInt64
    let high: UInt64

    init(_ start: UnsafeMutableRawPointer?, _ size: Int) throws(EmbeddingError) {
        low = UInt64(UInt(bitPattern: start))
        if low == 0, size != 0 { throw .noMemory }
        let (end, overflow) = low.addingReportingOverflow(UInt64(UInt(bitPattern: size)))
        if overflow { throw .memoryWraps }
        high = end
    }
}

extension Machine {
    /// Bytes of the stack that a run has.
    private static var stackSize: Int { Int(Interpreter.maximumFrames * Interpreter.frameSize) }

    /// Interprets the program; r0.
    func run(_ memory: CallerMemory) throws(EmbeddingError) -> UInt64 {
        // Kept over the run, even if a helper loads another program.
        let program = unsafe state.pointee.program
        guard !program.linked.isEmpty else { throw .noProgram }
        var result: UInt64 = 0
        let trap = unsafe withContext(memory) { context in
            result = unsafe program.linked.withUnsafeBufferPointer { code in
                guard let start = code.baseAddress else { return 0 }
                return unsafe Interpreter.run(
                    context,
                    start,
                    Int32(truncatingIfNeeded: code.count),
                    r1: memory.low,
                    r2: memory.high - memory.low
                )
            }
        }
        if let trap = Trap(trap) { throw .stopped(trap, in: program.instructions) }
        return result
    }

    /// Runs the compiled program with its checks; r0, or all ones where it was stopped.
    func enterChecked(_ memory: CallerMemory) -> UInt64 {
        let code = unsafe state.pointee.code
        var result: UInt64 = 0
        let trap = unsafe withContext(memory) { context in
            result = unsafe cruntime_run(code, context, memory.low, memory.high - memory.low)
        }
        if trap.kind == 0 { return result }
        unsafe StoppedRuns.record(&state.pointee.stops, trap)
        return UInt64.max
    }

    /// Calls `body` with a context whose stack lies on the native one; the trap that ended the run.
    @inline(__always)
    private func withContext(
        _ memory: CallerMemory,
        _ body: (UnsafeMutablePointer<cruntime_context>) -> Void
    ) -> cruntime_trap {
        var context = unsafe cruntime_context()
        unsafe withUnsafeTemporaryAllocation(byteCount: Self.stackSize, alignment: 16) { stack in
            guard let low = stack.baseAddress else { return }
            // A program must not see what the caller's functions left there.
            unsafe cruntime_zero(low, UInt64(Self.stackSize))
            unsafe context.stack_low = UInt64(UInt(bitPattern: low))
            unsafe context.stack_high = context.stack_low + UInt64(Self.stackSize)
            unsafe context.packet_low = memory.low
            unsafe context.packet_high = memory.high
            unsafe (context.guest_low, context.guest_high) = unsafe state.pointee.allowed
            unsafe context.budget = unsafe state.pointee.budget
            unsafe context.user_helpers = unsafe helpers
            unsafe context.cpu_slot = -1
            unsafe body(&context)
        }
        return unsafe context.trap
    }
}

/// What a checked compiled function calls.
@c(ubpf_enter_checked)
func enterChecked(_ vm: OpaquePointer?, _ memory: UnsafeMutableRawPointer?, _ size: Int) -> UInt64 {
    guard let machine = unsafe Machine(vm) else { return UInt64.max }
    do {
        return machine.enterChecked(try unsafe CallerMemory(memory, size))
    } catch {
        // No address of the program's.
        var trap = cruntime_trap()
        trap.kind = 1
        trap.value = UInt64(UInt(bitPattern: memory))
        unsafe StoppedRuns.record(&machine.state.pointee.stops, trap)
        return UInt64.max
    }
}
