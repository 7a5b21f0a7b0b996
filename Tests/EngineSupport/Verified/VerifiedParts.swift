package import ISA

// Loops, calls, maps and helpers of programs for the verifier.

/// The maps of these programs, here and in the kernel.
package enum VerifiedMap: Int64, CaseIterable {
    /// The inputs: one value of 64 bytes.
    case words
    case array, hash
    /// Constant data, which is what `constantBytes` says.
    case constants
    case ring
    case programs
    case lru, trie, queue, stack, bloom, cpus
    /// Its values are maps like `array`; in the kernel only.
    case outer

    var index: Int64 { rawValue }
    package var type: MapType {
        switch self {
        case .words, .array, .constants: .array
        case .hash: .hash
        case .ring: .ringBuffer
        case .programs: .programArray
        case .lru: .lruHash
        case .trie: .lpmTrie
        case .queue: .queue
        case .stack: .stack
        case .bloom: .bloomFilter
        case .cpus: .perCPUArray
        case .outer: .arrayOfMaps
        }
    }
    /// `BPF_F_NO_PREALLOC`, which tries must have.
    var flags: UInt32 { self == .trie ? 1 : 0 }
    /// Programs have pointers to its values.
    var hasValues: Bool {
        switch self {
        case .words, .array, .hash, .constants, .lru, .trie, .cpus: true
        case .ring, .programs, .queue, .stack, .bloom, .outer: false
        }
    }
    package var keySize: Int {
        switch self {
        case .words, .array, .constants, .programs, .lru, .cpus, .outer: 4
        case .hash, .trie: 8
        case .ring, .queue, .stack, .bloom: 0
        }
    }
    package var valueSize: Int {
        switch self {
        case .words: 64
        case .array: 48
        case .hash: 32
        case .constants: Self.constantBytes.count
        case .ring: 0
        case .programs, .outer: 4
        case .lru, .queue: 16
        case .trie, .cpus: 24
        case .stack, .bloom: 8
        }
    }
    package var maxEntries: Int {
        switch self {
        case .words, .constants: 1
        case .array: 5
        case .hash, .lru, .trie, .queue, .stack: 4
        case .cpus: 3
        case .bloom: 16
        case .ring: 4096
        case .programs, .outer: 2
        }
    }

    /// Offsets, some of them too large.
    static let constantBytes: [UInt8] = [
        5, 0, 0, 0, 60, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0, 16, 0, 8, 255, 255, 255, 255, 255,
    ]
}

extension VerifiedProgram {
    /// Puts a key below everything else on the stack, known or not.
    private mutating func putKey(_ map: VerifiedMap) {
        let place: Int32 = chance(80) ? -200 : -204
        if map.keySize == 4 {
            if chance(40) {
                emit(.store32Imm, .r10, offset: place, imm: number(0...5))
            } else if chance(50) {
                // A constant that is one or the other.
                let register = scalar()
                let key: Register = pick([.r7, .r8, .r9])
                let jump = condition(register)
                emit(.mov64Imm, key, imm: number(0...4))
                let other = number(0...9)
                if key != register { skip(jump) { $0.emit(.mov64Imm, key, imm: other) } }
                set(key, scalar: UInt64(9))
                branch()
                emit(.store32Reg, .r10, key, offset: place)
                if chance(50) { branch() }
            } else {
                emit(.store32Reg, .r10, scalar(), offset: place)
            }
        } else {
            emit(.store64Reg, .r10, scalar(), offset: -200)
        }
        emit(.mov64Reg, .r2, .r10)
        emit(.add64Imm, .r2, imm: Int64(map.keySize == 8 ? -200 : place))
    }

    /// Looks up a value, and uses it where it is not NULL, or does not ask.
    mutating func lookup() {
        let map: VerifiedMap = pick([.array, .array, .hash])
        putKey(map)
        emit(.loadMap, .r1, imm: map.index)
        emit(.callHelper, imm: 1)
        forgetCalled()
        var pointer = Register.r0
        if chance(40) {
            pointer = pick([.r7, .r8, .r9])
            emit(.mov64Reg, pointer, .r0)
            scalars[pointer] = nil
            pointers[pointer] = nil
        }
        let isSpilled = chance(25)
        if isSpilled { emit(.store64Reg, .r10, pointer, offset: -112) }
        let tested: Register = chance(60) ? pointer : .r0
        let use = { (program: inout Self) in
            if isSpilled, program.chance(60) { program.emit(.load64, pointer, .r10, offset: -112) }
            var behind = Int64(map.valueSize)
            if program.chance(50) {
                let index = program.scalar()
                if index == pointer { return }
                program.bound(index)
                // What bounds a number may need one that it makes.
                let maximum = Int64(program.scalars[index].flatMap { $0 } ?? 0)
                if program.code.last?.dst == pointer { return }
                program.emit(.add64Reg, pointer, index)
                behind -= min(maximum, 64)
            }
            program.touch(pointer, before: 0, behind: behind, isStack: false)
        }
        let before = (scalars, pointers)
        switch Int.random(in: 0..<20, using: &random) {
        case 0...1 where map == .array: use(&self)
        case 2:
            skip(Instruction(.jumpNotEqual64Imm, dst: tested)) { use(&$0) }
            (scalars, pointers) = before
        default:
            skip(Instruction(.jumpEqual64Imm, dst: tested)) { use(&$0) }
            (scalars, pointers) = before
        }
        for register in [Register.r0, pointer] {
            scalars[register] = nil
            pointers[register] = nil
        }
        // Registers that only one path wrote hold nothing for certain.
        if before.0.isEmpty { scalars = [:] }
        for register in [Register.r1, .r2, .r3, .r4, .r5] { scalars[register] = nil }
        for register in [Register.r7, .r8, .r9] where scalars[register] != nil { load(register) }
    }

    /// A counter that is an index.
    mutating func loop() {
        let counter: Register = pick([.r7, .r8, .r9])
        let rounds = number(1...8)
        emit(.mov64Imm, counter, imm: 0)
        let start = code.count
        let base: Register = pick([.r1, .r2, .r3])
        emit(.mov64Reg, base, chance(70) ? .r6 : .r10)
        let isStack = code[code.count - 1].src == .r10
        let step: Int64 = pick([1, 2, 4, 8])
        emit(.mov64Reg, .r4, counter)
        emit(.mul64Imm, .r4, imm: step)
        if isStack { emit(.add64Imm, base, imm: -step * rounds) }
        emit(.add64Reg, base, .r4)
        scalars = scalars.filter { [.r7, .r8, .r9].contains($0.key) && $0.key != counter }
        let last = step * (rounds - 1)
        let size: Int64 = chance(50) ? 1 : step
        let end = (isStack ? step * rounds : 64) - last - size
        let offset = chance(90) ? min(max(end - number(0...2) * size, isStack ? 0 : -1), 60) : end + 1
        let opcode: Opcode = size == 1 ? .store8Imm : size == 2 ? .load16 : size == 4 ? .load32 : .load64
        if opcode == .store8Imm {
            emit(opcode, base, offset: Int32(offset), imm: 3)
        } else {
            emit(opcode, .r5, base, offset: Int32(isStack ? 0 : offset))
        }
        if chance(30) {
            let other = Register.allCases.first { scalars[$0] != nil }
            if let other { skip(condition(other)) { $0.emit(.add64Imm, other, imm: 1) } }
        }
        emit(.add64Imm, counter, imm: 1)
        let back = emit(chance(70) ? .jumpLess64Imm : .jumpNotEqual64Imm, counter, imm: rounds)
        code[back].offset = -Int32(code[start...back].reduce(0) { $0 + $1.slots })
        forgetCalled()
        set(counter, scalar: UInt64(rounds))
    }

    /// `access(pointer, number)` or `choose(number)`.
    mutating func call() {
        let callee: Callee = chance(50) ? .access : .choose
        let number = scalar()
        if callee == .access, chance(85) { bound(number) }
        if number != .r2 { emit(.mov64Reg, .r2, number) }
        if chance(60) {
            emit(.mov64Reg, .r1, .r6)
        } else {
            emit(.mov64Reg, .r1, .r10)
            emit(.add64Imm, .r1, imm: -64)
        }
        references.append((code.count, callee))
        emit(.callLocal)
        forgetCalled()
        set(.r0, scalar: callee == .choose ? 48 : nil)
        if chance(60), callee == .choose {
            emit(.mov64Reg, .r1, .r6)
            emit(.add64Reg, .r1, .r0)
            touch(.r1, before: 0, behind: 16, isStack: false)
        }
    }

    mutating func function(_ callee: Callee) {
        switch callee {
        case .access:
            if chance(50) {
                emit(.jumpGreater64Imm, .r2, offset: 2, imm: number(30...56))
            } else {
                emit(.and64Imm, .r2, imm: pick([31, 7, 56, 63]))
            }
            emit(.add64Reg, .r1, .r2)
            emit(.load8, .r2, .r1, offset: Int32(chance(90) ? 0 : 8))
            if chance(50) { emit(.store8Imm, .r10, offset: -1, imm: 1) }
            emit(.mov64Reg, .r0, .r2)
            emit(.exit)
        case .choose:
            emit(.mov64Imm, .r0, imm: number(0...48))
            emit(pick([.jumpGreater64Imm, .jumpSignedLess64Imm, .jumpEqual32Imm]), .r2, offset: 1, imm: constant())
            emit(.mov64Imm, .r0, imm: number(0...50))
            emit(.exit)
        case .round:
            // r1: the round, r2: the caller's stack.
            emit(.load64, .r3, .r2, offset: 0)
            switch Int.random(in: 0..<4, using: &random) {
            case 0: emit(.add64Imm, .r3, imm: 1)
            case 1: emit(.add64Reg, .r3, .r1)
            case 2:
                emit(.jumpEqual64Imm, .r3, offset: 1, imm: number(0...2))
                emit(.mov64Imm, .r3, imm: number(0...60))
            default: emit(.mov64Reg, .r3, .r1)
            }
            emit(.store64Reg, .r2, .r3, offset: 0)
            if chance(60) {
                emit(.and64Imm, .r3, imm: 31)
                emit(.add64Reg, .r2, .r3)
                emit(.load8, .r0, .r2, offset: Int32(number(-4...8)))
            }
            if chance(50) {
                emit(.loadMapValue, .r4, imm: VerifiedMap.words.index)
                emit(.add64Reg, .r4, .r1)
                emit(.store8Imm, .r4, offset: Int32(number(40...60)), imm: 1)
            }
            emit(.mov64Imm, .r0, imm: chance(80) ? 0 : 1)
            emit(.exit)
        }
    }

    /// bpf_loop over a slot of the stack, and a use of what it left there.
    mutating func callback() {
        let slot = Int32(-8 * number(6...10))
        let rounds = scalar()
        emit(.store64Imm, .r10, offset: slot, imm: number(0...3))
        if chance(60) {
            emit(.mov64Imm, .r1, imm: number(0...9))
        } else {
            bound(rounds)
            emit(.mov64Reg, .r1, rounds)
        }
        references.append((code.count, .round))
        emit(.loadFunction, .r2)
        emit(.mov64Reg, .r3, .r10)
        emit(.add64Imm, .r3, imm: Int64(slot))
        emit(.mov64Imm, .r4, imm: 0)
        emit(.callHelper, imm: 181)
        forgetCalled()
        emit(.load64, .r3, .r10, offset: slot)
        set(.r3, scalar: nil)
        if chance(50) {
            emit(.jumpGreater64Imm, .r3, offset: 3, imm: number(20...62))
            emit(.mov64Reg, .r1, .r6)
            emit(.add64Reg, .r1, .r3)
            emit(.load8, .r1, .r1)
        }
        slots[slot] = nil
    }

    mutating func atomic() {
        let register = scalar()
        let maximum = scalars[register].flatMap { $0 }
        let base: Register = chance(60) ? .r10 : .r6
        let offset = base == .r10 ? Int32(-8 * number(1...6)) : Int32(8 * number(0...7))
        let opcode: Opcode = pick([
            .atomicAdd64, .atomicFetchAdd64, .atomicFetchAnd32, .atomicExchange64, .atomicExchange32, .atomicFetchOr64,
        ])
        emit(.store64Imm, base, offset: offset, imm: number(0...40))
        emit(opcode, base, register, offset: offset)
        set(register, scalar: opcode == .atomicAdd64 ? maximum : nil)
        if chance(40) {
            emit(.load64, register, base, offset: offset)
            set(register, scalar: nil)
        }
    }

    /// A helper that fills memory on the stack, whose size is a number.
    mutating func fill() {
        let size = scalar()
        bound(size)
        let maximum = Int64(scalars[size].flatMap { $0 } ?? 32)
        emit(.mov64Reg, .r2, size)
        emit(.mov64Reg, .r1, .r10)
        emit(.add64Imm, .r1, imm: -max(maximum, 1) - (chance(88) ? number(0...8) : -1))
        if chance(85) { skip(Instruction(.jumpNotEqual64Imm, dst: .r2)) { $0.emit(.mov64Imm, .r2, imm: 1) } }
        emit(.callHelper, imm: 16)
        forgetCalled()
        set(.r0, scalar: nil)
    }

    mutating func update() {
        let map: VerifiedMap = pick([.array, .hash])
        putKey(map)
        emit(.mov64Reg, .r3, .r10)
        emit(.add64Imm, .r3, imm: chance(92) ? -256 : -Int64(map.valueSize) + 1)
        if chance(30) { emit(.mov64Reg, .r3, .r6) }
        emit(.loadMap, .r1, imm: map.index)
        emit(.mov64Imm, .r4, imm: 0)
        emit(.callHelper, imm: 2)
        forgetCalled()
        set(.r0, scalar: nil)
    }

    /// A program with an instruction or two changed.
    static func mutated(_ program: [Instruction], seed: UInt64) -> [Instruction] {
        var holder = VerifiedProgram(random: SeededGenerator(seed: ~seed), isForKernel: false)
        holder.code = program
        holder.mutate()
        return holder.code
    }

    /// Changes an instruction or two a little, as fuzzers do.
    mutating func mutate() {
        for _ in 0..<Int.random(in: 1...2, using: &random) {
            let index = Int.random(in: 0..<code.count, using: &random)
            switch Int.random(in: 0..<7, using: &random) {
            case 0...1:
                // Other immediates than those of 64 bits have 32 in the encoding.
                let imm = code[index].imm &+ pick([1, -1, 8, -8])
                code[index].imm = code[index].slots == 2 ? imm : Int64(Int32(truncatingIfNeeded: imm))
            case 2:
                if case .conditionalJump = code[index].opcode.shape {} else { code[index].offset += pick([1, -1, 8]) }
            case 3:
                let shape = code[index].opcode.shape
                if case .conditionalJump(_, _, let operand) = shape {
                    code[index].opcode = pick(
                        Opcode.allCases.filter {
                            if case .conditionalJump(_, _, let other) = $0.shape { other == operand } else { false }
                        }
                    )
                } else if case .arithmetic(_, _, let operand) = shape {
                    code[index].opcode = pick(
                        Opcode.allCases.filter {
                            if case .arithmetic(_, _, let other) = $0.shape { other == operand } else { false }
                        }
                    )
                }
            case 4: code[index].src = pick([.r0, .r1, .r2, .r6, .r7, .r8, .r9])
            case 5: if code[index].dst != .r10 { code[index].dst = pick([.r0, .r1, .r2, .r7, .r8, .r9]) }
            default: if code[index].slots == 1 { code[index] = Instruction(.mov64Reg, dst: .r7, src: .r7) }
            }
        }
    }
}
