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
        if size < 0 { throw .memoryWraps }
        let (end, overflow) = low.addingReportingOverflow(UInt64(UInt(bitPattern: size)))
        if overflow { throw .memoryWraps }
        high = end
    }
}

extension Machine {
    /// Interprets the program; r0.
    func run(_ memory: CallerMemory) throws(EmbeddingError) -> UInt64 {
        // Kept over the run, even if a helper loads another program.
        let program = unsafe state.pointee.program
        guard !program.linked.isEmpty else { throw .noProgram }
        // As is what it may execute.
        let budget = unsafe state.pointee.budget
        var result: UInt64 = 0
        let trap = unsafe withContext(memory, program.stackSize) { context in
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
            unsafe state.pointee.executed = unsafe budget &- context.pointee.budget
        }
        if let trap = Trap(trap) { throw .stopped(trap, in: program.instructions) }
        return result
    }

    /// What a checked function returns whose run was stopped.
    fileprivate func stopped(_ trap: cruntime_trap) -> UInt64 {
        unsafe StoppedRuns.record(&state.pointee.stops, trap)
        return UInt64.max
    }

    /// Calls `body` with a context and its stack; the trap that ended the run.
    private func withContext(
        _ memory: CallerMemory,
        _ stackSize: Int,
        _ body: (UnsafeMutablePointer<cruntime_context>) -> Void
    ) -> cruntime_trap {
        var context = unsafe cruntime_context()
        unsafe withUnsafeTemporaryAllocation(byteCount: Int(CRUNTIME_STACK_SIZE), alignment: 16) { stack in
            guard let low = stack.baseAddress else { return }
            let high = UInt64(UInt(bitPattern: low)) + UInt64(CRUNTIME_STACK_SIZE)
            unsafe prepare(&context, memory, stackSize, high)
            unsafe body(&context)
        }
        return unsafe context.trap
    }

    /// Sets what a checked run needs in a zeroed context.
    @inline(__always)
    fileprivate func prepare(
        _ context: UnsafeMutablePointer<cruntime_context>,
        _ memory: CallerMemory,
        _ stackSize: Int,
        _ stackHigh: UInt64
    ) {
        unsafe context.pointee.stack_low = stackHigh - UInt64(stackSize)
        unsafe context.pointee.stack_high = stackHigh
        // A program must not see what the caller's functions left there.
        if let low = unsafe UnsafeMutablePointer<UInt64>(bitPattern: UInt(context.pointee.stack_low)) {
            if stackSize == 8 { unsafe low.pointee = 0 } else { unsafe cruntime_zero(low, UInt64(stackSize)) }
        }
        unsafe context.pointee.packet_low = memory.low
        unsafe context.pointee.packet_high = memory.high
        unsafe (context.pointee.guest_low, context.pointee.guest_high) = unsafe state.pointee.allowed
        unsafe context.pointee.budget = unsafe state.pointee.budget
        unsafe context.pointee.user_helpers = unsafe helpers
        unsafe context.pointee.cpu_slot = -1
        unsafe context.pointee.trap.instruction = UInt32.max
        unsafe prepareWindows(context)
    }
}

/// Goes on with a run of checked code; r0, or all ones where it was stopped.
let enterChecked:
    @convention(c) (
        UnsafeMutableRawPointer?, Int, UnsafeMutableRawPointer, UInt64, UnsafeMutablePointer<cruntime_context>, UInt64
    ) -> UInt64 = { start, size, vm, code, context, stackHigh in
        guard let machine = unsafe Machine(OpaquePointer(vm)) else { return UInt64.max }
        do throws(EmbeddingError) {
            let memory = try unsafe CallerMemory(start, size)
            unsafe machine.prepare(context, memory, machine.state.pointee.program.stackSize, stackHigh)
            let result = unsafe cruntime_run(code, context, memory.low, memory.high - memory.low)
            return unsafe context.pointee.trap.kind == 0 ? result : machine.stopped(context.pointee.trap)
        } catch {
            // A caller's mistake that a program would make: memory that is none.
            var trap = cruntime_trap()
            trap.kind = TrapKind.badArgument.code
            trap.instruction = UInt32(EmbeddingError.noInstruction)
            trap.value = UInt64(UInt(bitPattern: start))
            return machine.stopped(trap)
        }
    }
