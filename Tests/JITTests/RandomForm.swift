import JIT

/// Random numbers that are the same on every machine (splitmix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}

private let names32 = [
    "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d",
    "r15d",
]

func name(_ register: GPR, _ width: OperandWidth = .w64) -> String {
    width == .w64 ? "\(register)" : names32[Int(register.rawValue)]
}

/// A number as capstone prints it: small ones in decimal, others in hexadecimal.
private func immediate(_ value: Int64) -> String {
    value <= 9 ? "\(value)" : "0x" + String(value, radix: 16)
}

/// The text with its last operand, where that is a number, as an unsigned one of the first operand's width.
///
/// Capstone prints the same bits as `-1`, `0xff` or `0xffffffff`, depending on the instruction and its version.
func normalized(_ text: String) -> String {
    let words = text.split(separator: " ")
    guard words.count > 1, let last = words.last, let number = parse(last) else { return text }
    let isNarrow = words.count > 2 && names32.contains(String(words[1].dropLast()))
    return (words.dropLast() + [Substring(unsignedImmediate(number, isNarrow ? .w32 : .w64))]).joined(separator: " ")
}

private func parse(_ word: Substring) -> Int64? {
    let isNegative = word.hasPrefix("-")
    let digits = isNegative ? word.dropFirst() : word
    let magnitude = digits.hasPrefix("0x") ? UInt64(digits.dropFirst(2), radix: 16) : UInt64(digits)
    return magnitude.map { Int64(bitPattern: isNegative ? 0 &- $0 : $0) }
}

/// A sign-extended immediate as an unsigned number of `width`.
func unsignedImmediate(_ value: Int64, _ width: OperandWidth) -> String {
    let bits = width == .w64 ? UInt64(bitPattern: value) : UInt64(UInt32(truncatingIfNeeded: value))
    return bits <= 9 ? "\(bits)" : "0x" + String(bits, radix: 16)
}

private func memory(_ base: GPR, _ displacement: Int32, _ width: OperandWidth) -> String {
    let sign = displacement < 0 ? " - " : " + "
    let magnitude = Int64(displacement.magnitude)
    return (width == .w64 ? "qword" : "dword") + " ptr [\(base)"
        + (displacement == 0 ? "]" : sign + immediate(magnitude) + "]")
}

/// Appends a random instruction without labels and returns what a disassembler must say.
func appendRandom(_ assembler: inout Assembler, _ random: inout SeededGenerator) -> String {
    func pick<T>(_ values: [T]) -> T { values[Int.random(in: 0..<values.count, using: &random)] }
    let dst = pick(GPR.allCases)
    let src = pick(GPR.allCases)
    let width: OperandWidth = pick([.w32, .w64])
    let displacement: Int32 = pick([0, 1, -1, 8, 127, -128, 128, -129, Int32.random(in: .min ... .max, using: &random)])
    let number: Int32 = pick([
        0, 1, -1, 9, 10, -10, 127, -128, 128, -129, .max, .min, Int32.random(in: .min ... .max, using: &random),
    ])
    switch Int.random(in: 0..<19, using: &random) {
    case 0:
        assembler.push(dst)
        return "push \(dst)"
    case 1:
        assembler.push(number)
        return "push " + unsignedImmediate(Int64(number), .w64)
    case 2:
        assembler.pop(dst)
        return "pop \(dst)"
    case 3:
        let value = pick([0, 9, 10, UInt64(UInt32.max), UInt64(bitPattern: Int64(number)), random.next()])
        assembler.mov(dst, value)
        if value <= UInt64(UInt32.max) { return "mov \(name(dst, .w32)), " + unsignedImmediate(Int64(value), .w64) }
        let isShort = Int32(exactly: Int64(bitPattern: value)) != nil
        return (isShort ? "mov" : "movabs") + " \(dst), " + unsignedImmediate(Int64(bitPattern: value), .w64)
    case 4:
        assembler.mov(dst, src, width)
        return "mov \(name(dst, width)), \(name(src, width))"
    case 5:
        assembler.load(dst, .base(src, displacement), width)
        return "mov \(name(dst, width)), " + memory(src, displacement, width)
    case 6:
        assembler.store(.base(dst, displacement), src, width)
        return "mov " + memory(dst, displacement, width) + ", \(name(src, width))"
    case 7:
        assembler.lea(dst, .base(src, displacement))
        return "lea \(dst), " + memory(src, displacement, .w64).replacing("qword ptr ", with: "")
    case 8...9:
        let operation = pick(ALUOperation.allCases)
        assembler.alu(operation, dst, src, width)
        return "\(operation) \(name(dst, width)), \(name(src, width))"
    case 10...11:
        let operation = pick(ALUOperation.allCases)
        assembler.alu(operation, dst, number, width)
        return "\(operation) \(name(dst, width)), " + unsignedImmediate(Int64(number), width)
    case 12:
        let operation = pick(ShiftOperation.allCases)
        let count = UInt8.random(in: 2..<(width == .w64 ? 64 : 32), using: &random)
        assembler.shift(operation, dst, count, width)
        return "\(operation) \(name(dst, width)), " + immediate(Int64(count))
    case 13:
        assembler.test(dst, src, width)
        return "test \(name(dst, width)), \(name(src, width))"
    case 14:
        assembler.jump(.base(dst, displacement))
        return "jmp " + memory(dst, displacement, .w64)
    case 15:
        assembler.call(.base(dst, displacement))
        return "call " + memory(dst, displacement, .w64)
    case 16:
        assembler.call(dst)
        return "call \(dst)"
    case 17:
        assembler.jump(dst)
        return "jmp \(dst)"
    default:
        let isReturn = Bool.random(using: &random)
        if isReturn { assembler.ret() } else { assembler.ud2() }
        return isReturn ? "ret" : "ud2"
    }
}
