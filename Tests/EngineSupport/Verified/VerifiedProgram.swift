package import ISA

/// Random programs that a verifier has something to do with: bounds that depend on data, pointers at variable offsets,
/// spills, null checks, loops, calls and callbacks, most of them right by a byte or wrong by one.
///
/// r6 points to the inputs, r7 to r9 keep numbers or pointers over calls, and r0 to r5 are for the moment. What the
/// generator believes of a register's greatest value decides where it accesses, so that verdicts are close.
package struct VerifiedProgram {
    var random: SeededGenerator
    package internal(set) var code: [Instruction] = []
    /// Jumps to the common end.
    private var exits: [Int] = []
    var references: [(at: Int, to: Callee)] = []
    /// What registers hold: numbers, with the greatest one where it is known.
    var scalars: [Register: UInt64?] = [:]
    /// Pointers to memory, with the bytes before and behind.
    var pointers: [Register: (before: Int64, behind: Int64)] = [:]
    /// Slots of the stack that hold numbers.
    var slots: [Int32: UInt64?] = [:]
    let isForKernel: Bool

    enum Callee: CaseIterable { case access, choose, round }

    package static let valueSize = 64

    package static func make(seed: UInt64, isForKernel: Bool = false) -> [Instruction] {
        var program = VerifiedProgram(random: SeededGenerator(seed: seed), isForKernel: isForKernel)
        program.build()
        if seed & 3 == 3 { program.mutate() }
        return program.code
    }

    init(random: SeededGenerator, isForKernel: Bool) {
        self.random = random
        self.isForKernel = isForKernel
    }

    // MARK: - Parts

    mutating func pick<T>(_ values: [T]) -> T { values[Int.random(in: 0..<values.count, using: &random)] }
    mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
    mutating func number(_ range: ClosedRange<Int64>) -> Int64 { Int64.random(in: range, using: &random) }

    @discardableResult
    mutating func emit(
        _ opcode: Opcode,
        _ dst: Register = .r0,
        _ src: Register = .r0,
        offset: Int32 = 0,
        imm: Int64 = 0
    ) -> Int {
        code.append(Instruction(opcode, dst: dst, src: src, offset: offset, imm: imm))
        return code.count - 1
    }

    mutating func set(_ register: Register, scalar maximum: UInt64?) {
        pointers[register] = nil
        scalars[register] = .some(maximum)
    }

    mutating func set(_ register: Register, before: Int64, behind: Int64) {
        scalars[register] = nil
        pointers[register] = (before, behind)
    }

    mutating func forgetCalled() {
        for register in [Register.r0, .r1, .r2, .r3, .r4, .r5] {
            scalars[register] = nil
            pointers[register] = nil
        }
    }

    /// A register that holds a number; one is loaded where none does.
    mutating func scalar() -> Register {
        let known = Register.allCases.filter { scalars[$0] != nil }
        if !known.isEmpty, !chance(15) { return pick(known) }
        let register = free()
        load(register)
        return register
    }

    /// A register that may be overwritten.
    mutating func free() -> Register { pick([.r7, .r8, .r9, .r0, .r1, .r2, .r3, .r4, .r5, .r7, .r8, .r9]) }

    /// Distance in slots from behind an instruction to the end of the code.
    func distance(from index: Int) -> Int32 { Int32(code[(index + 1)...].reduce(0) { $0 + $1.slots }) }

    /// Jumps to what follows `body`, or runs it.
    mutating func skip(_ jump: Instruction, _ body: (inout Self) -> Void) {
        code.append(jump)
        let at = code.count - 1
        body(&self)
        code[at].offset = distance(from: at)
    }

    /// A conditional jump on a number, to be completed.
    mutating func condition(_ register: Register) -> Instruction {
        let other = Register.allCases.filter { scalars[$0] != nil && $0 != register }
        let isImmediate = other.isEmpty || chance(75)
        let opcode = pick(
            Opcode.allCases.filter {
                if case .conditionalJump(_, _, let operand) = $0.shape {
                    (operand == .imm) == isImmediate
                } else {
                    false
                }
            }
        )
        if isImmediate { return Instruction(opcode, dst: register, imm: constant()) }
        return Instruction(opcode, dst: register, src: pick(other))
    }

    mutating func constant() -> Int64 {
        chance(60) ? number(0...70) : pick([-1, 1, 0, 0xff, 0xffff, 0x7fff_ffff, -0x8000_0000, 8, 63, 64, -8, 256])
    }

    // MARK: - Statements

    private mutating func build() {
        emit(.loadMapValue, .r6, imm: VerifiedMap.words.index)
        if !isForKernel, chance(10) { emit(.store64Reg, .r10, .r1, offset: -104) }
        for register in [Register.r7, .r8, .r9] where chance(70) { load(register) }
        for _ in 0..<Int.random(in: 3...10, using: &random) { statement() }
        if let register = Register.allCases.first(where: { scalars[$0] != nil }) {
            emit(.mov64Reg, .r0, register)
        } else {
            emit(.mov64Imm, .r0, imm: 0)
        }
        emit(.exit)
        if !exits.isEmpty {
            let end = emit(.mov64Imm, .r0, imm: 0)
            emit(.exit)
            for jump in exits { code[jump].offset = Int32(code[(jump + 1)..<end].reduce(0) { $0 + $1.slots }) }
        }
        for callee in Callee.allCases where references.contains(where: { $0.to == callee }) {
            let start = code.count
            function(callee)
            for reference in references where reference.to == callee {
                code[reference.at].imm = Int64(code[reference.at..<start].reduce(-1) { $0 + $1.slots })
            }
        }
    }

    mutating func statement() {
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<8: load(free())
        case 8..<24: bound(scalar())
        case 24..<38: arithmetic()
        case 38..<50: spill()
        case 50..<59: access()
        case 59..<62: linked()
        case 62..<70: lookup()
        case 70..<80: choice()
        case 80..<84: loop()
        case 84..<89: call()
        case 89..<93: atomic()
        case 93..<95: fill()
        case 95..<97: update()
        default: if isForKernel { choice() } else { callback() }
        }
    }

    /// A number of any size from the inputs.
    mutating func load(_ register: Register) {
        let (opcode, size, maximum): (Opcode, Int64, UInt64?) = pick([
            (.load64, 8, nil), (.load64, 8, nil), (.load32, 4, 0xffff_ffff), (.load16, 2, 0xffff), (.load8, 1, 0xff),
            (.loadSigned8, 1, nil), (.loadSigned32, 4, nil), (.load8, 1, 0xff),
        ])
        emit(opcode, register, .r6, offset: Int32(size * number(0...(64 / size - 1))))
        set(register, scalar: maximum)
    }

    /// What gives a number bounds, in all the ways that compilers know.
    mutating func bound(_ register: Register) {
        let limit = number(0...40)
        switch Int.random(in: 0..<9, using: &random) {
        case 0...1:
            let mask = pick([1, 3, 7, 15, 31, 8, 24, 56])
            emit(chance(70) ? .and64Imm : .and32Imm, register, imm: Int64(mask))
            set(register, scalar: UInt64(mask))
        case 2...4:
            exits.append(emit(pick([.jumpGreater64Imm, .jumpGreater32Imm]), register, imm: limit))
            let isNarrow = code[code.count - 1].opcode == .jumpGreater32Imm
            if isNarrow, chance(60) { emit(.mov32Reg, register, register) }
            set(register, scalar: isNarrow && code[code.count - 1].opcode != .mov32Reg ? nil : UInt64(limit))
        case 5:
            exits.append(emit(.jumpSignedGreater64Imm, register, imm: limit))
            exits.append(emit(.jumpSignedLess64Imm, register, imm: chance(85) ? 0 : -1))
            set(register, scalar: UInt64(limit))
        case 6:
            emit(pick([.mod64Imm, .mod32Imm]), register, imm: limit + 1)
            set(register, scalar: UInt64(limit))
        case 7:
            let shift = number(58...63)
            emit(.rsh64Imm, register, imm: shift)
            set(register, scalar: (1 << UInt64(64 - shift)) - 1)
        default:
            // Another number that is bounded already.
            let other = scalar()
            if other != register { exits.append(emit(.jumpGreaterEqual64Reg, register, other)) }
            if let known = scalars[other].flatMap({ $0 }) { set(register, scalar: known == 0 ? 0 : known - 1) }
        }
    }

    private mutating func arithmetic() {
        let register = scalar()
        let maximum = scalars[register].flatMap { $0 }
        switch Int.random(in: 0..<8, using: &random) {
        case 0:
            let copy = free()
            emit(chance(80) ? .mov64Reg : .mov32Reg, copy, register)
            if copy != register { set(copy, scalar: maximum) }
        case 1:
            let addend = number(-8...8)
            emit(chance(80) ? .add64Imm : .add32Imm, register, imm: addend)
            set(register, scalar: addend < 0 ? nil : maximum.map { $0 &+ UInt64(addend) })
        case 2:
            let shift = number(0...3)
            emit(chance(80) ? .lsh64Imm : .lsh32Imm, register, imm: shift)
            set(register, scalar: maximum.map { $0 << UInt64(shift) })
        case 3:
            let other = scalar()
            emit(pick([.add64Reg, .and64Reg, .or64Reg, .xor64Reg, .mul64Reg, .sub64Reg, .add32Reg]), register, other)
            set(register, scalar: nil)
        case 4:
            let shift = number(0...40)
            emit(chance(60) ? .rsh64Imm : .arsh64Imm, register, imm: shift)
            set(register, scalar: maximum.map { $0 >> UInt64(shift) })
        case 5:
            emit(pick([.neg64, .neg32, .movsx64From32, .movsx64From8, .be16, .bswap32]), register, register)
            set(register, scalar: nil)
        default:
            let divisor = number(1...9)
            emit(pick([.div64Imm, .mul64Imm, .mul32Imm, .or64Imm, .xor64Imm]), register, imm: divisor)
            set(register, scalar: code[code.count - 1].opcode == .div64Imm ? maximum.map { $0 / UInt64(divisor) } : nil)
        }
    }

    /// Out to the stack and back, whole or in part, with something else over it now and then.
    private mutating func spill() {
        let register = scalar()
        let maximum = scalars[register].flatMap { $0 }
        let slot = Int32(-8 * number(1...6))
        switch Int.random(in: 0..<6, using: &random) {
        case 0...2: emit(.store64Reg, .r10, register, offset: slot)
        case 3: emit(.store32Reg, .r10, register, offset: slot)
        case 4: emit(pick([.store8Reg, .store16Reg]), .r10, register, offset: slot)
        default: emit(pick([.store64Imm, .store32Imm, .store8Imm]), .r10, offset: slot, imm: number(0...48))
        }
        slots[slot] = .some(code[code.count - 1].opcode == .store64Reg ? maximum : nil)
        // A neighbour, or a part.
        if chance(30) {
            emit(pick([.store64Imm, .store8Imm]), .r10, offset: slot + pick([-8, 0, 8, 3, 4]), imm: number(0...9))
        }
        if chance(5), let index = code.indices.last, code[index].offset >= 0 { code[index].offset = -8 }
        if slot == -8, code[code.count - 1].offset >= 0 { code[code.count - 1].offset = -16 }
        if chance(30) { branch() }
        let target = free()
        let opcode: Opcode = pick([.load64, .load64, .load64, .load32, .load8, .loadSigned32])
        emit(opcode, target, .r10, offset: slot)
        set(target, scalar: code[code.count - 2].opcode == .store64Reg && opcode == .load64 ? maximum : nil)
        if chance(35) { bound(target) }
    }

    /// A branch that changes what is known, and nothing else.
    mutating func branch() {
        let register = scalar()
        let jump = condition(register)
        skip(jump) { program in
            for _ in 0..<Int.random(in: 1...3, using: &program.random) {
                program.emit(.add64Imm, .r6, imm: 0)
            }
        }
    }

    /// Reads or writes at an address that depends on a number.
    mutating func access() {
        let register = scalar()
        if scalars[register].flatMap({ $0 }) == nil || scalars[register].flatMap({ $0 }).map({ $0 > 56 }) ?? true {
            bound(register)
        }
        let maximum = Int64(scalars[register].flatMap { $0 } ?? 0)
        var base = free()
        if base == register { base = register == .r7 ? .r8 : .r7 }
        switch Int.random(in: 0..<6, using: &random) {
        case 0...2:
            let start = number(0...3) * 4
            emit(.loadMapValue, base, imm: VerifiedMap.words.index | (start << 32))
            set(base, before: start, behind: 64 - start)
        case 3:
            emit(.mov64Reg, base, .r6)
            set(base, before: 0, behind: 64)
        default:
            let start = 8 * number(2...20)
            emit(.mov64Reg, base, .r10)
            emit(.add64Imm, base, imm: -start)
            set(base, before: 512 - start, behind: start)
        }
        let place = pointers[base] ?? (0, 0)
        emit(chance(95) ? .add64Reg : .sub64Reg, base, register)
        touch(
            base,
            before: place.before,
            behind: place.behind - maximum,
            isStack: place.before > 64 || place.behind > 64
        )
        pointers[base] = nil
    }

    /// A number and another one at a distance from it: what is learnt of one is known of the other.
    private mutating func linked() {
        let register = scalar()
        let copy: Register = register == .r7 ? .r8 : .r7
        if chance(30) {
            // The low half of a number that has a copy: what is learnt of it says nothing of the whole.
            emit(.mov64Reg, .r5, register)
            emit(.mov32Reg, copy, register)
            let limit = number(0...40)
            exits.append(emit(.jumpGreater64Imm, copy, imm: limit))
            set(copy, scalar: UInt64(limit))
            emit(.loadMapValue, .r1, imm: VerifiedMap.words.index)
            emit(.add64Reg, .r1, chance(50) ? register : .r5)
            touch(.r1, before: 0, behind: 64 - limit, isStack: false)
            return
        }
        emit(chance(90) ? .mov64Reg : .mov32Reg, copy, register)
        let distance = number(1...8)
        let isLess = chance(50)
        emit(isLess ? .sub64Imm : .add64Imm, copy, imm: distance)
        let limit = number(distance...40)
        exits.append(emit(.jumpGreater64Imm, register, imm: limit))
        if isLess { exits.append(emit(.jumpLess64Imm, register, imm: distance)) }
        set(register, scalar: UInt64(limit))
        set(copy, scalar: UInt64(limit + (isLess ? -distance : distance)))
        emit(.loadMapValue, .r1, imm: VerifiedMap.words.index)
        emit(.add64Reg, .r1, copy)
        touch(.r1, before: 0, behind: 64 - limit - (isLess ? -distance : distance), isStack: false)
    }

    /// An access near the end of what a pointer may reach, or one byte beyond.
    mutating func touch(_ base: Register, before: Int64, behind: Int64, isStack: Bool) {
        let size: Int64 = isStack ? 1 : pick([1, 1, 2, 4, 8])
        let slack: Int64 = chance(88) ? number(0...4) : number(-2 ... -1)
        var offset = behind - size - slack
        if chance(8) { offset = -before - (chance(60) ? 0 : 1) }
        offset = min(max(offset, -600), 600)
        let target = free()
        let opcode: Opcode
        switch size {
        case 1: opcode = pick([.load8, .store8Imm, .loadSigned8])
        case 2: opcode = pick([.load16, .store16Imm])
        case 4: opcode = pick([.load32, .store32Imm])
        default: opcode = pick([.load64, .store64Imm])
        }
        if case .store = opcode.shape {
            emit(opcode, base, offset: Int32(offset), imm: number(0...7))
        } else {
            emit(opcode, target, base, offset: Int32(offset))
            set(target, scalar: size == 8 || opcode == .loadSigned8 ? nil : (1 << UInt64(8 * size)) - 1)
        }
    }

    /// One of two constants, or of two pointers, and much later what it is for.
    private mutating func choice() {
        let register = scalar()
        let result: Register = pick([.r7, .r8, .r9])
        let (first, second) = (number(0...40), chance(80) ? number(0...56) : number(0...90))
        let isPointer = chance(20)
        let jump = condition(register)
        let setTo = { (program: inout Self, value: Int64) in
            if isPointer {
                program.emit(.mov64Reg, result, .r10)
                program.emit(.add64Imm, result, imm: -value - 8)
            } else {
                program.emit(.mov64Imm, result, imm: value)
            }
        }
        setTo(&self, first)
        if result != register { skip(jump) { setTo(&$0, second) } }
        if isPointer { set(result, before: 0, behind: 0) } else { set(result, scalar: UInt64(max(first, second))) }
        for _ in 0..<Int.random(in: 0...2, using: &random) { branch() }
        if isPointer {
            emit(pick([.load8, .load64]), .r0, result)
            set(.r0, scalar: nil)
            if chance(70) {
                touch(result, before: 512 - 8 - max(first, second), behind: min(first, second) + 8, isStack: true)
            }
            pointers[result] = nil
            return
        }
        if chance(50) {
            // Through the stack, whole, in part, or with an atomic operation.
            let slot = Int32(-8 * number(2...6))
            emit(.store64Reg, .r10, result, offset: slot)
            if chance(50) { emit(.store64Imm, .r10, offset: slot + pick([-8, 8]), imm: 1) }
            for _ in 0..<Int.random(in: 0...2, using: &random) { branch() }
            switch Int.random(in: 0..<4, using: &random) {
            case 0:
                emit(.mov64Imm, .r1, imm: 0)
                emit(pick([.atomicFetchAdd64, .atomicFetchOr64, .atomicExchange64]), .r10, .r1, offset: slot)
                emit(.mov64Reg, result, .r1)
            case 1:
                emit(.mov64Imm, .r0, imm: 0)
                emit(.mov64Imm, .r1, imm: 0)
                emit(.atomicCompareExchange64, .r10, .r1, offset: slot)
                emit(.mov64Reg, result, .r0)
            case 2: emit(.load8, result, .r10, offset: slot)
            default: emit(.load64, result, .r10, offset: slot)
            }
        }
        if chance(70) {
            let base: Register = pick([.r1, .r2, .r3])
            emit(.loadMapValue, base, imm: VerifiedMap.words.index)
            emit(.add64Reg, base, result)
            touch(base, before: 0, behind: 64 - max(first, second), isStack: false)
        }
    }
}
