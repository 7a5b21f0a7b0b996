internal import CRuntime
internal import Runtime

/// Code that all programs of a compilation share: slow checks, traps and the way out.
struct SharedCode {
    /// Where a run that ends early goes: restores what the entry saved.
    let leave: Label
    /// The addresses of all programs' bodies, for tail calls.
    let programs: Label
    /// Whether any code ends runs early, so that entries have to save everything.
    private(set) var canLeave = false
    private var checks = InlineArray<8, Label?>(repeating: nil)
    private var traps = InlineArray<16, Label?>(repeating: nil)
    private var helper: Label?
    /// Where the program that is compiled now looks its functions up.
    private var lookup: Label?

    init(_ assembler: inout Assembler) {
        leave = assembler.makeLabel()
        programs = assembler.makeLabel()
    }

    /// Goes on only if the bytes at r11 are in some range of the program's; r10 names the instruction.
    mutating func slowCheck(_ size: AccessSize, isWrite: Bool, _ assembler: inout Assembler) -> Label {
        let slot = Int(size.rawValue) * 2 + (isWrite ? 1 : 0)
        if let label = checks[slot] { return label }
        let label = assembler.makeLabel()
        checks[slot] = label
        return label
    }

    /// Stores a trap of this kind: r10 names the instruction, r11 holds the value.
    mutating func raise(_ kind: TrapKind, _ assembler: inout Assembler) -> Label {
        canLeave = true
        let slot = Int(kind.code)
        if let label = traps[slot] { return label }
        let label = assembler.makeLabel()
        traps[slot] = label
        return label
    }

    /// Adds the instruction in r10 to a trap that is raised already.
    mutating func helperTrap(_ assembler: inout Assembler) -> Label {
        if let helper { return helper }
        let label = assembler.makeLabel()
        helper = label
        return label
    }

    /// r10 = the code of the function whose handle is in r11, or 0 and in r11 the index that is none.
    mutating func functionLookup(_ assembler: inout Assembler) -> Label {
        if let lookup { return lookup }
        let label = assembler.makeLabel()
        lookup = label
        return label
    }

    /// Writes the lookup behind a program that asked for it.
    mutating func writeLookup(_ functions: [ProgramLayout.Function], _ asm: inout Assembler) {
        guard let label = lookup.take() else { return }
        let (found, missing) = (asm.makeLabel(), asm.makeLabel())
        asm.bind(missing)
        asm.mov(.r11, .r11, .w32)
        asm.alu(.xor, .r10, .r10, .w32)
        asm.bind(found)
        asm.ret()
        asm.bind(label)
        writeTree(functions, 0, functions.count, found, missing, &asm)
    }

    /// Comparisons with functions, which are in order, as a tree: neither its code nor its time grows faster than the program.
    private func writeTree(
        _ functions: [ProgramLayout.Function],
        _ low: Int,
        _ high: Int,
        _ found: Label,
        _ missing: Label,
        _ asm: inout Assembler
    ) {
        guard low < high else { return asm.jump(missing) }
        let middle = (low + high) / 2
        let upper = asm.makeLabel()
        asm.lea(.r10, .label(functions[middle].label))
        asm.alu(.cmp, .r11, Int32(truncatingIfNeeded: functions[middle].start), .w32)
        asm.jump(.equal, found)
        asm.jump(.above, upper)
        writeTree(functions, low, middle, found, missing, &asm)
        asm.bind(upper)
        writeTree(functions, middle + 1, high, found, missing, &asm)
    }

    /// Writes what was asked for.
    mutating func write(_ asm: inout Assembler) {
        for size in AccessSize.allCases {
            for isWrite in [false, true] {
                guard let label = checks[Int(size.rawValue) * 2 + (isWrite ? 1 : 0)] else { continue }
                asm.bind(label)
                writeCheck(size, isWrite: isWrite, &asm)
            }
        }
        for kind in TrapKind.allCases {
            guard let label = traps[Int(kind.code)] else { continue }
            asm.bind(label)
            asm.store(.base(.r12, ContextOffset.trapKind), immediate: Int32(kind.code), size: .b32)
            asm.store(.base(.r12, ContextOffset.trapValue), .r11)
            asm.store(.base(.r12, ContextOffset.trapInstruction), .r10, .w32)
            asm.jump(leave)
        }
        if let helper {
            asm.bind(helper)
            asm.store(.base(.r12, ContextOffset.trapInstruction), .r10, .w32)
            asm.jump(leave)
        }
    }

    private mutating func writeCheck(_ size: AccessSize, isWrite: Bool, _ asm: inout Assembler) {
        let inside = asm.makeLabel()
        asm.push(.rax)
        for range in MemoryRange.allCases where range.isWritable || !isWrite {
            let next = asm.makeLabel()
            if range.needsFlag, isWrite {
                asm.alu(.cmp, .base(.r12, ContextOffset.contextWritable), 0, .w32)
                asm.jump(.equal, next)
            }
            asm.alu(.cmp, .r11, .base(.r12, range.offset))
            asm.jump(.below, next)
            asm.load(.rax, .base(.r12, range.offset + 8))
            asm.alu(.sub, .rax, .r11)
            asm.jump(.below, next)
            asm.alu(.cmp, .rax, size.bytes)
            asm.jump(.aboveEqual, inside)
            asm.bind(next)
        }
        asm.pop(.rax)
        asm.jump(raise(isWrite ? .badWrite : .badRead, &asm))
        asm.bind(inside)
        asm.pop(.rax)
        asm.ret()
    }
}

/// The ranges that programs may touch, as `guestMayRead` and `guestMayWrite` know them.
private enum MemoryRange: CaseIterable {
    case stack, guest, packet, context, rodata, keys

    var isWritable: Bool {
        switch self {
        case .stack, .guest, .packet, .context: true
        case .rodata, .keys: false
        }
    }

    /// Writable only where the context says so.
    var needsFlag: Bool {
        switch self {
        case .context: true
        case .stack, .guest, .packet, .rodata, .keys: false
        }
    }

    /// Offset of the range's lower end in a context; the upper one follows.
    var offset: Int32 {
        switch self {
        case .stack: Int32(truncatingIfNeeded: CRUNTIME_STACK)
        case .guest: Int32(truncatingIfNeeded: CRUNTIME_GUEST)
        case .packet: Int32(truncatingIfNeeded: CRUNTIME_PACKET)
        case .context: Int32(truncatingIfNeeded: CRUNTIME_CONTEXT)
        case .rodata: Int32(truncatingIfNeeded: CRUNTIME_RODATA)
        case .keys: Int32(truncatingIfNeeded: CRUNTIME_KEYS)
        }
    }
}
