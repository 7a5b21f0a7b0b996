package import CRuntime

/// Walks the probed thread's stack from the context's registers and writes return addresses, innermost first.
///
/// The first entry is `regs.rip`, as the kernel's user stacks have it. Unwinds by the modules' `.eh_frame`, and by frame
/// pointers where code has none (JIT). Reads nothing outside `walk_low ..< walk_high`. Returns the number of entries
/// written, 0 where the context has no registers.
@_noLocks
package func walkStack(
    _ context: UnsafeMutablePointer<cruntime_context>,
    into frames: UnsafeMutablePointer<UInt64>,
    capacity: Int
) -> Int {
    unsafe walkStack(context, into: frames, capacity: capacity, recording: nil)
}

/// The same, and tells `recorder` of all that the result depends on beside the registers and the unwind tables.
@_noLocks
func walkStack(
    _ context: UnsafeMutablePointer<cruntime_context>,
    into frames: UnsafeMutablePointer<UInt64>,
    capacity: Int,
    recording recorder: UnsafeMutablePointer<StackMemoHeader>?
) -> Int {
    guard capacity > 0, let regs = unsafe context.pointee.regs else { return 0 }
    var frame = unsafe WalkFrame(
        pc: cruntime_resolve_stub(regs.pointee.rip),
        sp: regs.pointee.rsp,
        rbp: regs.pointee.rbp,
        low: context.pointee.walk_low,
        high: context.pointee.walk_high,
        // A probe on an instruction stands before it; in a return probe rip is a return address.
        isExact: regs.pointee.rip == context.pointee.function_ip,
        recorder: recorder
    )
    unsafe frames[0] = frame.pc
    var count = 1
    while count < capacity, unsafe frame.step(context) {
        unsafe frames[count] = frame.pc
        count += 1
    }
    return count
}

/// One frame of a walk: the registers that lead to the next.
@safe struct WalkFrame {
    var pc: UInt64
    var sp: UInt64
    var rbp: UInt64
    let low: UInt64
    let high: UInt64
    /// `pc` is the instruction itself, not the one after a call.
    var isExact: Bool
    let recorder: UnsafeMutablePointer<StackMemoHeader>?

    @_noLocks init(
        pc: UInt64,
        sp: UInt64,
        rbp: UInt64,
        low: UInt64,
        high: UInt64,
        isExact: Bool,
        recorder: UnsafeMutablePointer<StackMemoHeader>?
    ) {
        self.pc = pc
        self.sp = sp
        self.rbp = rbp
        self.low = low
        self.high = high
        self.isExact = isExact
        unsafe self.recorder = unsafe recorder
    }

    /// A word of the walked stack that the walk depends on, or nil outside its bounds.
    @_noLocks func loadNoted(_ address: UInt64) -> UInt64? {
        guard let value = load(address) else { return nil }
        if let recorder = unsafe recorder { unsafe recorder.noteOther(address, value) }
        return value
    }

    /// rbp, which the walk depends on from here on.
    var usedRBP: UInt64 {
        @_noLocks get {
            if let recorder = unsafe recorder { unsafe recorder.noteFramePointerUse(rbp) }
            return rbp
        }
    }

    /// A word of the walked stack, or nil outside its bounds.
    @_noLocks func load(_ address: UInt64) -> UInt64? {
        guard address >= low, address < high, high - address >= 8,
            let pointer = unsafe UnsafeRawPointer(bitPattern: UInt(address))
        else { return nil }
        return unsafe pointer.loadUnaligned(as: UInt64.self)
    }

    /// Goes to the caller's frame; false at the outermost one or where the walk cannot go on.
    @_noLocks mutating func step(_ context: UnsafeMutablePointer<cruntime_context>) -> Bool {
        let lookup = isExact ? pc : pc &- 1
        let row = unsafe unwindRow(lookup, context)
        switch row.kind {
        case .outermost: return false
        case .none: return stepByFramePointer()
        case .fromStackPointer: return advance(cfa: sp &+ UInt64(bitPattern: Int64(row.cfaOffset)), row.rbpOffset)
        case .fromFramePointer: return advance(cfa: usedRBP &+ UInt64(bitPattern: Int64(row.cfaOffset)), row.rbpOffset)
        case .complex: return stepByRules(lookup)
        }
    }

    @_noLocks private mutating func advance(cfa: UInt64, _ rbpOffset: Int16) -> Bool {
        // A caller's frame lies above; anything else is a broken stack, and going on could loop.
        guard cfa > sp, let address = load(cfa &- 8) else { return false }
        if rbpOffset != 0 {
            let place = cfa &+ UInt64(bitPattern: Int64(rbpOffset))
            guard let saved = load(place) else { return false }
            rbp = saved
            if let recorder = unsafe recorder { unsafe recorder.pointee.rbpSource = place }
        }
        return arrive(at: cfa, from: cfa &- 8, address, isReturn: address != 0)
    }

    /// Goes on at `address`, which was found in the word at `place`, where it is a return address.
    @_noLocks @inline(__always)
    private mutating func arrive(at cfa: UInt64, from place: UInt64, _ address: UInt64, isReturn: Bool) -> Bool {
        guard isReturn else {
            if let recorder = unsafe recorder { unsafe recorder.noteOther(place, address) }
            return false
        }
        if let recorder = unsafe recorder { unsafe recorder.noteReturn(place, address) }
        sp = cfa
        pc = cruntime_resolve_stub(address)
        isExact = false
        return true
    }

    @_noLocks private mutating func stepByFramePointer() -> Bool {
        let base = usedRBP
        guard base >= sp, base & 7 == 0, let saved = load(base), let address = load(base &+ 8) else { return false }
        rbp = saved
        if let recorder = unsafe recorder { unsafe recorder.pointee.rbpSource = base }
        return arrive(at: base &+ 16, from: base &+ 8, address, isReturn: address > 4096)
    }

    @_noLocks private mutating func stepByRules(_ lookup: UInt64) -> Bool {
        var module = unsafe cruntime_module(start: 0, end: 0, bias: 0, eh_frame_hdr: nil, path: nil)
        guard unsafe cruntime_find_module(lookup, &module) != 0,
            let rules = unsafe findUnwindRules(lookup, module: module),
            let cfa = canonicalFrameAddress(rules), cfa > sp || rules.isSignalFrame,
            let address = recover(rules.returnAddress, cfa, pc), address != 0,
            let callerRBP = recover(rules.rbp, cfa, rbp, isRBP: true)
        else {
            if let recorder = unsafe recorder { unsafe recorder.noteFailure() }
            return false
        }
        if let recorder = unsafe recorder {
            // Records hold one word for each return address.
            if case .offset = rules.returnAddress.kind, !rules.isSignalFrame {
                unsafe recorder.noteReturn(cfa &+ UInt64(bitPattern: rules.returnAddress.offset), address)
            } else {
                unsafe recorder.noteFailure()
            }
        }
        sp = cfa
        rbp = callerRBP
        pc = cruntime_resolve_stub(address)
        isExact = rules.isSignalFrame
        return true
    }

    @_noLocks private func canonicalFrameAddress(_ rules: UnwindRules) -> UInt64? {
        if let expression = unsafe rules.cfaExpression {
            return unsafe evaluateExpression(expression, start: nil, frame: self)
        }
        let base: UInt64
        switch rules.cfaRegister {
        case DwarfRegister.rsp: base = sp
        case DwarfRegister.rbp: base = usedRBP
        default: return nil
        }
        return base &+ UInt64(bitPattern: rules.cfaOffset)
    }

    /// The caller's value of a register whose value here is `current`.
    @_noLocks
    private func recover(_ rule: RegisterRule, _ cfa: UInt64, _ current: UInt64, isRBP: Bool = false) -> UInt64? {
        var source = StackMemoHeader.rbpRecorded
        let value: UInt64?
        switch rule.kind {
        case .same: return current
        case .undefined: value = 0
        case .offset:
            source = cfa &+ UInt64(bitPattern: rule.offset)
            value = load(source)
        case .valueOffset: value = cfa &+ UInt64(bitPattern: rule.offset)
        case .expression:
            guard let block = unsafe rule.expression, let at = unsafe evaluateExpression(block, start: cfa, frame: self)
            else { return nil }
            source = at
            value = load(at)
        case .valueExpression:
            guard let block = unsafe rule.expression else { return nil }
            value = unsafe evaluateExpression(block, start: cfa, frame: self)
        }
        if isRBP, let recorder = unsafe recorder { unsafe recorder.pointee.rbpSource = source }
        return value
    }
}
