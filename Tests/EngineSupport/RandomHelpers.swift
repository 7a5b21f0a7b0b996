internal import ISA

// Calls of helpers between other instructions: values wait before them and are needed after them, or not.

/// The maps that programs with helpers use.
enum SessionMap: Int64, CaseIterable {
    /// Inputs and outputs, what the context is for other programs.
    case words
    case array, hash, programs

    var index: Int64 { rawValue }
}

extension RandomProgram {
    /// Where keys and values for helpers are, below what other instructions use of the stack.
    private static let key: Int32 = -80
    private static let value: Int32 = -96
    /// Entries of maps that programs ask for; some do not exist.
    static let keys: Int64 = 12

    /// A call of a helper; afterwards every register holds a number again.
    mutating func helper() {
        // Callbacks need BTF of their functions in the kernel, tail calls programs of one type, and its own numbers are others.
        switch Int.random(in: 0..<(isForKernel ? 10 : 18), using: &random) {
        case 0...4: lookup()
        case 5...7: update()
        case 8...9: delete()
        case 10...12: loopHelper()
        case 13: forEach()
        case 14: simple()
        case 15: probeRead()
        case 16: callThroughRegister()
        default: tailCall()
        }
    }

    private mutating func dataMap() -> SessionMap { Bool.random(using: &random) ? .array : .hash }

    /// A key in the stack: known to the compiler, or not.
    private mutating func putKey() {
        if Bool.random(using: &random) {
            emit(.store64Imm, .r10, offset: Self.key, imm: Int64.random(in: 0..<Self.keys, using: &random))
        } else {
            emit(.mov64Reg, .r9, number())
            emit(.mod32Imm, .r9, imm: Self.keys)
            emit(.store64Reg, .r10, .r9, offset: Self.key)
        }
    }

    private mutating func putValue() {
        emit(.store64Reg, .r10, number(), offset: Self.value)
        emit(.store64Reg, .r10, number(), offset: Self.value + 8)
    }

    /// A register that points into the stack, in one of the ways that compilers have.
    private mutating func pointer(_ register: Register, _ offset: Int32) {
        emit(.mov64Reg, register, .r10)
        emit(.add64Imm, register, imm: Int64(offset))
    }

    private mutating func lookup() {
        let map = dataMap()
        putKey()
        // In any order.
        if Bool.random(using: &random) {
            emit(.loadMap, .r1, imm: map.index)
            pointer(.r2, Self.key)
        } else {
            pointer(.r2, Self.key)
            emit(.loadMap, .r1, imm: map.index)
        }
        emit(.callHelper, imm: 1)
        let jump = code.count
        emit(.jumpEqual64Imm)
        for _ in 0..<Int.random(in: 1...3, using: &random) {
            let (offset, kept): (Int32, Register) = (
                Bool.random(using: &random) ? 0 : 8, Bool.random(using: &random) ? .r7 : .r8
            )
            switch Int.random(in: 0..<5, using: &random) {
            case 0: emit(.store64Reg, .r0, kept, offset: offset)
            case 1: emit(.atomicAdd64, .r0, kept, offset: offset)
            case 2: emit(.store32Imm, .r0, offset: offset, imm: immediate())
            case 3: emit(.load32, kept, .r0, offset: offset)
            default: emit(.load64, kept, .r0, offset: offset)
            }
        }
        emit(.mov64Imm, .r0, imm: immediate())
        code[jump].offset = Int32(code[(jump + 1)...].reduce(0) { $0 + $1.slots })
        numberArguments()
    }

    private mutating func update() {
        putKey()
        putValue()
        emit(.loadMap, .r1, imm: dataMap().index)
        pointer(.r2, Self.key)
        pointer(.r3, Self.value)
        // BPF_ANY, BPF_NOEXIST, BPF_EXIST, and one that there is not.
        emit(.mov64Imm, .r4, imm: [0, 0, 0, 1, 2, 3][Int.random(in: 0..<6, using: &random)])
        emit(.callHelper, imm: 2)
        numberArguments()
    }

    private mutating func delete() {
        putKey()
        emit(
            .loadMap,
            .r1,
            imm: Int.random(in: 0..<4, using: &random) == 0 ? SessionMap.array.index : SessionMap.hash.index
        )
        pointer(.r2, Self.key)
        emit(.callHelper, imm: 3)
        numberArguments()
    }

    /// bpf_get_current_pid_tgid, bpf_get_current_uid_gid, or bpf_ktime_get_ns, which nobody compares.
    private mutating func simple() {
        let number: Int64 = [14, 14, 15, 5][Int.random(in: 0..<4, using: &random)]
        emit(.callHelper, imm: number)
        if number == 5 { emit(.mov64Imm, .r0, imm: immediate()) }
        numberArguments()
    }

    /// bpf_probe_read of the program's own stack; now and then of what cannot be read.
    private mutating func probeRead() {
        putValue()
        pointer(.r1, Self.value)
        emit(.mov64Imm, .r2, imm: Int64.random(in: 1...16, using: &random))
        if Int.random(in: 0..<6, using: &random) == 0 {
            emit(.mov64Imm, .r3, imm: 8)
        } else {
            pointer(.r3, Int32(-8 * Int.random(in: 2...Self.stackWords, using: &random)))
        }
        emit(.callHelper, imm: Bool.random(using: &random) ? 4 : 113)
        emit(.load64, Bool.random(using: &random) ? .r7 : .r8, .r10, offset: Self.value)
        numberArguments()
    }

    /// The arguments of a helper that calls back: the callback in r2, a context in r3, no flags.
    private mutating func callback(_ callee: Callee) {
        putValue()
        references.append((code.count, callee))
        emit(.loadFunction, .r2)
        // Now and then the compiler must not know which function it is.
        if Int.random(in: 0..<4, using: &random) == 0 {
            emit(.store64Reg, .r10, .r2, offset: Self.key)
            emit(.load64, .r2, .r10, offset: Self.key)
        }
        pointer(.r3, Self.value)
        emit(.mov64Imm, .r4, imm: Int.random(in: 0..<10, using: &random) == 0 ? 1 : 0)
    }

    private mutating func loopHelper(_ callee: Callee = .loopCallback) {
        if Bool.random(using: &random) {
            emit(.mov64Imm, .r1, imm: Int64.random(in: 0...5, using: &random))
        } else {
            emit(.and64Imm, .r1, imm: 3)
        }
        emit(.mov64Reg, .r9, .r1)
        callback(callee)
        emit(.mov64Reg, .r1, .r9)
        emit(.callHelper, imm: 181)
        emit(.load64, Bool.random(using: &random) ? .r7 : .r8, .r10, offset: Self.value)
        numberArguments()
    }

    private mutating func forEach(_ callee: Callee = .eachCallback) {
        callback(callee)
        emit(.loadMap, .r1, imm: dataMap().index)
        emit(.callHelper, imm: 164)
        emit(.load64, Bool.random(using: &random) ? .r7 : .r8, .r10, offset: Self.value)
        numberArguments()
    }

    /// `callx` of the program's function or of a helper.
    private mutating func callThroughRegister() {
        if Bool.random(using: &random) {
            references.append((code.count, .function))
            emit(.loadFunction, .r9)
        } else {
            emit(.mov64Imm, .r9, imm: 14)
        }
        emit(.callRegister, .r9)
        // A handle must not stay where it could be seen, as it differs between programs that do the same.
        emit(.mov64Imm, .r9, imm: 0)
        numberArguments()
    }

    private mutating func tailCall() {
        emit(.loadMap, .r2, imm: SessionMap.programs.index)
        if Bool.random(using: &random) {
            emit(.mov64Imm, .r3, imm: Int64.random(in: 0..<5, using: &random))
        } else {
            emit(.and64Imm, .r3, imm: 3)
        }
        emit(.callHelper, imm: 12)
        // r0 means nothing where the program goes on.
        emit(.mov64Imm, .r0, imm: immediate())
        numberArguments()
    }

    // MARK: - Callbacks

    /// u64 f(index, context): 0, or 1 to stop.
    mutating func loopCallback() {
        emit(.mov64Reg, .r6, .r2)
        emit(.mov64Reg, .r7, .r1)
        emit(.load64, .r8, .r6)
        callbackBody(isInner: false)
    }

    /// The same for either helper, which gives it a number or the address of a map in r1.
    mutating func innerCallback() {
        emit(.mov64Reg, .r6, .r10)
        emit(.add64Imm, .r6, imm: Int64(Self.value))
        emit(.mov64Imm, .r7, imm: immediate())
        emit(.mov64Imm, .r8, imm: immediate())
        callbackBody(isInner: true)
    }

    /// u64 f(map, key, value, context): 0, or 1 to stop.
    mutating func eachCallback() {
        emit(.mov64Reg, .r6, .r4)
        emit(.load32, .r7, .r2)
        emit(.load64, .r8, .r3)
        if Bool.random(using: &random) { emit(.store64Reg, .r3, .r7, offset: 8) }
        callbackBody(isInner: false)
    }

    /// From r7 and r8 to the context at r6.
    ///
    /// - Parameter isInner: whether it must not call back, nor leave for a program that may.
    private mutating func callbackBody(isInner: Bool) {
        emit(.mov64Reg, .r0, .r7)
        numberArguments()
        for word in 1...Self.stackWords { emit(.store64Reg, .r10, [.r7, .r8][word % 2], offset: Int32(-8 * word)) }
        for _ in 0..<Int.random(in: 1...5, using: &random) {
            switch Int.random(in: 0..<(isInner ? 8 : 11), using: &random) {
            case 0...2: arithmetic()
            case 3: memory()
            case 4: lookup()
            case 5: update()
            case 6...7: idiom()
            case 8: loopHelper(.innerCallback)
            case 9: forEach(.innerCallback)
            default: tailCall()
            }
        }
        emit(.store64Reg, .r6, number())
        emit(.store64Reg, .r6, number(), offset: 8)
        emit(.and64Imm, .r0, imm: 1)
        if Bool.random(using: &random) { emit(.mov64Imm, .r0, imm: 0) }
        emit(.exit)
    }
}
