import Testing

@testable import ISA

/// Instructions of every opcode, with several values in each field that the opcode uses.
func samples(of opcode: Opcode) -> [Instruction] {
    let encoding = opcode.encoding
    let dsts: [Register] =
        switch encoding.dst {
        case .none: [.r0]
        case .read: [.r0, .r1, .r9, .r10]
        case .write, .readWrite: [.r0, .r1, .r9]
        }
    let srcs: [Register] =
        switch encoding.src {
        case .none: [.r0]
        case .read: [.r0, .r2, .r10]
        case .write, .readWrite: [.r0, .r2, .r9]
        }
    var offsets: [Int32] =
        switch encoding.offset {
        case .fixed: [0]
        case .bytes, .slots, .number: [0, 1, -1, 0x1234, Int32(Int16.min), Int32(Int16.max)]
        }
    let small: [Int64] = [0, 1, -1, 0x1234_5678, Int64(Int32.min), Int64(Int32.max)]
    var imms: [Int64] = [0]
    switch encoding.imm {
    case .fixed: break
    case .value, .wideLow: imms = small
    case .wide: imms = small + [Int64.min, Int64.max, 0x1122_3344_5566_7788, 0x8000_0000]
    case .slots: offsets = [0, 1, -1, 0x1234, .min, .max]
    }
    var result: [Instruction] = []
    for dst in dsts {
        for src in srcs {
            for offset in offsets {
                for imm in imms { result.append(Instruction(opcode, dst: dst, src: src, offset: offset, imm: imm)) }
            }
        }
    }
    return result
}

@Suite struct EncodingTests {
    @Test(arguments: Opcode.allCases)
    func decodeReversesEncode(_ opcode: Opcode) throws {
        for instruction in samples(of: opcode) {
            let raw = encode([instruction])
            #expect(raw.count == instruction.slots)
            #expect(raw[0].code == opcode.encoding.code)
            #expect(try decode(raw) == [instruction])
            #expect(try decode(raw.flatMap(\.bytes)) == [instruction])
        }
    }

    /// Two opcodes that the decoder could not tell apart would make encode∘decode lose one.
    @Test func everyOpcodeHasItsOwnEncoding() {
        var seen: Set<[UInt8]> = []
        for opcode in Opcode.allCases {
            let first = encode([Instruction(opcode)])[0]
            #expect(seen.insert(first.bytes).inserted, "\(opcode) is encoded as another opcode")
        }
        #expect(seen.count == Opcode.allCases.count)
    }

    /// Encodings that other assemblers make, so that encoder and decoder cannot be wrong together.
    @Test(
        arguments: [
            (Instruction(.mov64Imm, dst: .r0, imm: 42), [0xb7, 0, 0, 0, 42, 0, 0, 0]),
            (Instruction(.mov64Reg, dst: .r6, src: .r1), [0xbf, 0x16, 0, 0, 0, 0, 0, 0]),
            (Instruction(.movsx64From32, dst: .r1, src: .r2), [0xbf, 0x21, 32, 0, 0, 0, 0, 0]),
            (Instruction(.movsx32From8, dst: .r1, src: .r2), [0xbc, 0x21, 8, 0, 0, 0, 0, 0]),
            (Instruction(.sdiv64Imm, dst: .r1, imm: -2), [0x37, 1, 1, 0, 0xfe, 0xff, 0xff, 0xff]),
            (Instruction(.smod32Reg, dst: .r1, src: .r3), [0x9c, 0x31, 1, 0, 0, 0, 0, 0]),
            (Instruction(.neg32, dst: .r4), [0x84, 4, 0, 0, 0, 0, 0, 0]),
            (Instruction(.be16, dst: .r0), [0xdc, 0, 0, 0, 16, 0, 0, 0]),
            (Instruction(.le64, dst: .r0), [0xd4, 0, 0, 0, 64, 0, 0, 0]),
            (Instruction(.bswap32, dst: .r0), [0xd7, 0, 0, 0, 32, 0, 0, 0]),
            (Instruction(.load64, dst: .r2, src: .r10, offset: -8), [0x79, 0xa2, 0xf8, 0xff, 0, 0, 0, 0]),
            (Instruction(.loadSigned8, dst: .r2, src: .r1), [0x91, 0x12, 0, 0, 0, 0, 0, 0]),
            (Instruction(.store32Imm, dst: .r10, offset: -4, imm: 7), [0x62, 0x0a, 0xfc, 0xff, 7, 0, 0, 0]),
            (Instruction(.store16Reg, dst: .r1, src: .r2, offset: 2), [0x6b, 0x21, 2, 0, 0, 0, 0, 0]),
            (Instruction(.atomicAdd64, dst: .r1, src: .r2), [0xdb, 0x21, 0, 0, 0, 0, 0, 0]),
            (Instruction(.atomicFetchXor32, dst: .r1, src: .r2), [0xc3, 0x21, 0, 0, 0xa1, 0, 0, 0]),
            (Instruction(.atomicCompareExchange64, dst: .r1, src: .r2), [0xdb, 0x21, 0, 0, 0xf1, 0, 0, 0]),
            (Instruction(.loadAcquire8, dst: .r1, src: .r2), [0xd3, 0x21, 0, 0, 0, 1, 0, 0]),
            (Instruction(.storeRelease16, dst: .r1, src: .r2), [0xcb, 0x21, 0, 0, 0x10, 1, 0, 0]),
            (Instruction(.jump, offset: -2), [0x05, 0, 0xfe, 0xff, 0, 0, 0, 0]),
            (Instruction(.jumpLong, offset: 70000), [0x06, 0, 0, 0, 0x70, 0x11, 1, 0]),
            (Instruction(.jumpEqual64Imm, dst: .r1, offset: 3, imm: 9), [0x15, 1, 3, 0, 9, 0, 0, 0]),
            (Instruction(.jumpSignedLess32Reg, dst: .r1, src: .r2, offset: 1), [0xce, 0x21, 1, 0, 0, 0, 0, 0]),
            (Instruction(.mayGoto, offset: 4), [0xe5, 0, 4, 0, 0, 0, 0, 0]),
            (Instruction(.callHelper, imm: 1), [0x85, 0, 0, 0, 1, 0, 0, 0]),
            (Instruction(.callLocal, imm: -1), [0x85, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff]),
            (Instruction(.callKernelFunction, imm: 300), [0x85, 0x20, 0, 0, 0x2c, 1, 0, 0]),
            (Instruction(.callRegister, dst: .r2), [0x8d, 2, 0, 0, 0, 0, 0, 0]),
            (Instruction(.exit), [0x95, 0, 0, 0, 0, 0, 0, 0]),
            (
                Instruction(.loadImm64, dst: .r1, imm: 0x1122_3344_5566_7788),
                [0x18, 1, 0, 0, 0x88, 0x77, 0x66, 0x55, 0, 0, 0, 0, 0x44, 0x33, 0x22, 0x11]
            ),
            (
                Instruction(.loadMapValue, dst: .r1, imm: 8 << 32 | 5),
                [0x18, 0x21, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0]
            ),
            (Instruction(.loadAbs16, imm: 12), [0x28, 0, 0, 0, 12, 0, 0, 0]),
            (Instruction(.loadInd8, src: .r7, imm: 1), [0x50, 0x70, 0, 0, 1, 0, 0, 0]),
        ] as [(Instruction, [UInt8])]
    )
    func knownBytes(_ instruction: Instruction, _ bytes: [UInt8]) throws {
        #expect(encode([instruction]).flatMap(\.bytes) == bytes)
        #expect(try decode(bytes) == [instruction])
    }

    @Test func programOfAllOpcodesKeepsItsOrder() throws {
        let program = Opcode.allCases.flatMap(samples(of:))
        #expect(try decode(encode(program)) == program)
    }
}
