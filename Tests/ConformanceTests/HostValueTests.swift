import EngineSupport
import ISA
import Runtime
import Testing
import UBPFVM

/// What a program finds in registers that it never wrote: nothing that points into the process.
///
/// Every register is stored as it is, on the stack, right where the engine may have left something; then the whole stack is looked
/// through.
@Suite(EngineTrait([.vm, .checkedJIT])) struct HostValueTests {
    private static let maps = [
        MapParameters(name: "array", type: .array, keySize: 4, valueSize: 8, maxEntries: 5),
        MapParameters(name: "hash", type: .hash, keySize: 8, valueSize: 8, maxEntries: 8),
        MapParameters(name: "programs", type: .programArray, keySize: 4, valueSize: 4, maxEntries: 4),
    ]
    private static let everyRegister = Register.allCases.filter { $0 != .r10 }

    /// Stores registers, and after them the result that a caller wants to see.
    private static func keep(_ registers: [Register] = everyRegister) -> [Statement] {
        registers.map { .store64(.r10, -8 * Int32($0.rawValue + 1), $0) }
    }

    /// Fails where a run of program 0 left a host value on the stack or returned one.
    private func look(_ programs: [[Statement]]) throws {
        let fixture = try SessionFixture(maps: Self.maps)
        for program in programs { try fixture.add(program) }
        if programs.count > 1 {
            let status = MapView(fixture.open(), 2).update([UInt32(1)], [UInt32(1)], flags: 0, tid: 1, slot: -1)
            #expect(status == 0)
        }
        let result = try fixture.run()
        let host = HostMemory()
        let stack = fixture.stackWords
        for (index, word) in (stack + [result]).enumerated() where host.holds(word) && !fixture.isGuest(word) {
            let place = index == stack.count ? "the result" : "r10 - \(8 * (stack.count - index))"
            Issue.record("\(place) holds 0x\(String(word, radix: 16)), which is the process's")
        }
        // A test that stores nothing proves nothing.
        #expect(stack.contains { fixture.isGuest($0) && $0 != 0 })
    }

    /// Makes sure that the look finds anything at all.
    private static let marker: [Statement] = [.store64(.r10, -512, .r10)]

    @Test func entry() throws { try look([Self.keep() + Self.marker + [.mov64(.r0, 0), .exit]]) }

    @Test func result() throws { try look([Self.marker + [.exit]]) }

    @Test func functions() throws {
        try look([
            [.call("f")] + Self.keep() + Self.marker + [.exit, .function("f")] + Self.keep() + [.call("g")]
                + Self.keep() + [.exit, .function("g")] + Self.keep() + [.exit]
        ])
    }

    /// The program itself reads nothing, so that only its function could find what the host left.
    @Test func functionsOfAProgramThatReadsNothing() throws {
        try look([[.call("f"), .exit, .function("f")] + Self.keep() + Self.marker + [.exit]])
    }

    static let helperNumbers: [Int64] = [1, 2, 3, 4, 5, 7, 8, 14, 15, 16, 113, 999]

    /// Of the array, then of the hash, called by number and through a register.
    @Test(arguments: helperNumbers, [0, 1] as [Int32])
    func helpers(_ number: Int64, _ map: Int32) throws {
        let arguments: [Statement] = [
            .store64(.r10, -504, 3), .loadMap(.r1, map), .mov64(.r2, .r10), .add64(.r2, -504), .mov64(.r3, .r2),
            .mov64(.r4, 0), .mov64(.r5, 0),
        ]
        let reading: [Statement] = [
            .mov64(.r1, .r10), .add64(.r1, -496), .mov64(.r2, 8), .mov64(.r3, .r10), .add64(.r3, -504),
        ]
        let isReading = number == 4 || number == 113 || number == 16
        for call in [[Statement.op(.callHelper, imm: number)], [.mov64(.r5, number), .callRegister(.r5)]] {
            do {
                try look([
                    Self.marker + (isReading ? reading : arguments) + call + Self.keep() + [.mov64(.r0, 0), .exit]
                ])
            } catch let trap as Trap {
                #expect(trap.kind == .unknownHelper && number == 999)
            }
        }
    }

    /// Where the callback is known when the code is made, and where it is not.
    @Test(arguments: [Helper.loop, .forEachMapElem], [false, true])
    func callbacks(_ helper: Helper, _ isHidden: Bool) throws {
        let hidden: [Statement] = isHidden ? [.store64(.r10, -504, .r2), .load64(.r2, .r10, -504)] : []
        let code: [Statement] =
            Self.marker + [helper == .loop ? .mov64(.r1, 3) : .loadMap(.r1, 0), .loadFunction(.r2, "f")] + hidden
            + [.mov64(.r3, 7), .mov64(.r4, 0), .call(helper)] + Self.keep() + [.mov64(.r0, 0), .exit, .function("f")]
            + Self.keep() + [.call("g")] + Self.keep() + [.mov64(.r0, 0), .exit, .function("g")] + Self.keep() + [.exit]
        try look([code])
    }

    @Test func callsThroughRegisters() throws {
        try look([
            Self.marker + [.loadFunction(.r2, "f"), .callRegister(.r2)] + Self.keep() + [.exit, .function("f")]
                + Self.keep() + [.exit]
        ])
    }

    /// A tail call that is taken and one that is not.
    @Test(arguments: [0, 1] as [Int64])
    func tailCalls(_ slot: Int64) throws {
        try look([
            Self.marker + [.loadMap(.r2, 2), .mov64(.r3, slot), .call(.tailCall)] + Self.keep() + [.exit],
            Self.keep() + Self.marker + [.exit],
        ])
    }
}
