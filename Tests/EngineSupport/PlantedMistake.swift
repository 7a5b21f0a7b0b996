package import ISA

/// Mistakes that compilers and interpreters of BPF have had, planted one at a time into an engine that is right.
///
/// What is planted is a wrong translation: the engine runs another instruction than the program says.
package enum PlantedMistake: String, CaseIterable, Sendable {
    case logicalShiftIsArithmetic, shiftCountOffByOne, mov32KeepsUpperHalf, add32KeepsUpperHalf
    case signedCompareIsUnsigned, compareOffByOne, narrowCompareIsWide
    case signedDivisionIsUnsigned, remainderIsQuotient
    case signedLoadIsUnsigned, narrowStoreIsWide, byteSwapIsForgotten
    case exchangeReturnsNothing, fetchOrIsFetchAdd, lostCopy

    /// The program as the faulty engine sees it.
    package func plant(in program: [Instruction]) -> [Instruction] {
        var hasLostOne = false
        return program.map { instruction in
            var changed = instruction
            switch (self, instruction.opcode) {
            case (.logicalShiftIsArithmetic, .rsh64Reg): changed.opcode = .arsh64Reg
            case (.logicalShiftIsArithmetic, .rsh64Imm): changed.opcode = .arsh64Imm
            case (.logicalShiftIsArithmetic, .rsh32Reg): changed.opcode = .arsh32Reg
            case (.logicalShiftIsArithmetic, .rsh32Imm): changed.opcode = .arsh32Imm
            case (.shiftCountOffByOne, .lsh64Imm): if instruction.imm < 63 { changed.imm += 1 }
            case (.mov32KeepsUpperHalf, .mov32Reg): changed.opcode = .mov64Reg
            case (.add32KeepsUpperHalf, .add32Reg): changed.opcode = .add64Reg
            case (.add32KeepsUpperHalf, .add32Imm): changed.opcode = .add64Imm
            case (.signedCompareIsUnsigned, .jumpSignedGreater64Imm): changed.opcode = .jumpGreater64Imm
            case (.signedCompareIsUnsigned, .jumpSignedLess32Reg): changed.opcode = .jumpLess32Reg
            case (.signedCompareIsUnsigned, .jumpSignedLess64Imm): changed.opcode = .jumpLess64Imm
            case (.compareOffByOne, .jumpGreater64Reg): changed.opcode = .jumpGreaterEqual64Reg
            case (.compareOffByOne, .jumpLessEqual32Imm): changed.opcode = .jumpLess32Imm
            case (.compareOffByOne, .jumpSignedLessEqual64Reg): changed.opcode = .jumpSignedLess64Reg
            case (.narrowCompareIsWide, .jumpEqual32Imm): changed.opcode = .jumpEqual64Imm
            case (.narrowCompareIsWide, .jumpLess32Imm): changed.opcode = .jumpLess64Imm
            case (.narrowCompareIsWide, .jumpSet32Imm): changed.opcode = .jumpSet64Imm
            case (.signedDivisionIsUnsigned, .sdiv64Imm): changed.opcode = .div64Imm
            case (.signedDivisionIsUnsigned, .smod32Reg): changed.opcode = .mod32Reg
            case (.remainderIsQuotient, .mod64Imm): changed.opcode = .div64Imm
            case (.signedLoadIsUnsigned, .loadSigned8): changed.opcode = .load8
            case (.signedLoadIsUnsigned, .loadSigned32): changed.opcode = .load32
            case (.narrowStoreIsWide, .store16Reg): changed.opcode = .store8Reg
            case (.byteSwapIsForgotten, .be32): changed.opcode = .le32
            case (.byteSwapIsForgotten, .bswap64): changed.opcode = .le64
            case (.exchangeReturnsNothing, .atomicFetchAdd64): changed.opcode = .atomicAdd64
            case (.fetchOrIsFetchAdd, .atomicFetchOr64): changed.opcode = .atomicFetchAdd64
            case (.lostCopy, .mov64Reg) where instruction.dst != .r6 && instruction.dst != .r9 && !hasLostOne:
                hasLostOne = true
                changed = Instruction(.mov64Reg, dst: instruction.dst, src: instruction.dst)
            default: break
            }
            return changed
        }
    }
}

/// Checked code of a program that a mistake was planted in; `mistake` is the one that new engines have.
package struct PlantedEngine: Engine {
    package static let name = "planted"
    @TaskLocal package static var mistake = PlantedMistake.logicalShiftIsArithmetic
    private let engine: CheckedJITEngine

    package init(_ program: [Instruction]) throws {
        engine = try CheckedJITEngine(Self.mistake.plant(in: program))
    }

    package func run(_ context: [UInt8]) throws -> Outcome { try engine.run(context) }
}
