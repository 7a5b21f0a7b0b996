import ISA
import Testing

@testable import UBPFVM

@Suite struct LinkTests {
    private func linked(_ code: [Instruction], maps: Int = 0) throws(LinkError) -> [LinkedInstruction] {
        try link(code, mapCount: maps) { map, offset in
            offset < 16 ? SegmentOffset(storage: map, offset: 4096 + UInt64(offset)) : nil
        }
    }

    @Test func jumpsBecomeIndices() throws {
        let code = try Assembly([
            .jumpEqual(.r1, 0, to: "end"), .loadImm64(.r0, 1), .label("loop"), .add64(.r0, 1),
            .jumpLess(.r0, 5, to: "loop"), .label("end"), .exit,
        ]).instructions
        let result = try linked(code)
        #expect(result[0].target == 4)
        #expect(result[3].target == 2)
        #expect(MemoryLayout<LinkedInstruction>.stride == 16)
    }

    @Test func functionsBecomeIndicesAndHandles() throws {
        let code = try Assembly([
            .loadFunction(.r1, "f"), .call("f"), .exit, .function("f"), .mov64(.r0, 0), .exit,
        ]).instructions
        let result = try linked(code)
        #expect(result[0].target == 3)
        #expect(FunctionHandle.index(UInt64(bitPattern: result[0].imm)) == 3)
        #expect(result[1].target == 3)
    }

    @Test func mapsBecomeHandlesAndOffsets() throws {
        let code = try Assembly([.loadMap(.r1, 1), .loadMapValue(.r2, 1, 8), .mov64(.r0, 0), .exit]).instructions
        let result = try linked(code, maps: 2)
        #expect(MapHandle.index(UInt64(bitPattern: result[0].imm)) == 1)
        #expect(result[1].target == 1)
        #expect(result[1].imm == 4104)
    }

    static let refused: [([Instruction], LinkError)] = [
        ([], LinkError(.empty, at: 0)),
        ([Instruction(.mov64Imm)], LinkError(.fallsThrough, at: 0)),
        ([Instruction(.exit), Instruction(.jumpEqual64Imm, offset: -1)], LinkError(.fallsThrough, at: 1)),
        ([Instruction(.jump, offset: 1), Instruction(.exit)], LinkError(.badTarget(slot: 2), at: 0)),
        ([Instruction(.jump, offset: -2), Instruction(.exit)], LinkError(.badTarget(slot: -1), at: 0)),
        (
            [Instruction(.jump, offset: 1), Instruction(.loadImm64), Instruction(.exit)],
            LinkError(.badTarget(slot: 2), at: 0)
        ),
        ([Instruction(.callLocal, imm: 9), Instruction(.exit)], LinkError(.badTarget(slot: 10), at: 0)),
        ([Instruction(.loadFunction, imm: 5), Instruction(.exit)], LinkError(.badTarget(slot: 6), at: 0)),
        ([Instruction(.mov64Imm, dst: .r10), Instruction(.exit)], LinkError(.writesFramePointer, at: 0)),
        ([Instruction(.load8, dst: .r10, src: .r1), Instruction(.exit)], LinkError(.writesFramePointer, at: 0)),
        (
            [Instruction(.atomicFetchAdd64, dst: .r1, src: .r10), Instruction(.exit)],
            LinkError(.writesFramePointer, at: 0)
        ),
        ([Instruction(.loadMap, imm: 2), Instruction(.exit)], LinkError(.unknownMap(index: 2), at: 0)),
        (
            [Instruction(.loadMapValue, imm: 16 << 32), Instruction(.exit)],
            LinkError(.noSuchValue(map: 0, offset: 16), at: 0)
        ),
    ]

    @Test(arguments: refused.indices)
    func refuses(_ index: Int) {
        let (code, expected) = Self.refused[index]
        #expect(throws: expected) { try linked(code, maps: 2) }
        #expect(!expected.description.isEmpty)
    }
}
