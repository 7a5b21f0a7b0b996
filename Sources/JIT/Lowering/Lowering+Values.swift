// Values that wait: when they are written to their registers, and how others read them.
//
// The rule that keeps this simple: where a waiting value depends on a register other than its own, no other waiting value
// depends on that own register. So writing one value needs at most one level of others to be written first, and never
// changes a register that a third one depends on. `set` and `term` keep the rule.

/// The machine register of each BPF register: the argument and result registers are those of C, so that helpers are called
/// without moves; r6 to r9 and r10 survive calls in both worlds.
func machine(_ register: Int) -> GPR {
    // One nibble a register, r10 first: rbp r15 r14 r13 rbx r8 rcx rdx rsi rdi rax.
    unsafe unsafeBitCast(UInt8(truncatingIfNeeded: 0x5_fed3_8126_70 >> (4 * register) & 15), to: GPR.self)
}

extension Lowering {
    /// Gives a register a value without code.
    mutating func set(_ register: Int, _ value: Value) {
        let own = machine(register)
        if !value.refers(onlyTo: own) { settleOthers(than: register, referringTo: own) }
        // A copy of itself is no news.
        if case .sum(let sum) = value, sum.copied == own {
            markInRegister(register)
        } else {
            values[register] = value
            pending |= 1 << UInt16(register)
        }
    }

    mutating func markInRegister(_ register: Int) {
        values[register] = .inRegister
        pending &= ~(1 << UInt16(register))
    }

    /// Writes what others need of a machine register that is about to change.
    private mutating func settleOthers(than register: Int, referringTo own: GPR) {
        var rest = pending & ~(1 << UInt16(register))
        while rest != 0 {
            let other = rest.trailingZeroBitCount
            rest &= rest - 1
            if values[other].refers(to: own) { settle(other) }
        }
    }

    /// Makes a machine register free to be written as a whole: `register` gets a new value there.
    ///
    /// - Parameter operand: a register whose value the instruction reads before it writes; it may go on waiting if it is
    ///   not needed afterwards.
    mutating func define(_ register: Int, reading operand: Int? = nil) -> GPR {
        let own = machine(register)
        var rest = pending & ~(1 << UInt16(register))
        if let operand, !isLiveAfter(operand) { rest &= ~(1 << UInt16(operand)) }
        while rest != 0 {
            let other = rest.trailingZeroBitCount
            rest &= rest - 1
            if values[other].refers(to: own) { settle(other) }
        }
        return own
    }

    /// After the instruction that writes it: the machine register says what the BPF register holds.
    mutating func defined(_ register: Int, zeroUpper isZero: Bool = false) {
        markInRegister(register)
        setZeroUpper(machine(register), isZero)
    }

    /// A register whose machine register is read and written.
    mutating func update(_ register: Int) -> GPR {
        settle(register)
        settleOthers(than: register, referringTo: machine(register))
        return machine(register)
    }

    /// A machine register that holds the value of a BPF register, which may be another's for copies.
    mutating func source(_ register: Int) -> GPR {
        if let copied = copySource(register) { return copied }
        settle(register)
        return machine(register)
    }

    /// Where a register's value can be read without code.
    mutating func copySource(_ register: Int) -> GPR? {
        switch values[register] {
        case .inRegister: machine(register)
        case .sum(let sum): sum.copied
        case .low32(let source): isZeroUpper(source) ? source : nil
        case .constant, .shifted: nil
        }
    }

    /// The constant that a register is known to hold.
    mutating func constant(_ register: Int) -> Int64? {
        if case .constant(let value) = values[register] { value } else { nil }
    }

    /// A register's value as something that can be added to; nil where it has to be settled for that.
    mutating func sum(_ register: Int) -> Value.Sum? {
        switch values[register] {
        case .inRegister: Value.Sum(base: machine(register))
        case .sum(let sum): sum
        case .constant(let value): Int32(exactly: value).map { Value.Sum(displacement: $0) }
        case .low32(let source): isZeroUpper(source) ? Value.Sum(base: source) : nil
        case .shifted(let source, isLeft: true, let count, .w64):
            count <= 3 ? Value.Sum(index: source, scale: count) : nil
        case .shifted: nil
        }
    }

    /// A register's value as part of another's: as `sum`, unless that would break the rule.
    mutating func term(_ register: Int) -> Value.Sum? {
        let own = machine(register)
        let value = values[register]
        if value.refers(to: own), !value.refers(onlyTo: own) { settle(register) }
        return sum(register)
    }

    /// Whether the upper half of a BPF register is known to be zero.
    mutating func hasZeroUpper(_ register: Int) -> Bool {
        switch values[register] {
        case .inRegister: isZeroUpper(machine(register))
        case .constant(let value): value >= 0 && value <= Int64(UInt32.max)
        case .sum(let sum): sum.copied.map { isZeroUpper($0) } ?? false
        case .low32, .shifted(_, _, _, .w32): true
        case .shifted(let source, isLeft: false, let count, .w64): count >= 32 || isZeroUpper(source)
        case .shifted(_, isLeft: true, _, .w64): false
        }
    }

    mutating func isZeroUpper(_ register: GPR) -> Bool { zeroUpper >> UInt16(register.rawValue) & 1 != 0 }

    mutating func setZeroUpper(_ register: GPR, _ isZero: Bool) {
        let bit = UInt16(1) << UInt16(register.rawValue)
        zeroUpper = isZero ? zeroUpper | bit : zeroUpper & ~bit
    }

    /// Forgets what nobody needs and writes the rest of what is alive in `live`.
    mutating func flush(_ live: UInt16) {
        drop(notIn: live)
        settleAll(live)
    }

    /// Writes what waits of some registers.
    mutating func settleAll(_ registers: UInt16) {
        while pending & registers != 0 { settle((pending & registers).trailingZeroBitCount) }
    }

    /// Forgets waiting values that nobody needs.
    mutating func drop(notIn live: UInt16) {
        var dead = pending & ~live
        while dead != 0 {
            let register = dead.trailingZeroBitCount
            markInRegister(register)
            dead &= dead - 1
        }
    }

    /// Writes a waiting value to its machine register.
    mutating func settle(_ register: Int) {
        let value = values[register]
        if value == .inRegister { return }
        let own = machine(register)
        let isZero = hasZeroUpper(register)
        markInRegister(register)
        settleOthers(than: register, referringTo: own)
        switch value {
        case .inRegister: break
        case .constant(let number): setConstant(own, number)
        case .sum(let sum): write(sum, to: own)
        case .low32(let source): asm.mov(own, source, .w32)
        case .shifted(let source, isLeft: let isLeft, let count, let width):
            if isLeft, width == .w64, count <= 3, source != own {
                asm.lea(own, .scaled(source, scale: count, 0))
            } else {
                if source != own { asm.mov(own, source, width) }
                asm.shift(isLeft ? .shl : .shr, own, count, width)
            }
        }
        setZeroUpper(own, isZero)
    }

    /// `mov register, number` in the shortest form; changes flags.
    mutating func setConstant(_ register: GPR, _ number: Int64) {
        if number == 0 {
            asm.alu(.xor, register, register, .w32)
        } else {
            asm.mov(register, UInt64(bitPattern: number))
        }
    }

    private mutating func write(_ sum: Value.Sum, to own: GPR) {
        if let copied = sum.copied {
            asm.mov(own, copied)
        } else if sum.base == own, sum.index == nil {
            asm.alu(.add, own, sum.displacement)
        } else if sum.displacement == 0, sum.scale == 0, sum.base == own, let index = sum.index {
            asm.alu(.add, own, index)
        } else if sum.displacement == 0, sum.scale == 0, sum.index == own, let base = sum.base {
            asm.alu(.add, own, base)
        } else if sum.displacement == 0, sum.base == nil, sum.index == own {
            asm.shift(.shl, own, sum.scale)
        } else if let address = sum.address {
            asm.lea(own, address)
        } else {
            setConstant(own, Int64(sum.displacement))
        }
    }
}
