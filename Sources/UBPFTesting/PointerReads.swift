import CRuntime
import ISA
import Runtime

/// Lets a program follow pointers into the world's memory without a helper, as `tp_btf` and `fentry` programs do.
///
/// As in the kernel (`PROBE_MEM` of kernel/bpf/verifier.c), what cannot be read is 0. The interpreter knows nothing of it: before
/// such a load its base register is turned to a copy of what the world has there, and back after it.
@safe
final class PointerReads: RunWatcher {
    private let execution: Execution
    private let code: [[LinkedInstruction]]
    private var inner: cruntime_observer?
    private var borrowed: Borrowed?

    /// What has to be put back.
    private struct Borrowed {
        let register: Int
        /// Nil where the load wrote to the register.
        let value: UInt64?
        let word: UInt64
    }

    init(_ execution: Execution, _ code: [[LinkedInstruction]], _ inner: cruntime_observer?) {
        self.execution = execution
        self.code = code
        unsafe self.inner = unsafe inner
    }

    /// Programs whose pointers the kernel's verifier knows by their types.
    static func concern(_ type: ProgramType) -> Bool {
        switch type {
        case .tracing, .lsm, .structOps, .extension_: true
        default: false
        }
    }

    /// An observer for the run; this object must outlive it.
    func observer() -> cruntime_observer {
        unsafe cruntime_observer(
            step: { user, context, instruction, registers in
                guard let user = unsafe user else { return 1 }
                let reads = unsafe Unmanaged<PointerReads>.fromOpaque(user).takeUnretainedValue()
                // The interpreter's own registers.
                return unsafe reads.step(context, Int(instruction), UnsafeMutablePointer(mutating: registers))
            },
            user: Unmanaged.passUnretained(self).toOpaque(),
            budget: 0
        )
    }

    private func step(
        _ context: UnsafeMutablePointer<cruntime_context>,
        _ index: Int,
        _ registers: UnsafeMutablePointer<UInt64>
    ) -> Int32 {
        // The end of the stack, where only an eighth frame has anything.
        let place = unsafe UnsafeMutablePointer<UInt64>(bitPattern: UInt(context.pointee.stack_low))
        if let last = borrowed {
            if let value = last.value { unsafe registers[last.register] = value }
            unsafe place?.pointee = last.word
            borrowed = nil
        }
        if let inner = unsafe inner, unsafe ask(inner, context, UInt32(index), registers) == 0 {
            return 0
        }
        let instruction = code[Int(unsafe context.pointee.program)][index]
        guard let size = Self.size(instruction.opcode), let place = unsafe place else { return 1 }
        let base = Int(instruction.src)
        let value = unsafe registers[base]
        let address = value &+ UInt64(bitPattern: Int64(instruction.target))
        if unsafe guestMayRead(context, address, UInt64(size)) { return 1 }
        let bytes = execution.world.memory.bytes(at: address, count: size) ?? []
        borrowed = unsafe Borrowed(
            register: base,
            value: instruction.dst == instruction.src ? nil : value,
            word: place.pointee
        )
        unsafe place.pointee = integer(bytes)
        unsafe registers[base] = context.pointee.stack_low &- UInt64(bitPattern: Int64(instruction.target))
        return 1
    }

    /// Bytes that a load reads; nil for other instructions.
    private static func size(_ opcode: Opcode) -> Int? {
        switch opcode {
        case .load8, .loadSigned8: 1
        case .load16, .loadSigned16: 2
        case .load32, .loadSigned32: 4
        case .load64: 8
        default: nil
        }
    }
}

/// Asks another observer.
private func ask(
    _ observer: cruntime_observer,
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ instruction: UInt32,
    _ registers: UnsafePointer<UInt64>
) -> Int32 {
    unsafe observer.step(observer.user, context, instruction, registers)
}
