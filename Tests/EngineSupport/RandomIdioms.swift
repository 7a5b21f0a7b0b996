internal import ISA

// Sequences that compilers emit and that our compiler treats as one: where it goes wrong, it goes wrong here.

extension RandomProgram {
    /// A few instructions on two or three registers, so that values are copied, mixed and dropped before they are used.
    mutating func idiom() {
        let (a, b, c) = (number(), number(), number())
        switch Int.random(in: 0..<16, using: &random) {
        case 0: copies(a, b, c)
        case 1: sums(a, b, c)
        case 2: rotation(a, b)
        case 3: extensions(a)
        case 4: knownConstant(a, b)
        case 5: indexedStack(a, b)
        case 6: indexedStack(a, a)
        case 7: narrow(a, b)
        case 8: joinedPaths(a, b, c)
        case 9: farJump(a, b)
        case 10: accumulate(a, b, c)
        case 11: divisions(a, b)
        case 12: atomicOnSelf(a)
        case 13...14: upperHalf(a, b, c)
        default: longJump(a)
        }
    }

    /// Copies in a ring, with changes in between.
    private mutating func copies(_ a: Register, _ b: Register, _ c: Register) {
        for _ in 0..<Int.random(in: 2...6, using: &random) {
            let (to, from) = [(a, b), (b, c), (c, a), (b, a)][Int.random(in: 0..<4, using: &random)]
            emit(
                Bool.random(using: &random)
                    ? .mov64Reg : [.mov64Reg, .mov32Reg][Int.random(in: 0..<2, using: &random)],
                to,
                from
            )
            if Int.random(in: 0..<3, using: &random) == 0 {
                emit(.add64Imm, from, imm: Int64.random(in: -9...9, using: &random))
            }
        }
    }

    /// Sums of sums, some with themselves.
    private mutating func sums(_ a: Register, _ b: Register, _ c: Register) {
        for _ in 0..<Int.random(in: 2...7, using: &random) {
            let registers = [a, b, c]
            let to = registers[Int.random(in: 0..<3, using: &random)]
            let from = registers[Int.random(in: 0..<3, using: &random)]
            switch Int.random(in: 0..<6, using: &random) {
            case 0: emit(.mov64Reg, to, from)
            case 1...2: emit(.add64Reg, to, from)
            case 3: emit(.add64Imm, to, imm: immediate())
            case 4: emit(.lsh64Imm, to, imm: Int64.random(in: 0...4, using: &random))
            default: emit(.sub64Reg, to, from)
            }
        }
    }

    /// `x << n | x >> (width - n)`, in both orders, with the halves dead or alive afterwards.
    private mutating func rotation(_ a: Register, _ b: Register) {
        let isWide = Bool.random(using: &random)
        let width: Int64 = isWide ? 64 : 32
        var count = Int64.random(in: 1..<width, using: &random)
        if isWide { emit(.mov64Reg, a, b) } else { emit(.mov32Reg, a, b) }
        let isLeft = Bool.random(using: &random)
        emit(isLeft ? (isWide ? .lsh64Imm : .lsh32Imm) : (isWide ? .rsh64Imm : .rsh32Imm), a, imm: count)
        // Now and then the counts do not fit, and it is no rotation.
        if Int.random(in: 0..<8, using: &random) == 0 { count = Int64.random(in: 1..<width, using: &random) }
        emit(isLeft ? (isWide ? .rsh64Imm : .rsh32Imm) : (isWide ? .lsh64Imm : .lsh32Imm), b, imm: width - count)
        let combine: [Opcode] =
            isWide ? [.or64Reg, .or64Reg, .xor64Reg, .add64Reg] : [.or32Reg, .or32Reg, .or64Reg, .add32Reg]
        emit(combine[Int.random(in: 0..<4, using: &random)], a, b)
        if Bool.random(using: &random) { emit(.mov64Imm, b, imm: 5) }
    }

    /// Shifts up and down again, which cut or extend.
    private mutating func extensions(_ a: Register) {
        let up: Int64 = [32, 48, 56, 8, 31][Int.random(in: 0..<5, using: &random)]
        let down: Int64 = Bool.random(using: &random) ? up : Int64.random(in: 0..<64, using: &random)
        if Bool.random(using: &random) { emit(.mov64Reg, a, number()) }
        emit(.lsh64Imm, a, imm: up)
        emit(Bool.random(using: &random) ? .rsh64Imm : .arsh64Imm, a, imm: down)
    }

    /// A constant in a register, used as everything that an operand can be.
    private mutating func knownConstant(_ a: Register, _ b: Register) {
        let value = immediate()
        switch Int.random(in: 0..<4, using: &random) {
        case 0: emit(.mov32Imm, a, imm: value)
        case 1: emit(.loadImm64, a, imm: Int64(bitPattern: random.next()))
        default: emit(.mov64Imm, a, imm: value)
        }
        let uses: [Opcode] = [
            .add64Reg, .sub64Reg, .mul64Reg, .or64Reg, .and64Reg, .xor64Reg, .add32Reg, .and32Reg, .mov32Reg, .mov64Reg,
            .div64Reg, .mod64Reg, .sdiv64Reg, .smod32Reg, .div32Reg, .store64Reg, .store32Reg, .store8Reg, .lsh64Reg,
            .arsh32Reg,
        ]
        let use = uses[Int.random(in: 0..<uses.count, using: &random)]
        switch use.shape {
        case .store(let size, _):
            emit(use, .r10, a, offset: Int32(-8 * Int.random(in: 1...Self.stackWords, using: &random)))
            if size == .b8 { emit(.store16Imm, .r10, offset: -8, imm: value) }
        case .arithmetic(let operation, let width, _) where operation == .lsh || operation == .arsh:
            emit(.mov64Imm, a, imm: Int64.random(in: 0..<(width == .w64 ? 64 : 32), using: &random))
            emit(use, b, a)
        default: emit(use, b, a)
        }
    }

    /// `base + (index << 3)` on the stack, the base a copy of r10.
    private mutating func indexedStack(_ a: Register, _ index: Register) {
        emit(.mov64Reg, .r9, index)
        emit(.and64Imm, .r9, imm: 7)
        emit(.lsh64Imm, .r9, imm: 3)
        // r9 is free outside loops; here it becomes the address.
        if Bool.random(using: &random) {
            emit(.add64Reg, .r9, .r10)
        } else {
            let other = number()
            emit(.mov64Reg, other, .r10)
            emit(.add64Reg, other, .r9)
            emit(.mov64Reg, .r9, other)
            // No address may stay where numbers are.
            emit(.mov64Imm, other, imm: 77)
        }
        if Bool.random(using: &random) { emit(.add64Imm, .r9, imm: -64) }
        let offset: Int32 = code.last?.opcode == .add64Imm && code.last?.imm == -64 ? 0 : -64
        switch Int.random(in: 0..<4, using: &random) {
        case 0: emit(.load64, a, .r9, offset: offset)
        case 1: emit(.store64Reg, .r9, a, offset: offset)
        case 2: emit(.load32, a, .r9, offset: offset + 4)
        default:
            emit(.load8, a, .r9, offset: offset + 3)
            emit(.add64Imm, a, imm: 1)
            emit(.store8Reg, .r9, a, offset: offset + 3)
        }
    }

    /// 32-bit operations and copies around 64-bit ones.
    private mutating func narrow(_ a: Register, _ b: Register) {
        let operations: [Opcode] = [
            .mov32Reg, .mov32Reg, .add32Imm, .add32Reg, .mul32Imm, .and32Imm, .and64Imm, .rsh32Imm, .lsh32Imm, .or64Reg,
            .mov64Reg,
            .xor64Reg, .neg32, .movsx32From8, .movsx64From32, .load32, .rsh64Imm,
        ]
        for _ in 0..<Int.random(in: 2...6, using: &random) {
            let operation = operations[Int.random(in: 0..<operations.count, using: &random)]
            let (to, from) = Bool.random(using: &random) ? (a, b) : Bool.random(using: &random) ? (b, a) : (a, a)
            switch operation.shape {
            case .arithmetic(.lsh, _, _), .arithmetic(.rsh, _, _):
                emit(operation, to, imm: Int64.random(in: 0...31, using: &random))
            case .arithmetic(_, _, .imm): emit(operation, to, imm: immediate())
            case .load: emit(operation, to, .r10, offset: -8)
            case .negate: emit(operation, to)
            default: emit(operation, to, from)
            }
        }
    }

    /// A 32-bit value that waits, a 64-bit operation with a constant that is known, and a question about the upper half.
    ///
    /// A compiler that remembers which upper halves are zero has to forget it at a carry.
    private mutating func upperHalf(_ a: Register, _ b: Register, _ c: Register) {
        // Both halves of the source full, so that the narrow value is one that carries.
        if Bool.random(using: &random) { emit(.or64Imm, b, imm: -0x8000_0000) }
        switch Int.random(in: 0..<6, using: &random) {
        case 0: emit(.rsh32Imm, a, imm: Int64.random(in: 0...1, using: &random))
        case 1:
            emit(.mov64Reg, a, b)
            emit(.rsh64Imm, a, imm: Int64.random(in: 30...33, using: &random))
        case 2:
            emit(.mov64Reg, a, b)
            emit(Bool.random(using: &random) ? .lsh32Imm : .rsh32Imm, a, imm: Int64.random(in: 0...1, using: &random))
        default: emit(.mov32Reg, a, b)
        }
        let operations: [(register: Opcode, immediate: Opcode)] = [
            (.add64Reg, .add64Imm), (.add64Reg, .add64Imm), (.sub64Reg, .sub64Imm), (.or64Reg, .or64Imm),
            (.xor64Reg, .xor64Imm), (.and64Reg, .and64Imm), (.mul64Reg, .mul64Imm),
        ]
        for _ in 0..<Int.random(in: 0...2, using: &random) {
            let operation = operations[Int.random(in: 0..<operations.count, using: &random)]
            let value = Bool.random(using: &random) ? 0x7fff_ffff : immediate()
            if c != a, Int.random(in: 0..<4, using: &random) != 0 {
                emit(.mov64Imm, c, imm: value)
                emit(operation.register, a, c)
            } else {
                emit(operation.immediate, a, imm: value)
            }
        }
        switch Int.random(in: 0..<4, using: &random) {
        case 0: emit(.add32Imm, a, imm: 0)
        case 1: emit(.jumpGreater64Imm, a, offset: 0, imm: 0x7fff_ffff)
        default: emit(.mov32Reg, Bool.random(using: &random) ? a : b, a)
        }
    }

    /// Values that wait across a jump and are needed on one side, or on both in different ways.
    private mutating func joinedPaths(_ a: Register, _ b: Register, _ c: Register) {
        emit(.mov64Reg, a, b)
        emit(.add64Imm, a, imm: Int64.random(in: -100...100, using: &random))
        let jump = code.count
        emit(
            [.jumpGreater64Reg, .jumpSet32Imm, .jumpSignedLess64Imm, .jumpEqual64Reg][
                Int.random(in: 0..<4, using: &random)
            ],
            a,
            .r0
        )
        if case .conditionalJump(_, _, .imm) = code[jump].opcode.shape {
            code[jump].src = .r0
            code[jump].imm = immediate()
        } else {
            code[jump].src = c
        }
        if Bool.random(using: &random) { emit(.mov64Reg, a, c) } else { emit(.add64Reg, c, a) }
        if Bool.random(using: &random) { emit(.mov64Imm, b, imm: 3) }
        let skip = code.count
        let hasElse = Bool.random(using: &random)
        if hasElse { emit(.jump) }
        code[jump].offset = distance(from: jump)
        if hasElse {
            emit(.mov64Reg, c, a)
            emit(.sub64Reg, a, b)
            code[skip].offset = distance(from: skip)
        }
    }

    /// `if c goto +1; goto far`.
    private mutating func farJump(_ a: Register, _ b: Register) {
        emit(.mov64Reg, a, b)
        emit(
            [.jumpLess64Imm, .jumpSignedGreaterEqual32Imm, .jumpNotEqual64Imm][Int.random(in: 0..<3, using: &random)],
            a,
            offset: 1,
            imm: immediate()
        )
        let far = code.count
        emit(.jump)
        emit(.add64Imm, a, imm: 11)
        emit(.xor64Reg, b, a)
        code[far].offset = distance(from: far)
    }

    /// A loop that carries sums and copies from one turn to the next.
    private mutating func accumulate(_ a: Register, _ b: Register, _ c: Register) {
        emit(.mov64Imm, .r9, imm: Int64.random(in: 1...5, using: &random))
        let start = code.count
        emit(.mov64Reg, a, b)
        emit(.add64Reg, a, c)
        if Bool.random(using: &random) { emit(.load64, c, .r10, offset: -16) }
        if Bool.random(using: &random) { emit(.add64Reg, c, a) }
        emit(.mov64Reg, b, a)
        emit(.add64Imm, .r9, imm: -1)
        if Bool.random(using: &random) {
            emit(.jumpEqual64Imm, .r9, offset: 1)
            let back = code.count
            emit(.jump)
            code[back].offset = -slots(start...back)
        } else {
            let back = code.count
            emit(.jumpNotEqual64Imm, .r9)
            code[back].offset = -slots(start...back)
        }
    }

    /// Divisions by constants and registers, where r0 and r3 hold values that must survive.
    private mutating func divisions(_ a: Register, _ b: Register) {
        let operations: [Opcode] = [
            .div64Imm, .mod64Imm, .div32Imm, .mod32Imm, .sdiv64Imm, .smod64Imm, .sdiv32Imm, .smod32Imm, .div64Reg,
            .mod64Reg,
            .div32Reg, .mod32Reg, .sdiv64Reg, .smod32Reg,
        ]
        let operation = operations[Int.random(in: 0..<operations.count, using: &random)]
        var divisor: Int64 = [3, 7, 10, 1000, 1_000_000, 641, 6, 1 << 20, 0x7fff_ffff, -3, -1, 1, -0x8000_0000][
            Int.random(in: 0..<13, using: &random)
        ]
        if Bool.random(using: &random) { divisor = immediate() }
        emit(
            operation,
            a,
            operation.shape.usesRegister ? b : .r0,
            imm: operation.shape.usesRegister ? 0 : divisor == 0 ? 5 : divisor
        )
    }

    /// An atomic operation whose register is also r0 or near it.
    private mutating func atomicOnSelf(_ a: Register) {
        let offset = Int32(-8 * Int.random(in: 1...Self.stackWords, using: &random))
        emit(.store8Reg, .r10, a, offset: offset)
        let operations: [Opcode] = [
            .atomicFetchAdd64, .atomicFetchOr64, .atomicFetchAnd32, .atomicFetchXor64, .atomicExchange32,
            .atomicCompareExchange64,
            .atomicCompareExchange32, .atomicFetchXor32,
        ]
        emit(
            operations[Int.random(in: 0..<operations.count, using: &random)],
            .r10,
            Bool.random(using: &random) ? .r0 : a,
            offset: offset
        )
    }

    /// More code between a jump and its destination than one byte can count.
    private mutating func longJump(_ a: Register) {
        let jump = code.count
        emit(.jumpSignedGreater64Imm, a, imm: immediate())
        for _ in 0..<Int.random(in: 8...40, using: &random) { arithmetic() }
        code[jump].offset = distance(from: jump)
    }

    /// Slots from behind an instruction to the end of the program so far.
    private func distance(from index: Int) -> Int32 { slots((index + 1)...(code.count - 1)) }

    private func slots(_ range: ClosedRange<Int>) -> Int32 { Int32(code[range].reduce(0) { $0 + $1.slots }) }
}

extension Shape {
    fileprivate var usesRegister: Bool {
        if case .arithmetic(_, _, .reg) = self { true } else { false }
    }
}
