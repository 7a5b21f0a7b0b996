import Testing

@testable import ISA

/// The error of decoding `slots`, nil where they decode.
func decodeError(_ slots: [RawInstruction]) -> DecodeError? {
    do {
        _ = try decode(slots)
        return nil
    } catch {
        return error
    }
}

/// A well-formed encoding with one field made wrong.
struct Malformed: CustomTestStringConvertible {
    var opcode: Opcode
    var slots: [RawInstruction]
    var expected: DecodeError.Kind

    var testDescription: String { "\(opcode): \(expected)" }

    /// Every way in which one field of `opcode` can be wrong, from the encoding table alone.
    static func all(_ opcode: Opcode) -> [Malformed] {
        let encoding = opcode.encoding
        let good = encode([Instruction(opcode)])
        var result: [Malformed] = []
        func add(_ expected: DecodeError.Kind, slot: Int = 0, _ change: (inout RawInstruction) -> Void) {
            var slots = good
            change(&slots[slot])
            result.append(Malformed(opcode: opcode, slots: slots, expected: expected))
        }
        let siblings = Opcode.allCases.filter { $0.encoding.code == encoding.code }
        switch encoding.dst {
        case .none: add(.reservedField(.dst)) { $0.registers = $0.registers & 0xf0 | 7 }
        case .read, .write, .readWrite:
            for bad: UInt8 in 11...15 { add(.badRegister(.dst, bad)) { $0.registers = $0.registers & 0xf0 | bad } }
        }
        if encoding.dst.writes { add(.framePointerWritten) { $0.registers = $0.registers & 0xf0 | 10 } }
        if encoding.src == .none {
            let variants = Set(siblings.map(\.encoding.kind))
            for bad: UInt8 in 1...15 where !variants.contains(bad) {
                let kind: DecodeError.Kind =
                    variants == [0] ? .reservedField(.src) : .unknownVariant(.src, Int32(bad))
                add(kind) { $0.registers = $0.registers & 0x0f | bad << 4 }
            }
        } else {
            for bad: UInt8 in 11...15 { add(.badRegister(.src, bad)) { $0.registers = $0.registers & 0x0f | bad << 4 } }
        }
        if encoding.src.writes { add(.framePointerWritten) { $0.registers = $0.registers & 0x0f | 0xa0 } }
        // Opcodes that can still be told apart by the offset, the src field being right.
        let rivals = siblings.filter { $0.encoding.src != .none || $0.encoding.kind == encoding.kind }
        if case .fixed = encoding.offset {
            let variants = rivals.compactMap { if case .fixed(let value) = $0.encoding.offset { value } else { nil } }
            for bad: Int16 in [1, 2, 7, 8, 16, 32, 64, -1, .min, .max] where !variants.contains(bad) {
                let kind: DecodeError.Kind =
                    variants.allSatisfy { $0 == 0 } ? .reservedField(.offset) : .unknownVariant(.offset, Int32(bad))
                add(kind) { $0.offset = bad }
            }
        }
        if case .fixed = encoding.imm {
            let same = rivals.filter { $0.encoding.offset == encoding.offset }
            let variants = same.compactMap { if case .fixed(let value) = $0.encoding.imm { value } else { nil } }
            for bad: Int32 in [1, 2, 15, 0x20, 0x30, 0x60, 0xe0, 0xf0, 0x101, -1, .min, .max]
            where !variants.contains(bad) {
                let kind: DecodeError.Kind =
                    variants.allSatisfy { $0 == 0 } ? .reservedField(.imm) : .unknownVariant(.imm, bad)
                add(kind) { $0.imm = bad }
            }
        }
        if good.count == 2 {
            add(.reservedSecondSlot(.code), slot: 1) { $0.code = 0x18 }
            add(.reservedSecondSlot(.dst), slot: 1) { $0.registers = 1 }
            add(.reservedSecondSlot(.src), slot: 1) { $0.registers = 0x10 }
            add(.reservedSecondSlot(.offset), slot: 1) { $0.offset = 1 }
            if encoding.imm == .wideLow { add(.reservedSecondSlot(.imm), slot: 1) { $0.imm = 1 } }
            result.append(Malformed(opcode: opcode, slots: [good[0]], expected: .truncatedWideInstruction))
        }
        return result
    }
}

@Suite struct MalformedTests {
    @Test(arguments: Opcode.allCases)
    func everyWrongFieldIsNamed(_ opcode: Opcode) {
        let cases = Malformed.all(opcode)
        #expect(!cases.isEmpty)
        // Two slots in front, so that the reported one cannot be right by chance.
        let prefix = encode([Instruction(.loadImm64, dst: .r1, imm: 1)])
        for malformed in cases {
            let error = decodeError(prefix + malformed.slots)
            #expect(error == DecodeError(malformed.expected, slot: 2), "\(malformed.testDescription)")
            #expect(error?.description.contains("slot 2: ") == true)
        }
    }

    @Test func thereAreThousandsOfCases() {
        #expect(Opcode.allCases.reduce(0) { $0 + Malformed.all($1).count } > 4000)
    }

    @Test func unusedCodesAreUnknown() {
        let used = Set(Opcode.allCases.map(\.encoding.code))
        var unknown = 0
        for code in UInt8.min...UInt8.max where !used.contains(code) {
            let raw = RawInstruction(code: code, registers: 0, offset: 0, imm: 0)
            #expect(decodeError([raw]) == DecodeError(.unknownOpcode(code), slot: 0))
            unknown += 1
        }
        #expect(unknown == 256 - used.count)
        #expect(used.count > 100)
    }

    @Test func nothingAndHalfASlot() {
        #expect(decodeError([]) == DecodeError(.empty, slot: 0))
        #expect(throws: DecodeError(.partialSlot, slot: 1)) { try decode([UInt8](repeating: 0, count: 13)) }
    }

    /// Whatever the bytes, the decoder answers, and what it accepts it can write back.
    @Test func randomSlotsNeverCrash() throws {
        var random = SplitMix(seed: 7)
        var accepted = 0
        for _ in 0..<200_000 {
            var slots: [RawInstruction] = []
            for _ in 0..<2 {
                let bits = random.next()
                // Half of the slots have few bits set: those often decode.
                let sparse = bits & 1 == 0
                let code = UInt8(truncatingIfNeeded: bits >> 8)
                let registers = UInt8(truncatingIfNeeded: bits >> 16) & (sparse ? 0x77 : 0xff)
                slots.append(
                    RawInstruction(
                        code: code,
                        registers: registers,
                        offset: sparse ? 0 : Int16(truncatingIfNeeded: bits >> 24),
                        imm: sparse ? 0 : Int32(truncatingIfNeeded: bits >> 32)
                    )
                )
            }
            if let instructions = try? decode(slots) {
                accepted += 1
                #expect(encode(instructions) == slots)
            }
        }
        #expect(accepted > 1000)
    }
}

/// Random numbers with a fixed seed (SplitMix64).
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
