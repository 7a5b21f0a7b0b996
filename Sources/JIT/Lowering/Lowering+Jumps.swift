internal import ISA

// Jumps: every value that the destination needs is in its register before.

extension Lowering {
    mutating func jump(to target: Int) {
        flush(layout.live[target])
        drop(notIn: 0)
        guard target != index + 1, let label = layout.labels[target] else { return }
        if isNear(target) { asm.jumpShort(label) } else { asm.jump(label) }
    }

    private mutating func jump(_ condition: Condition, to target: Int) {
        guard let label = layout.labels[target] else { return }
        if isNear(target) { asm.jumpShort(condition, label) } else { asm.jump(condition, label) }
    }

    /// Whether a displacement of one byte reaches, for a backward jump surely, for a forward one by an estimate.
    private mutating func isNear(_ target: Int) -> Bool {
        guard options.allowsShortJumps, let label = layout.labels[target] else { return false }
        if target > index { return layout.estimate[target] - layout.estimate[index + 1] < 110 }
        guard let offset = asm.offset(of: label) else { return false }
        return asm.buffer.count + 2 - offset <= 128
    }

    mutating func conditionalJump(
        _ instruction: LinkedInstruction,
        _ comparison: Comparison,
        _ width: OperandWidth,
        _ operand: Operand
    ) {
        let left = Int(instruction.dst)
        let right = Int(instruction.src)
        let (target, next, isInverted) = destinations(instruction)
        var number: Int32? = operand == .imm ? Int32(truncatingIfNeeded: instruction.imm) : nil
        if operand == .reg, right != left, let known = constant(right) {
            number = width == .w64 ? Int32(exactly: known) : Int32(truncatingIfNeeded: known)
        }
        if number == nil { _ = source(right) }
        _ = source(left)
        let operands = UInt16(1) << UInt16(left) | (operand == .reg ? UInt16(1) << UInt16(right) : 0)
        flush(layout.live[target], keeping: layout.live[next] | operands)
        // The two may have been copies of each other's registers, so they are asked again when all is settled.
        let a = source(left)
        if let number {
            switch comparison {
            case .set: asm.test(a, number, width == .w64 && number >= 0 ? .w32 : width)
            case .equal, .notEqual, .greater, .greaterEqual, .less, .lessEqual, .signedGreater, .signedGreaterEqual,
                .signedLess, .signedLessEqual:
                if number == 0 { asm.test(a, a, width) } else { asm.alu(.cmp, a, number, width) }
            }
        } else if comparison == .set {
            asm.test(a, source(right), width)
        } else {
            asm.alu(.cmp, a, source(right), width)
        }
        jump(isInverted ? condition(comparison).inverted : condition(comparison), to: target)
        index = next - 1
    }

    /// Where a conditional jump goes and what comes after it.
    private mutating func destinations(_ instruction: LinkedInstruction) -> (target: Int, next: Int, isInverted: Bool) {
        let target = Int(instruction.target)
        guard let far = unsafe layout.inverted(code, index, function) else { return (target, index + 1, false) }
        return (far, target, true)
    }

    private mutating func condition(_ comparison: Comparison) -> Condition {
        switch comparison {
        case .equal: .equal
        case .notEqual, .set: .notEqual
        case .greater: .above
        case .greaterEqual: .aboveEqual
        case .less: .below
        case .lessEqual: .belowEqual
        case .signedGreater: .greater
        case .signedGreaterEqual: .greaterEqual
        case .signedLess: .less
        case .signedLessEqual: .lessEqual
        }
    }

    /// Writes what the destination of a jump needs; what only the next instruction needs may go on waiting.
    private mutating func flush(_ live: UInt16, keeping others: UInt16) {
        drop(notIn: live | others)
        settleAll(live)
    }

    /// Jumps once the frame's iterations are used up.
    mutating func mayGoto(_ instruction: LinkedInstruction) {
        let target = Int(instruction.target)
        flush(layout.live[target] | layout.live[index + 1])
        asm.alu(.cmp, .base(.rsp, 0), 0, .w32)
        jump(.equal, to: target)
        asm.alu(.sub, .base(.rsp, 0), 1, .w32)
    }
}
