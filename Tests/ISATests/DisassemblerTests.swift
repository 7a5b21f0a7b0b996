import Testing

@testable import ISA

/// Expected text of `Instruction(opcode, dst: r1, src: r2, offset: -8 or +5, imm: 7)`, as kernel/bpf/disasm.c prints it.
private let goldens: [(Opcode, String)] = [
    (.add64Imm, "r1 += 7"), (.add64Reg, "r1 += r2"), (.sub64Imm, "r1 -= 7"), (.sub64Reg, "r1 -= r2"),
    (.mul64Imm, "r1 *= 7"), (.mul64Reg, "r1 *= r2"), (.div64Imm, "r1 /= 7"), (.div64Reg, "r1 /= r2"),
    (.or64Imm, "r1 |= 7"), (.or64Reg, "r1 |= r2"), (.and64Imm, "r1 &= 7"), (.and64Reg, "r1 &= r2"),
    (.lsh64Imm, "r1 <<= 7"), (.lsh64Reg, "r1 <<= r2"), (.rsh64Imm, "r1 >>= 7"), (.rsh64Reg, "r1 >>= r2"),
    (.mod64Imm, "r1 %= 7"), (.mod64Reg, "r1 %= r2"), (.xor64Imm, "r1 ^= 7"), (.xor64Reg, "r1 ^= r2"),
    (.mov64Imm, "r1 = 7"), (.mov64Reg, "r1 = r2"), (.arsh64Imm, "r1 s>>= 7"), (.arsh64Reg, "r1 s>>= r2"),
    (.sdiv64Imm, "r1 s/= 7"), (.sdiv64Reg, "r1 s/= r2"), (.smod64Imm, "r1 s%= 7"), (.smod64Reg, "r1 s%= r2"),
    (.neg64, "r1 = -r1"),
    (.movsx64From8, "r1 = (s8)r2"), (.movsx64From16, "r1 = (s16)r2"), (.movsx64From32, "r1 = (s32)r2"),
    (.add32Imm, "w1 += 7"), (.add32Reg, "w1 += w2"), (.sub32Imm, "w1 -= 7"), (.sub32Reg, "w1 -= w2"),
    (.mul32Imm, "w1 *= 7"), (.mul32Reg, "w1 *= w2"), (.div32Imm, "w1 /= 7"), (.div32Reg, "w1 /= w2"),
    (.or32Imm, "w1 |= 7"), (.or32Reg, "w1 |= w2"), (.and32Imm, "w1 &= 7"), (.and32Reg, "w1 &= w2"),
    (.lsh32Imm, "w1 <<= 7"), (.lsh32Reg, "w1 <<= w2"), (.rsh32Imm, "w1 >>= 7"), (.rsh32Reg, "w1 >>= w2"),
    (.mod32Imm, "w1 %= 7"), (.mod32Reg, "w1 %= w2"), (.xor32Imm, "w1 ^= 7"), (.xor32Reg, "w1 ^= w2"),
    (.mov32Imm, "w1 = 7"), (.mov32Reg, "w1 = w2"), (.arsh32Imm, "w1 s>>= 7"), (.arsh32Reg, "w1 s>>= w2"),
    (.sdiv32Imm, "w1 s/= 7"), (.sdiv32Reg, "w1 s/= w2"), (.smod32Imm, "w1 s%= 7"), (.smod32Reg, "w1 s%= w2"),
    (.neg32, "w1 = -w1"), (.movsx32From8, "w1 = (s8)w2"), (.movsx32From16, "w1 = (s16)w2"),
    (.le16, "r1 = le16 r1"), (.le32, "r1 = le32 r1"), (.le64, "r1 = le64 r1"),
    (.be16, "r1 = be16 r1"), (.be32, "r1 = be32 r1"), (.be64, "r1 = be64 r1"),
    (.bswap16, "r1 = bswap16 r1"), (.bswap32, "r1 = bswap32 r1"), (.bswap64, "r1 = bswap64 r1"),
    (.loadImm64, "r1 = 0x7"), (.loadMap, "r1 = map[id:7]"), (.loadMapValue, "r1 = map[id:7][0]+0"),
    (.loadVariable, "r1 = var[btf:7]"), (.loadFunction, "r1 = subprog[+7]"),
    (.loadMapByIndex, "r1 = map[idx:7]"), (.loadMapValueByIndex, "r1 = map[idx:7]+0"),
    (.loadAbs8, "r0 = *(u8 *)skb[7]"), (.loadAbs16, "r0 = *(u16 *)skb[7]"), (.loadAbs32, "r0 = *(u32 *)skb[7]"),
    (.loadInd8, "r0 = *(u8 *)skb[r2 + 7]"), (.loadInd16, "r0 = *(u16 *)skb[r2 + 7]"),
    (.loadInd32, "r0 = *(u32 *)skb[r2 + 7]"),
    (.load8, "r1 = *(u8 *)(r2 -8)"), (.load16, "r1 = *(u16 *)(r2 -8)"), (.load32, "r1 = *(u32 *)(r2 -8)"),
    (.load64, "r1 = *(u64 *)(r2 -8)"), (.loadSigned8, "r1 = *(s8 *)(r2 -8)"),
    (.loadSigned16, "r1 = *(s16 *)(r2 -8)"), (.loadSigned32, "r1 = *(s32 *)(r2 -8)"),
    (.store8Imm, "*(u8 *)(r1 -8) = 7"), (.store16Imm, "*(u16 *)(r1 -8) = 7"),
    (.store32Imm, "*(u32 *)(r1 -8) = 7"), (.store64Imm, "*(u64 *)(r1 -8) = 7"),
    (.store8Reg, "*(u8 *)(r1 -8) = r2"), (.store16Reg, "*(u16 *)(r1 -8) = r2"),
    (.store32Reg, "*(u32 *)(r1 -8) = r2"), (.store64Reg, "*(u64 *)(r1 -8) = r2"),
    (.atomicAdd32, "lock *(u32 *)(r1 -8) += r2"), (.atomicOr32, "lock *(u32 *)(r1 -8) |= r2"),
    (.atomicAnd32, "lock *(u32 *)(r1 -8) &= r2"), (.atomicXor32, "lock *(u32 *)(r1 -8) ^= r2"),
    (.atomicAdd64, "lock *(u64 *)(r1 -8) += r2"), (.atomicOr64, "lock *(u64 *)(r1 -8) |= r2"),
    (.atomicAnd64, "lock *(u64 *)(r1 -8) &= r2"), (.atomicXor64, "lock *(u64 *)(r1 -8) ^= r2"),
    (.atomicFetchAdd32, "r2 = atomic_fetch_add((u32 *)(r1 -8), r2)"),
    (.atomicFetchOr32, "r2 = atomic_fetch_or((u32 *)(r1 -8), r2)"),
    (.atomicFetchAnd32, "r2 = atomic_fetch_and((u32 *)(r1 -8), r2)"),
    (.atomicFetchXor32, "r2 = atomic_fetch_xor((u32 *)(r1 -8), r2)"),
    (.atomicFetchAdd64, "r2 = atomic64_fetch_add((u64 *)(r1 -8), r2)"),
    (.atomicFetchOr64, "r2 = atomic64_fetch_or((u64 *)(r1 -8), r2)"),
    (.atomicFetchAnd64, "r2 = atomic64_fetch_and((u64 *)(r1 -8), r2)"),
    (.atomicFetchXor64, "r2 = atomic64_fetch_xor((u64 *)(r1 -8), r2)"),
    (.atomicExchange32, "r2 = atomic_xchg((u32 *)(r1 -8), r2)"),
    (.atomicExchange64, "r2 = atomic64_xchg((u64 *)(r1 -8), r2)"),
    (.atomicCompareExchange32, "r0 = atomic_cmpxchg((u32 *)(r1 -8), r0, r2)"),
    (.atomicCompareExchange64, "r0 = atomic64_cmpxchg((u64 *)(r1 -8), r0, r2)"),
    (.loadAcquire8, "r1 = load_acquire((u8 *)(r2 -8))"), (.loadAcquire16, "r1 = load_acquire((u16 *)(r2 -8))"),
    (.loadAcquire32, "r1 = load_acquire((u32 *)(r2 -8))"), (.loadAcquire64, "r1 = load_acquire((u64 *)(r2 -8))"),
    (.storeRelease8, "store_release((u8 *)(r1 -8), r2)"), (.storeRelease16, "store_release((u16 *)(r1 -8), r2)"),
    (.storeRelease32, "store_release((u32 *)(r1 -8), r2)"), (.storeRelease64, "store_release((u64 *)(r1 -8), r2)"),
    (.jump, "goto pc+5"), (.jumpLong, "gotol pc+5"),
    (.jumpEqual64Imm, "if r1 == 0x7 goto pc+5"), (.jumpEqual64Reg, "if r1 == r2 goto pc+5"),
    (.jumpEqual32Imm, "if w1 == 0x7 goto pc+5"), (.jumpEqual32Reg, "if w1 == w2 goto pc+5"),
    (.jumpGreater64Imm, "if r1 > 0x7 goto pc+5"), (.jumpGreater64Reg, "if r1 > r2 goto pc+5"),
    (.jumpGreater32Imm, "if w1 > 0x7 goto pc+5"), (.jumpGreater32Reg, "if w1 > w2 goto pc+5"),
    (.jumpGreaterEqual64Imm, "if r1 >= 0x7 goto pc+5"), (.jumpGreaterEqual64Reg, "if r1 >= r2 goto pc+5"),
    (.jumpGreaterEqual32Imm, "if w1 >= 0x7 goto pc+5"), (.jumpGreaterEqual32Reg, "if w1 >= w2 goto pc+5"),
    (.jumpSet64Imm, "if r1 & 0x7 goto pc+5"), (.jumpSet64Reg, "if r1 & r2 goto pc+5"),
    (.jumpSet32Imm, "if w1 & 0x7 goto pc+5"), (.jumpSet32Reg, "if w1 & w2 goto pc+5"),
    (.jumpNotEqual64Imm, "if r1 != 0x7 goto pc+5"), (.jumpNotEqual64Reg, "if r1 != r2 goto pc+5"),
    (.jumpNotEqual32Imm, "if w1 != 0x7 goto pc+5"), (.jumpNotEqual32Reg, "if w1 != w2 goto pc+5"),
    (.jumpSignedGreater64Imm, "if r1 s> 0x7 goto pc+5"), (.jumpSignedGreater64Reg, "if r1 s> r2 goto pc+5"),
    (.jumpSignedGreater32Imm, "if w1 s> 0x7 goto pc+5"), (.jumpSignedGreater32Reg, "if w1 s> w2 goto pc+5"),
    (.jumpSignedGreaterEqual64Imm, "if r1 s>= 0x7 goto pc+5"),
    (.jumpSignedGreaterEqual64Reg, "if r1 s>= r2 goto pc+5"),
    (.jumpSignedGreaterEqual32Imm, "if w1 s>= 0x7 goto pc+5"),
    (.jumpSignedGreaterEqual32Reg, "if w1 s>= w2 goto pc+5"),
    (.jumpLess64Imm, "if r1 < 0x7 goto pc+5"), (.jumpLess64Reg, "if r1 < r2 goto pc+5"),
    (.jumpLess32Imm, "if w1 < 0x7 goto pc+5"), (.jumpLess32Reg, "if w1 < w2 goto pc+5"),
    (.jumpLessEqual64Imm, "if r1 <= 0x7 goto pc+5"), (.jumpLessEqual64Reg, "if r1 <= r2 goto pc+5"),
    (.jumpLessEqual32Imm, "if w1 <= 0x7 goto pc+5"), (.jumpLessEqual32Reg, "if w1 <= w2 goto pc+5"),
    (.jumpSignedLess64Imm, "if r1 s< 0x7 goto pc+5"), (.jumpSignedLess64Reg, "if r1 s< r2 goto pc+5"),
    (.jumpSignedLess32Imm, "if w1 s< 0x7 goto pc+5"), (.jumpSignedLess32Reg, "if w1 s< w2 goto pc+5"),
    (.jumpSignedLessEqual64Imm, "if r1 s<= 0x7 goto pc+5"), (.jumpSignedLessEqual64Reg, "if r1 s<= r2 goto pc+5"),
    (.jumpSignedLessEqual32Imm, "if w1 s<= 0x7 goto pc+5"), (.jumpSignedLessEqual32Reg, "if w1 s<= w2 goto pc+5"),
    (.mayGoto, "may_goto pc+5"),
    (.callHelper, "call bpf_get_prandom_u32#7"), (.callLocal, "call pc+7"),
    (.callKernelFunction, "call kernel-function#7"), (.callRegister, "callx r1"), (.exit, "exit"),
]

@Suite struct DisassemblerTests {
    @Test(arguments: goldens)
    func golden(_ opcode: Opcode, _ text: String) {
        var instruction = Instruction(opcode, dst: .r1, src: .r2, imm: 7)
        switch opcode.encoding.offset {
        case .slots: instruction.offset = 5
        case .bytes, .number: instruction.offset = -8
        case .fixed: instruction.offset = opcode == .jumpLong ? 5 : 0
        }
        #expect(Disassembler().text(instruction) == text)
    }

    @Test func goldensAreComplete() {
        #expect(goldens.map(\.0) == Opcode.allCases)
    }

    @Test(arguments: [
        (Instruction(.mov64Imm, dst: .r0, imm: -1), "r0 = -1"),
        (Instruction(.jumpEqual64Imm, dst: .r1, offset: -3, imm: -1), "if r1 == 0xffffffff goto pc-3"),
        (Instruction(.loadImm64, dst: .r1, imm: -1), "r1 = 0xffffffffffffffff"),
        (Instruction(.callHelper, imm: 1), "call bpf_map_lookup_elem#1"),
        (Instruction(.callHelper, imm: 9999), "call unknown#9999"),
        (Instruction(.callLocal, imm: -2), "call pc-2"),
        (Instruction(.load64, dst: .r2, src: .r1), "r2 = *(u64 *)(r1 +0)"),
        (Instruction(.loadMapValue, dst: .r1, imm: 8 << 32 | 5), "r1 = map[id:5][0]+8"),
    ])
    func special(_ instruction: Instruction, _ text: String) {
        #expect(Disassembler().text(instruction) == text)
    }

    @Test func namedMapsAndListing() throws {
        let program = try Assembly([.loadMap(.r1, 2), .loadMap(.r2, 3), .mov32(.r0, 0), .exit])
        let disassembler = Disassembler { $0 == 2 ? "counts" : nil }
        #expect(
            disassembler.listing(program.instructions) == [
                "   0: (18) r1 = map[counts]",
                "   2: (18) r2 = map[id:3]",
                "   4: (b4) w0 = 0",
                "   5: (95) exit",
            ]
        )
    }
}
