package import ISA

/// Random numbers that are the same on every machine (splitmix64).
package struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}

/// Random programs that the kernel's verifier accepts: arithmetic, forward jumps, bounded loops, stack accesses of every
/// size, atomics and calls of functions, over numbers that come from the context.
///
/// r6 keeps the context, r9 counts loops, and every other register holds a number at every point. At the end all of them
/// and the stack go to the context, so that a comparison sees the whole state and not only r0.
package struct RandomProgram {
    var random: SeededGenerator
    var code: [Instruction] = []
    /// Parts that can be left out and leave a program of the same kind.
    private(set) var units: [Range<Int>] = []
    /// Calls of and references to functions that follow the code.
    var references: [(at: Int, to: Callee)] = []

    /// Functions that programs have.
    enum Callee: CaseIterable {
        case function, loopCallback, eachCallback
        /// What callbacks call back; it calls nothing itself, so that there is an end.
        case innerCallback
    }

    static let inputs = 8
    /// Words of the stack that programs use, below r10.
    static let stackWords = 8
    static let numbers: [Register] = [.r0, .r1, .r2, .r3, .r4, .r5, .r7, .r8]
    package static let contextWords = inputs + numbers.count + stackWords

    /// Whether the kernel is to run it too.
    let isForKernel: Bool
    /// Whether it calls helpers, and finds its inputs in a map.
    let hasSession: Bool

    package static func make(seed: UInt64, isForKernel: Bool = false) -> [Instruction] {
        make(seed: seed, isForKernel: isForKernel, hasSession: false).code
    }

    static func make(seed: UInt64, isForKernel: Bool, hasSession: Bool) -> RandomProgram {
        var program = RandomProgram(seed: seed, isForKernel: isForKernel, hasSession: hasSession)
        program.build()
        return program
    }

    private init(seed: UInt64, isForKernel: Bool, hasSession: Bool) {
        random = SeededGenerator(seed: seed)
        self.isForKernel = isForKernel
        self.hasSession = hasSession
    }

    /// Contexts of edges and random words.
    package static func contexts(seed: UInt64, count: Int) -> [[UInt8]] {
        var random = SeededGenerator(seed: ~seed)
        return (0..<count).map { _ in
            let input = (0..<inputs).map { _ in
                Bool.random(using: &random) ? random.next() : edge(&random)
            }
            return bytes(input + [UInt64](repeating: 0, count: contextWords - inputs))
        }
    }

    private static func edge(_ random: inout SeededGenerator) -> UInt64 {
        OpcodeCase.edges[Int.random(in: 0..<OpcodeCase.edges.count, using: &random)]
    }

    private mutating func build() {
        if hasSession { emit(.loadMapValue, .r6, imm: SessionMap.words.index) } else { emit(.mov64Reg, .r6, .r1) }
        for (index, register) in Self.numbers.enumerated() { emit(.load64, register, .r6, offset: Int32(8 * index)) }
        for word in 1...Self.stackWords {
            unit { $0.emit(.store64Reg, .r10, Self.numbers[word - 1], offset: Int32(-8 * word)) }
        }
        for _ in 0..<Int.random(in: 8...30, using: &random) {
            unit { program in
                let isHelper = program.hasSession && Int.random(in: 0..<3, using: &program.random) == 0
                if isHelper { program.helper() } else { program.statement() }
            }
        }
        for (index, register) in Self.numbers.enumerated() {
            unit { $0.emit(.store64Reg, .r6, register, offset: Int32(8 * (Self.inputs + index))) }
        }
        for word in 1...Self.stackWords {
            unit {
                $0.emit(.load64, .r1, .r10, offset: Int32(-8 * word))
                $0.emit(.store64Reg, .r6, .r1, offset: Int32(8 * (Self.inputs + Self.numbers.count + word - 1)))
            }
        }
        emit(.exit)
        for callee in Callee.allCases where references.contains(where: { $0.to == callee }) {
            let start = code.count
            switch callee {
            case .function: function()
            case .loopCallback: loopCallback()
            case .eachCallback: eachCallback()
            case .innerCallback: innerCallback()
            }
            for reference in references where reference.to == callee {
                // From the slot after the first one of the instruction.
                code[reference.at].imm = Int64(code[reference.at..<start].reduce(-1) { $0 + $1.slots })
            }
        }
    }

    /// Code that can be left out as a whole.
    private mutating func unit(_ body: (inout RandomProgram) -> Void) {
        let start = code.count
        body(&self)
        units.append(start..<code.count)
    }

    mutating func emit(
        _ opcode: Opcode,
        _ dst: Register = .r0,
        _ src: Register = .r0,
        offset: Int32 = 0,
        imm: Int64 = 0
    ) {
        code.append(Instruction(opcode, dst: dst, src: src, offset: offset, imm: imm))
        // Linux 6.18 leaves the upper half of r0 as it was on some paths where the 32-bit exchange took place; RFC 9669
        // section 5.3 and the kernel's own interpreter clear it.
        if isForKernel, opcode == .atomicCompareExchange32 { code.append(Instruction(.mov32Reg)) }
    }

    mutating func number() -> Register { Self.numbers[Int.random(in: 0..<Self.numbers.count, using: &random)] }

    mutating func immediate() -> Int64 {
        Bool.random(using: &random)
            ? Int64(Int32.random(in: .min ... .max, using: &random))
            : OpcodeCase.immediates[Int.random(in: 0..<OpcodeCase.immediates.count, using: &random)]
    }

    private mutating func statement() {
        switch Int.random(in: 0..<20, using: &random) {
        case 12...19: idiom()
        case 0...4: arithmetic()
        case 5...6: memory()
        case 7: atomic()
        case 8...9: skip()
        case 10: loop()
        default: call()
        }
    }

    mutating func arithmetic() {
        let opcode = Self.arithmetic[Int.random(in: 0..<Self.arithmetic.count, using: &random)]
        var imm: Int64 = 0
        let dst = number()
        var src = Register.r0
        switch opcode.shape {
        case .arithmetic(let operation, let width, .imm):
            imm = immediate()
            switch operation {
            case .lsh, .rsh, .arsh: imm = Int64.random(in: 0..<(width == .w64 ? 64 : 32), using: &random)
            case .div, .mod, .sdiv, .smod: if imm == 0 { imm = 3 }
            case .add, .sub, .mul, .or, .and, .xor, .mov: break
            }
        case .arithmetic(_, _, .reg), .signExtend: src = number()
        case .wide: imm = Int64(bitPattern: random.next())
        default: break
        }
        units.append(code.count..<code.count + 1)
        emit(opcode, dst, src, imm: imm)
    }

    private static let arithmetic: [Opcode] = Opcode.allCases.filter {
        switch $0.shape {
        case .arithmetic, .negate, .signExtend, .byteOrder, .wide(.value): true
        default: false
        }
    }

    private static let memory: [Opcode] = Opcode.allCases.filter {
        switch $0.shape {
        case .load, .store, .atomic(.loadAcquire, .b64), .atomic(.storeRelease, .b64): true
        default: false
        }
    }

    private static let atomics: [Opcode] = Opcode.allCases.filter {
        switch $0.shape {
        case .atomic(.loadAcquire, _), .atomic(.storeRelease, _): false
        case .atomic: true
        default: false
        }
    }

    mutating func memory() {
        let opcode = Self.memory[Int.random(in: 0..<Self.memory.count, using: &random)]
        let size: Size
        var isLoad = false
        var imm: Int64 = 0
        switch opcode.shape {
        case .load(let width, _):
            (size, isLoad) = (width, true)
        case .store(let width, let kind):
            size = width
            if kind == .imm { imm = immediate() }
        case .atomic(let operation, let width): (size, isLoad) = (width, operation == .loadAcquire)
        default: return
        }
        let slot = Int.random(in: 0..<8 * Self.stackWords / size.bytes, using: &random)
        let offset = Int32(-8 * Self.stackWords + slot * size.bytes)
        if isLoad {
            emit(opcode, number(), .r10, offset: offset)
        } else if case .store(_, .imm) = opcode.shape {
            emit(opcode, .r10, offset: offset, imm: imm)
        } else {
            emit(opcode, .r10, number(), offset: offset)
        }
    }

    /// An atomic operation on a stack word that the verifier knows nothing about.
    ///
    /// Linux 6.18 follows the precision of a fetched value to the instruction's source register instead of the stack word
    /// (kernel/bpf/verifier.c, `backtrack_insn`), then prunes states that differ in that word, and removes branches
    /// that do run. A byte stored there first leaves it no bounds to prune by.
    private mutating func atomic() {
        let opcode = Self.atomics[Int.random(in: 0..<Self.atomics.count, using: &random)]
        guard case .atomic(_, let size) = opcode.shape else { return }
        let slot = Int.random(in: 0..<8 * Self.stackWords / size.bytes, using: &random)
        let offset = Int32(-8 * Self.stackWords + slot * size.bytes)
        emit(.store8Reg, .r10, number(), offset: offset)
        emit(opcode, .r10, number(), offset: offset)
    }

    /// A conditional jump over a few instructions.
    private mutating func skip() {
        let conditions = Opcode.allCases.filter {
            if case .conditionalJump = $0.shape { true } else { false }
        }
        let opcode = conditions[Int.random(in: 0..<conditions.count, using: &random)]
        let dst = number()
        let jump = code.count
        if case .conditionalJump(_, _, .imm) = opcode.shape {
            emit(opcode, dst, imm: immediate())
        } else {
            emit(opcode, dst, number())
        }
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            if Bool.random(using: &random) { arithmetic() } else { memory() }
        }
        code[jump].offset = Int32(code[(jump + 1)...].reduce(0) { $0 + $1.slots })
    }

    /// A few instructions, a few times.
    private mutating func loop() {
        emit(.mov64Imm, .r9, imm: Int64.random(in: 1...6, using: &random))
        let start = code.count
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            if Bool.random(using: &random) { arithmetic() } else { atomic() }
        }
        emit(.sub64Imm, .r9, imm: 1)
        let distance = code[start...].reduce(0) { $0 + $1.slots } + 1
        emit(.jumpNotEqual64Imm, .r9, offset: Int32(-distance))
    }

    /// A call; afterwards the argument registers, which it destroys, hold numbers again.
    private mutating func call() {
        references.append((code.count, .function))
        emit(.callLocal)
        numberArguments()
    }

    /// Gives the registers that a call destroys numbers again.
    mutating func numberArguments() {
        for register in [Register.r1, .r2, .r3, .r4, .r5] {
            emit(.mov64Reg, register, [.r0, .r7, .r8][Int.random(in: 0..<3, using: &random)])
        }
    }

    /// u64 f(a, b, c, d, e), which has a stack and uses r6 to r9.
    private mutating func function() {
        emit(.mov64Reg, .r0, .r1)
        emit(.mov64Reg, .r7, .r2)
        emit(.mov64Reg, .r8, .r3)
        for word in 1...Self.stackWords {
            emit(.store64Reg, .r10, [.r1, .r2, .r4, .r5][word % 4], offset: Int32(-8 * word))
        }
        for _ in 0..<Int.random(in: 2...8, using: &random) {
            if Bool.random(using: &random) { arithmetic() } else { memory() }
        }
        emit(.exit)
    }
}
