/// Evaluates the DWARF expressions (DWARF 5 section 2.5) that unwind tables contain: PLT stubs, signal frames,
/// realigned stacks, hand-written assembly.
@_noLocks
func evaluateExpression(_ block: UnsafePointer<UInt8>, start: UInt64?, frame: WalkFrame) -> UInt64? {
    var length = unsafe DwarfReader(block, count: 10)
    let size = length.uleb()
    guard size <= 256 else { return nil }
    var reader = unsafe DwarfReader(length.at, count: Int(size))
    var stack = InlineArray<16, UInt64>(repeating: 0)
    var depth = 0
    if let start {
        stack[0] = start
        depth = 1
    }
    while !reader.isAtEnd {
        let opcode = reader.byte()
        var pushed: UInt64?
        switch opcode {
        case 0x06:  // deref
            guard depth > 0, let value = frame.loadNoted(stack[depth - 1]) else { return nil }
            stack[depth - 1] = value
        case 0x08: pushed = reader.fixed(1)
        case 0x09: pushed = UInt64(bitPattern: reader.signedFixed(1))
        case 0x0a: pushed = reader.fixed(2)
        case 0x0b: pushed = UInt64(bitPattern: reader.signedFixed(2))
        case 0x0c: pushed = reader.fixed(4)
        case 0x0d: pushed = UInt64(bitPattern: reader.signedFixed(4))
        case 0x0e, 0x0f: pushed = reader.fixed(8)
        case 0x10: pushed = reader.uleb()
        case 0x11: pushed = UInt64(bitPattern: reader.sleb())
        case 0x12:  // dup
            guard depth > 0 else { return nil }
            pushed = stack[depth - 1]
        case 0x13:  // drop
            guard depth > 0 else { return nil }
            depth -= 1
        case 0x14:  // over
            guard depth > 1 else { return nil }
            pushed = stack[depth - 2]
        case 0x1a, 0x1c, 0x1e, 0x21, 0x22, 0x24, 0x25, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e:
            guard depth > 1 else { return nil }
            stack[depth - 2] = apply(opcode, stack[depth - 2], stack[depth - 1])
            depth -= 1
        case 0x20:  // not
            guard depth > 0 else { return nil }
            stack[depth - 1] = ~stack[depth - 1]
        case 0x23:  // plus_uconst
            guard depth > 0 else { return nil }
            stack[depth - 1] &+= reader.uleb()
        case 0x30...0x4f: pushed = UInt64(opcode - 0x30)  // lit0...lit31
        case 0x70...0x8f:  // breg0...breg31
            let offset = UInt64(bitPattern: reader.sleb())
            switch UInt64(opcode - 0x70) {
            case DwarfRegister.rbp: pushed = frame.usedRBP &+ offset
            case DwarfRegister.rsp: pushed = frame.sp &+ offset
            case DwarfRegister.returnAddress: pushed = frame.pc &+ offset
            default: return nil
            }
        case 0x96: break  // nop
        default: return nil
        }
        if let value = pushed {
            guard depth < 16 else { return nil }
            stack[depth] = value
            depth += 1
        }
    }
    return depth > 0 ? stack[depth - 1] : nil
}

/// The binary operators, with the second operand on top.
@_noLocks
private func apply(_ opcode: UInt8, _ a: UInt64, _ b: UInt64) -> UInt64 {
    let (x, y) = (Int64(bitPattern: a), Int64(bitPattern: b))
    switch opcode {
    case 0x1a: return a & b
    case 0x1c: return a &- b
    case 0x1e: return a &* b
    case 0x21: return a | b
    case 0x22: return a &+ b
    case 0x24: return b < 64 ? a &<< b : 0
    case 0x25: return b < 64 ? a &>> b : 0
    case 0x29: return x == y ? 1 : 0
    case 0x2a: return x >= y ? 1 : 0
    case 0x2b: return x > y ? 1 : 0
    case 0x2c: return x <= y ? 1 : 0
    case 0x2d: return x < y ? 1 : 0
    default: return x != y ? 1 : 0
    }
}
