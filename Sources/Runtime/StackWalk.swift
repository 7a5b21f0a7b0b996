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
    guard capacity > 0, let regs = unsafe context.pointee.regs else { return 0 }
    var frame = unsafe WalkFrame(
        pc: cruntime_resolve_stub(regs.pointee.rip),
        sp: regs.pointee.rsp,
        rbp: regs.pointee.rbp,
        low: context.pointee.walk_low,
        high: context.pointee.walk_high,
        // A probe on an instruction stands before it; in a return probe rip is a return address.
        isExact: regs.pointee.rip == context.pointee.function_ip
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
struct WalkFrame {
    var pc: UInt64
    var sp: UInt64
    var rbp: UInt64
    let low: UInt64
    let high: UInt64
    /// `pc` is the instruction itself, not the one after a call.
    var isExact: Bool

    @_noLocks init(pc: UInt64, sp: UInt64, rbp: UInt64, low: UInt64, high: UInt64, isExact: Bool) {
        self.pc = pc
        self.sp = sp
        self.rbp = rbp
        self.low = low
        self.high = high
        self.isExact = isExact
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
        case .fromFramePointer: return advance(cfa: rbp &+ UInt64(bitPattern: Int64(row.cfaOffset)), row.rbpOffset)
        case .complex: return stepByRules(lookup)
        }
    }

    @_noLocks private mutating func advance(cfa: UInt64, _ rbpOffset: Int16) -> Bool {
        // A caller's frame lies above; anything else is a broken stack, and going on could loop.
        guard cfa > sp, let address = load(cfa &- 8), address != 0 else { return false }
        if rbpOffset != 0 {
            guard let saved = load(cfa &+ UInt64(bitPattern: Int64(rbpOffset))) else { return false }
            rbp = saved
        }
        sp = cfa
        pc = cruntime_resolve_stub(address)
        isExact = false
        return true
    }

    @_noLocks private mutating func stepByFramePointer() -> Bool {
        guard rbp >= sp, rbp & 7 == 0, let saved = load(rbp), let address = load(rbp &+ 8), address > 4096 else {
            return false
        }
        sp = rbp &+ 16
        rbp = saved
        pc = cruntime_resolve_stub(address)
        isExact = false
        return true
    }

    @_noLocks private mutating func stepByRules(_ lookup: UInt64) -> Bool {
        var module = unsafe cruntime_module(start: 0, end: 0, bias: 0, eh_frame_hdr: nil, path: nil)
        guard unsafe cruntime_find_module(lookup, &module) != 0,
            let rules = unsafe findUnwindRules(lookup, module: module),
            let cfa = canonicalFrameAddress(rules), cfa > sp || rules.isSignalFrame,
            let address = recover(rules.returnAddress, cfa, pc), address != 0,
            let callerRBP = recover(rules.rbp, cfa, rbp)
        else { return false }
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
        case DwarfRegister.rbp: base = rbp
        default: return nil
        }
        return base &+ UInt64(bitPattern: rules.cfaOffset)
    }

    /// The caller's value of a register whose value here is `current`.
    @_noLocks private func recover(_ rule: RegisterRule, _ cfa: UInt64, _ current: UInt64) -> UInt64? {
        switch rule.kind {
        case .same: return current
        case .undefined: return 0
        case .offset: return load(cfa &+ UInt64(bitPattern: rule.offset))
        case .valueOffset: return cfa &+ UInt64(bitPattern: rule.offset)
        case .expression:
            guard let block = unsafe rule.expression, let at = unsafe evaluateExpression(block, start: cfa, frame: self)
            else { return nil }
            return load(at)
        case .valueExpression:
            guard let block = unsafe rule.expression else { return nil }
            return unsafe evaluateExpression(block, start: cfa, frame: self)
        }
    }
}
