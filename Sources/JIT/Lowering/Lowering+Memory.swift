internal import ISA

// Loads, stores and atomic operations.

extension Lowering {
    mutating func load(_ instruction: LinkedInstruction, _ size: AccessSize, isSigned: Bool) {
        let (register, base) = (Int(instruction.dst), Int(instruction.src))
        let own = define(register, reading: base)
        let at = location(base, instruction.target, size, isWrite: false)
        if isSigned { asm.loadSigned(own, at, size) } else { asm.loadZero(own, at, size) }
        defined(register, zeroUpper: !isSigned && size != .b64)
    }

    mutating func store(_ instruction: LinkedInstruction, _ size: AccessSize) {
        let (base, operand) = (Int(instruction.dst), Int(instruction.src))
        if let number = constant(operand), size != .b64 || Int32(exactly: number) != nil, base != operand {
            return store(instruction, size, immediate: number)
        }
        _ = source(operand)
        let at = location(base, instruction.target, size, isWrite: true)
        // Asked again: settling the base may have moved a copy of it.
        asm.store(at, source(operand), size: size)
    }

    mutating func store(_ instruction: LinkedInstruction, _ size: AccessSize, immediate: Int64) {
        let at = location(Int(instruction.dst), instruction.target, size, isWrite: true)
        asm.store(at, immediate: Int32(truncatingIfNeeded: immediate), size: size)
    }

    mutating func atomic(_ instruction: LinkedInstruction, _ operation: AtomicOperator, _ size: AccessSize) {
        let (base, operand) = (Int(instruction.dst), Int(instruction.src))
        let width: OperandWidth = size == .b64 ? .w64 : .w32
        switch operation {
        case .loadAcquire:
            // Every load of x86-64 acquires, every store releases (Intel SDM volume 3, 9.2).
            let own = define(base, reading: operand)
            asm.loadZero(own, location(operand, instruction.target, size, isWrite: false, isAtomic: true), size)
            defined(base, zeroUpper: size != .b64)
        case .storeRelease:
            _ = source(operand)
            let at = location(base, instruction.target, size, isWrite: true, isAtomic: true)
            asm.store(at, source(operand), size: size)
        case .add: modify(.add, instruction, size, width)
        case .or: modify(.or, instruction, size, width)
        case .and: modify(.and, instruction, size, width)
        case .xor: modify(.xor, instruction, size, width)
        case .fetchAdd: exchange(.xadd, instruction, size, width)
        case .exchange: exchange(.xchg, instruction, size, width)
        case .fetchOr: fetch(.or, instruction, size, width)
        case .fetchAnd: fetch(.and, instruction, size, width)
        case .fetchXor: fetch(.xor, instruction, size, width)
        case .compareExchange:
            let accumulator = update(0)
            _ = source(operand)
            let at = location(base, instruction.target, size, isWrite: true, isAtomic: true)
            asm.exchange(.cmpxchg, at, source(operand), width)
            // Where memory was equal, the 32-bit form leaves the upper half of rax as it was.
            if width == .w32 { asm.mov(accumulator, accumulator, .w32) }
            defined(0, zeroUpper: width == .w32)
        }
    }

    private mutating func modify(
        _ operation: ALUOperation,
        _ instruction: LinkedInstruction,
        _ size: AccessSize,
        _ width: OperandWidth
    ) {
        let operand = Int(instruction.src)
        _ = source(operand)
        let at = location(Int(instruction.dst), instruction.target, size, isWrite: true, isAtomic: true)
        asm.atomic(operation, at, source(operand), width)
    }

    private mutating func exchange(
        _ operation: ExchangeOperation,
        _ instruction: LinkedInstruction,
        _ size: AccessSize,
        _ width: OperandWidth
    ) {
        let operand = Int(instruction.src)
        let own = update(operand)
        let at = location(Int(instruction.dst), instruction.target, size, isWrite: true, isAtomic: true)
        asm.exchange(operation, at, own, width)
        if width == .w32 { asm.mov(own, own, .w32) }
        defined(operand, zeroUpper: width == .w32)
    }

    /// A loop of compare and exchange, for which x86 has no instruction of its own.
    private mutating func fetch(
        _ operation: ALUOperation,
        _ instruction: LinkedInstruction,
        _ size: AccessSize,
        _ width: OperandWidth
    ) {
        let operand = Int(instruction.src)
        flush(layout.live[index])
        var at = location(Int(instruction.dst), instruction.target, size, isWrite: true, isAtomic: true)
        let own = machine(operand)
        asm.lea(.r11, at)
        at = .base(.r11, 0)
        let again = asm.makeLabel()
        let scratch = Address.base(.r12, ContextOffset.scratch)
        if own == .rax {
            // The operand waits in memory: rax is what memory is compared with.
            asm.store(scratch, .rax)
            asm.load(.rax, at, width)
            asm.bind(again)
            asm.mov(.r10, .rax, width)
            asm.alu(operation, .r10, scratch, width)
            asm.exchange(.cmpxchg, at, .r10, width)
            asm.jumpShort(.notEqual, again)
            if width == .w32 { asm.mov(.rax, .rax, .w32) }
        } else {
            asm.store(scratch, .rax)
            asm.mov(.r10, own)
            asm.load(.rax, at, width)
            asm.bind(again)
            asm.mov(own, .rax, width)
            asm.alu(operation, own, .r10, width)
            asm.exchange(.cmpxchg, at, own, width)
            asm.jumpShort(.notEqual, again)
            asm.mov(own, .rax, width)
            asm.load(.rax, scratch)
        }
        defined(operand, zeroUpper: width == .w32)
    }

    // MARK: - Addresses

    /// Where an access goes: the operand for an instruction that follows at once, checked where code is checked.
    mutating func location(
        _ register: Int,
        _ offset: Int32,
        _ size: AccessSize,
        isWrite: Bool,
        isAtomic: Bool = false
    ) -> Address {
        let at = address(register, offset)
        if !isChecked { return at }
        // The function's own stack needs no check: r10 cannot be written.
        if case .base(.rbp, let displacement) = at, displacement >= -512, displacement <= -size.bytes {
            if !isAtomic || displacement & (size.bytes - 1) == 0 { return at }
        }
        if case .base(.r11, 0) = at {} else { asm.lea(.r11, at) }
        check(register, size, isWrite: isWrite, isAtomic: isAtomic)
        return .base(.r11, 0)
    }

    private mutating func address(_ register: Int, _ offset: Int32) -> Address {
        if let sum = sum(register)?.adding(Value.Sum(displacement: offset)), let address = sum.address {
            return address
        }
        if let number = constant(register) {
            asm.mov(.r11, UInt64(bitPattern: number &+ Int64(offset)))
            return .base(.r11, 0)
        }
        settle(register)
        return .base(machine(register), offset)
    }
}
