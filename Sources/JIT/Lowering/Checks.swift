internal import CRuntime
internal import ISA
internal import Runtime

// Checked code: what keeps a program that no verifier has seen from harm.

/// Where fields of a context are, for addressing.
enum ContextOffset {
    static var scratch: Int32 { Int32(truncatingIfNeeded: CRUNTIME_MACHINE_SCRATCH) }
    static var stackPointer: Int32 { Int32(truncatingIfNeeded: CRUNTIME_MACHINE_STACK) }
    static var budget: Int32 { Int32(truncatingIfNeeded: CRUNTIME_BUDGET) }
    static var pidTgid: Int32 { Int32(truncatingIfNeeded: CRUNTIME_PID_TGID) }
    static var cpuSlot: Int32 { Int32(truncatingIfNeeded: CRUNTIME_CPU_SLOT) }
    static var trapKind: Int32 { Int32(truncatingIfNeeded: CRUNTIME_TRAP) }
    static var trapInstruction: Int32 { trapKind + 4 }
    static var trapValue: Int32 { trapKind + 8 }
    static var stackLow: Int32 { Int32(truncatingIfNeeded: CRUNTIME_STACK) }
    static var stackHigh: Int32 { stackLow + 8 }
    static var contextWritable: Int32 { Int32(truncatingIfNeeded: CRUNTIME_CONTEXT_WRITABLE) }
}

extension CompileOptions {
    /// Offset of the `cruntime_window` that is looked at first for an access.
    func window(_ origin: Origin, isWrite: Bool) -> Int32 {
        switch origin {
        case .stack: return Int32(truncatingIfNeeded: CRUNTIME_STACK_WINDOW)
        case .context:
            if hasPacket { return Int32(truncatingIfNeeded: CRUNTIME_PACKET_WINDOW) }
            if !isWrite { return Int32(truncatingIfNeeded: CRUNTIME_CONTEXT_WINDOW) }
        case .unknown: if session == nil { return Int32(truncatingIfNeeded: CRUNTIME_PACKET_WINDOW) }
        case .guest: break
        }
        return Int32(truncatingIfNeeded: CRUNTIME_GUEST_WINDOW)
    }
}

/// Code behind a program that runs when something is not as usual.
enum Stub {
    /// The address in r11 is not where it was looked for first: asks everywhere, then goes on at `back`.
    case check(Label, back: Label, instruction: Int, AccessSize, isWrite: Bool)
    /// Ends the run.
    case trap(Label, instruction: Int, TrapKind, TrapValue)
    /// A helper raised a trap: adds the instruction and ends the run.
    case helperTrap(Label, instruction: Int)
}

/// What goes into `trap.value`.
enum TrapValue {
    case r11
    case number(Int64)
}

extension Lowering {
    /// Checks the address in r11 for an access that follows.
    mutating func check(_ register: Int, _ size: AccessSize, isWrite: Bool, isAtomic: Bool) {
        let window = options.window(origins[register], isWrite: isWrite)
        let (slow, back) = (asm.makeLabel(), asm.makeLabel())
        asm.mov(.r10, .r11)
        asm.alu(.sub, .r10, .base(.r12, window))
        asm.alu(.cmp, .r10, .base(.r12, window + 8))
        asm.jump(.above, slow)
        asm.bind(back)
        stubs.append(.check(slow, back: back, instruction: index, size, isWrite: isWrite))
        if isAtomic, size != .b8 {
            asm.test(.r11, size.bytes - 1, .w32)
            asm.jump(.notEqual, trap(.misaligned, .r11))
        }
    }

    /// A label that ends the run.
    mutating func trap(_ kind: TrapKind, _ value: TrapValue) -> Label {
        let label = asm.makeLabel()
        stubs.append(.trap(label, instruction: index, kind, value))
        return label
    }

    /// An instruction that cannot run here; reaching it is a trap.
    mutating func unsupported(_ number: Int64) {
        flush(0)
        asm.jump(trap(.unsupported, .number(number)))
    }

    /// Takes what is charged here from the budget.
    mutating func chargeBudget() {
        let count = layout.charges[index]
        if count == 0 { return }
        asm.alu(.sub, .r9, count)
        asm.jump(.less, trap(.budget, .number(0)))
    }

    /// Stops at the ninth frame.
    mutating func checkDepth() {
        guard options.checksDepth else { return }
        asm.lea(.r10, .base(.rbp, -512))
        asm.alu(.cmp, .r10, .base(.r12, ContextOffset.stackLow))
        asm.jump(.belowEqual, trap(.callDepth, .number(8)))
    }

    /// Ends the run where a helper raised a trap.
    mutating func checkHelper() {
        guard isChecked else { return }
        asm.alu(.cmp, .base(.r12, ContextOffset.trapKind), 0, .w32)
        let label = asm.makeLabel()
        stubs.append(.helperTrap(label, instruction: index))
        asm.jump(.notEqual, label)
    }

    // MARK: - Behind the program

    mutating func writeStubs() throws(CodeError) {
        for stub in stubs {
            switch stub {
            case .check(let label, let back, let instruction, let size, isWrite: let isWrite):
                asm.bind(label)
                asm.mov(.r10, UInt64(UInt32(truncatingIfNeeded: instruction)))
                asm.call(shared.slowCheck(size, isWrite: isWrite, &asm))
                asm.jump(back)
            case .trap(let label, let instruction, let kind, let value):
                asm.bind(label)
                asm.mov(.r10, UInt64(UInt32(truncatingIfNeeded: instruction)))
                if case .number(let number) = value { asm.mov(.r11, UInt64(bitPattern: number)) }
                asm.jump(shared.raise(kind, &asm))
            case .helperTrap(let label, let instruction):
                asm.bind(label)
                asm.mov(.r10, UInt64(UInt32(truncatingIfNeeded: instruction)))
                asm.jump(shared.helperTrap(&asm))
            }
        }
        stubs.removeAll(keepingCapacity: true)
    }
}
