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
    /// Interprets the program; r0.
    func run(_ memory: CallerMemory) throws(EmbeddingError) -> UInt64 {
        // Kept over the run, even if a helper loads another program.
        let program = unsafe state.pointee.program
        guard !program.linked.isEmpty else { throw .noProgram }
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
        }
        if let trap = Trap(trap) { throw .stopped(trap, in: program.instructions) }
        return result
    }

    /// Runs compiled code with its checks; r0, or all ones where it was stopped.
    fileprivate func enterChecked(_ memory: CallerMemory, _ code: UInt64) -> UInt64 {
        var result: UInt64 = 0
        let trap = unsafe withContext(memory, state.pointee.program.stackSize) { context in
            result = unsafe cruntime_run(code, context, memory.low, memory.high - memory.low)
        }
        return trap.kind == 0 ? result : stopped(trap)
    }

    /// What a checked function returns whose run was stopped.
    fileprivate func stopped(_ trap: cruntime_trap) -> UInt64 {
        unsafe StoppedRuns.record(&state.pointee.stops, trap)
        return UInt64.max
    }

    /// Calls `body` with a context whose stack lies on the native one; the trap that ended the run.
    @inline(__always)
    private func withContext(
        _ memory: CallerMemory,
        _ stackSize: Int,
        _ body: (UnsafeMutablePointer<cruntime_context>) -> Void
    ) -> cruntime_trap {
        var context = unsafe cruntime_context()
        withNativeStack { high in
            unsafe context.stack_low = high - UInt64(stackSize)
            unsafe context.stack_high = high
            // A program must not see what the caller's functions left there.
            if let low = unsafe UnsafeMutableRawPointer(bitPattern: UInt(context.stack_low)) {
                unsafe cruntime_zero(low, UInt64(stackSize))
            }
            unsafe context.packet_low = memory.low
            unsafe context.packet_high = memory.high
            unsafe (context.guest_low, context.guest_high) = unsafe state.pointee.allowed
            unsafe context.budget = unsafe state.pointee.budget
            unsafe context.user_helpers = unsafe helpers
            unsafe context.cpu_slot = -1
            unsafe context.trap.instruction = UInt32.max
            unsafe prepareWindows(&context)
            unsafe body(&context)
        }
        return unsafe context.trap
    }
}

/// Calls `body` with the end of room for a BPF stack, whatever lies in it.
@inline(__always)
private func withNativeStack(_ body: (UInt64) -> Void) {
    let size = Int(Interpreter.maximumFrames * Interpreter.frameSize)
    unsafe withUnsafeTemporaryAllocation(byteCount: size, alignment: 16) { stack in
        guard let low = stack.baseAddress else { return }
        body(UInt64(UInt(bitPattern: low)) + UInt64(size))
    }
}

/// Where a checked compiled function goes on.
@c(ubpf_enter_checked)
func ubpf_enter_checked(_ start: UnsafeMutableRawPointer?, _ size: Int, _ vm: OpaquePointer?, _ code: UInt64) -> UInt64
{
    guard let machine = unsafe Machine(vm) else { return UInt64.max }
    do {
        return machine.enterChecked(try unsafe CallerMemory(start, size), code)
    } catch {
        // A caller's mistake that a program would make: memory that is none.
        var trap = cruntime_trap()
        trap.kind = TrapKind.badArgument.code
        trap.value = UInt64(UInt(bitPattern: start))
        return machine.stopped(trap)
    }
}

/// Where an unchecked compiled function goes on: only what code without checks looks at is prepared.
@c(ubpf_enter_unchecked)
func ubpf_enter_unchecked(
    _ start: UnsafeMutableRawPointer?,
    _ size: Int,
    _ vm: OpaquePointer?,
    _ code: UInt64
) -> UInt64 {
    guard let machine = unsafe Machine(vm) else { return UInt64.max }
    var result: UInt64 = 0
    unsafe withUnsafeTemporaryAllocation(of: cruntime_context.self, capacity: 1) { storage in
        guard let context = storage.baseAddress else { return }
        withNativeStack { high in
            unsafe context.pointee.stack_low = high - Interpreter.maximumFrames * Interpreter.frameSize
            unsafe context.pointee.stack_high = high
            unsafe context.pointee.budget = VirtualMachine.limit(0)
            unsafe context.pointee.user_helpers = unsafe machine.helpers
            unsafe context.pointee.trap.kind = 0
            unsafe context.pointee.callbacks_depth = 0
            result = unsafe cruntime_run(
                code,
                context,
                UInt64(UInt(bitPattern: start)),
                UInt64(UInt(bitPattern: size))
            )
        }
    }
    return result
}
