import CRuntime
import EngineSupport
import ISA
import Runtime
import Testing
import UBPFVM

/// What programs do with a session: maps, callbacks, tail calls.
@Suite(EngineTrait(SessionEngine.allCases)) struct SessionProgramTests {
    private static let programs = MapParameters(
        name: "programs",
        type: .programArray,
        keySize: 4,
        valueSize: 4,
        maxEntries: 4
    )
    private static let array = MapParameters(name: "array", type: .array, keySize: 4, valueSize: 8, maxEntries: 5)
    private static let hash = MapParameters(name: "hash", type: .hash, keySize: 8, valueSize: 8, maxEntries: 64)
    private static let frozen = MapParameters(
        name: ".rodata",
        type: .array,
        keySize: 4,
        valueSize: 8,
        maxEntries: 1,
        contents: [1, 2, 3, 4, 5, 6, 7, 8],
        isFrozen: true
    )

    private func entry(_ session: SessionView, _ slot: UInt32, _ program: UInt32) {
        let status = MapView(session, 0).update([slot], [program], flags: 0, tid: 1, slot: -1)
        #expect(status == 0)
    }

    @Test func tailCallsGoToAnotherProgramAndStay() throws {
        let fixture = try SessionFixture(maps: [Self.programs])
        try fixture.add([.loadMap(.r2, 0), .mov64(.r3, 2), .call(.tailCall), .mov64(.r0, 1), .exit])
        try fixture.add([.mov64(.r0, .r1), .add64(.r0, 40), .exit])
        entry(fixture.open(), 2, 1)
        #expect(try fixture.run(r1: 2) == 42)
        #expect(fixture.lastContext.program == 1)
    }

    @Test(arguments: [0, 3, 4, 1 << 20])
    func tailCallsToNothingGoOn(_ slot: Int64) throws {
        let fixture = try SessionFixture(maps: [Self.programs])
        try fixture.add([.loadMap(.r2, 0), .mov64(.r3, slot), .call(.tailCall), .mov64(.r0, 7), .exit])
        #expect(try fixture.run() == 7)
    }

    @Test func tailCallsEndAfterThirtyThree() throws {
        let fixture = try SessionFixture(maps: [Self.programs, Self.array])
        try fixture.add([
            .loadMapValue(.r6, 1, 0), .mov64(.r7, 1), .atomic(.atomicAdd64, .r6, 0, .r7),
            .loadMap(.r2, 0), .mov64(.r3, 0), .call(.tailCall), .load64(.r0, .r6, 0), .exit,
        ])
        entry(fixture.open(), 0, 0)
        #expect(try fixture.run() == 34)
        // The count starts anew with the next run.
        #expect(try fixture.run() == 68)
    }

    @Test func tailCallInAFunctionReturnsToItsCaller() throws {
        let fixture = try SessionFixture(maps: [Self.programs])
        try fixture.add([
            .call("f"), .add64(.r0, 1), .exit,
            .function("f"), .loadMap(.r2, 0), .mov64(.r3, 0), .call(.tailCall), .mov64(.r0, 0), .exit,
        ])
        try fixture.add([.mov64(.r0, 10), .exit])
        entry(fixture.open(), 0, 1)
        #expect(try fixture.run() == 11)
    }

    /// Each program that a function goes over to has a frame less; none may leave the stack, checked or not.
    @Test func tailCallsInFunctionsShareOneStack() throws {
        let fixture = try SessionFixture(maps: [Self.programs, Self.array])
        try fixture.add([
            .loadMapValue(.r6, 1, 0), .mov64(.r7, 1), .atomic(.atomicAdd64, .r6, 0, .r7), .store64(.r10, -8, 1),
            .call("f"), .exit,
            .function("f"), .store64(.r10, -512, 1), .loadMap(.r2, 0), .mov64(.r3, 0), .call(.tailCall), .mov64(.r0, 0),
            .exit,
        ])
        entry(fixture.open(), 0, 0)
        let error = #expect(throws: Trap.self) { try fixture.run() }
        #expect(error?.kind == .callDepth)
        let values = MapView(fixture.open(), 1).lookup([UInt32(0)], slot: 0)
        #expect(try #require(values).load(as: UInt64.self) == 8)
    }

    @Test func tailCallThroughAnythingElseIsStopped() throws {
        let fixture = try SessionFixture(maps: [Self.programs, Self.array])
        try fixture.add([.loadMap(.r2, 1), .mov64(.r3, 0), .call(.tailCall), .exit])
        try fixture.add([.mov64(.r2, 1), .mov64(.r3, 0), .call(.tailCall), .exit])
        // Unchecked code relies on a verifier for this and what follows below.
        guard SessionEngine.current != .jit else { return }
        #expect(throws: Trap(.wrongMapType, instruction: 2, value: 1)) { try fixture.run(0) }
        #expect(throws: Trap(.badArgument, instruction: 2, value: 1)) { try fixture.run(1) }
    }

    /// Each run has one slot, whichever lookup takes it; another thread's is another one.
    @Test(arguments: [Int32(8), 24]) func perCPUElementsAreOfTheRunsSlot(_ size: Int32) throws {
        let map = MapParameters(
            name: "percpu",
            type: .perCPUArray,
            keySize: 4,
            valueSize: UInt32(size),
            maxEntries: 3
        )
        let fixture = try SessionFixture(maps: [map, Self.hash])
        let lookup = { (key: Int64) -> [Statement] in
            [
                .store32(.r10, -4, key), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -4), .call(.mapLookupElem),
            ]
        }
        let add = { (key: Int64, by: Int64) -> [Statement] in
            lookup(key) + [
                .jumpEqual(.r0, 0, to: "none"), .load64(.r1, .r0, size - 8), .add64(.r1, by),
                .store64(.r0, size - 8, .r1),
            ]
        }
        // r6 to r9 live across the lookups.
        let start: [Statement] = [.mov64(.r6, 1), .mov64(.r7, 2), .mov64(.r8, 4), .mov64(.r9, 8)]
        let end: [Statement] = [
            .mov64(.r0, .r6), .add64(.r0, .r7), .add64(.r0, .r8), .add64(.r0, .r9), .exit, .label("none"),
            .mov64(.r0, -1), .exit,
        ]
        try fixture.add(start + add(2, 5) + add(0, 7) + add(2, 1) + end)
        try fixture.add(start + add(3, 1) + end)
        #expect(try fixture.run(0) == 15)
        #expect(try fixture.run(0) == 15)
        #expect(try fixture.run(1) == UInt64.max)
        let view = MapView(fixture.open(), 0)
        for (key, total) in [(0, 14), (1, 0), (2, 12)] as [(UInt32, UInt64)] {
            let values = try (0..<2).map { slot -> UInt64 in
                try #require(view.lookup([key], slot: slot)).load(fromByteOffset: Int(size) - 8, as: UInt64.self)
            }
            #expect(values.reduce(0, +) == total)
        }
        #expect(fixture.lastContext.cpu_slot == -1)
    }

    /// r0 = bpf_loop(count, f, &sum, flags); sum in the upper half.
    private func loop(_ count: Int64, flags: Int64 = 0, stopAt: Int64 = -1) throws -> (result: Int64, sum: UInt64) {
        let fixture = try SessionFixture(maps: [Self.array])
        try fixture.add([
            .mov64(.r1, count), .loadFunction(.r2, "f"), .loadMapValue(.r3, 0, 0), .mov64(.r4, flags),
            .call(.loop), .exit,
            .function("f"), .load64(.r0, .r2, 0), .add64(.r0, .r1), .store64(.r2, 0, .r0), .mov64(.r0, 0),
            .jumpNotEqual(.r1, stopAt, to: "go"), .mov64(.r0, 1), .label("go"), .exit,
        ])
        let result = try fixture.run()
        let values = MapView(fixture.open(), 0).lookup([UInt32(0)], slot: 0)
        return (Int64(bitPattern: result), try #require(values).load(as: UInt64.self))
    }

    @Test func loopsCallTheirFunction() throws {
        #expect(try loop(10) == (10, 45))
        #expect(try loop(0) == (0, 0))
        #expect(try loop(10, stopAt: 3) == (4, 6))
        #expect(try loop((8 << 20) + 1) == (-7, 0))
        #expect(try loop(10, flags: 1) == (-22, 0))
    }

    /// r0 = what the callback finds in r3, r4 and r5, which it is not given, in its second round.
    @Test func callbacksFindNothingInOtherArguments() throws {
        let fixture = try SessionFixture(maps: [Self.programs])
        try fixture.add([
            .store64(.r10, -8, 0), .mov64(.r1, 2), .loadFunction(.r2, "f"), .mov64(.r3, .r10), .mov64(.r4, 0),
            .call(.loop), .load64(.r0, .r10, -8), .exit,
            .function("f"), .mov64(.r6, .r2), .mov64(.r0, .r3), .or64(.r0, .r4), .or64(.r0, .r5),
            .store64(.r6, -8, .r0), .mov64(.r3, 7), .mov64(.r4, 7), .mov64(.r5, 7), .mov64(.r0, 0), .exit,
        ])
        #expect(try fixture.run() == 0)
    }

    @Test func loopsAreBudgeted() throws {
        guard SessionEngine.current != .jit else { return }
        #expect(throws: Trap.self) { try loop(1 << 23) }
    }

    @Test func arraysAreWalkedWithTheirKeys() throws {
        // The callback uses all 512 bytes of its stack before it reads its key.
        let fixture = try SessionFixture(maps: [Self.array])
        let wipe = (1...64).map { Statement.store64(.r10, Int32(-8 * $0), -1) }
        try fixture.add(
            [
                .loadMap(.r1, 0), .loadFunction(.r2, "f"), .loadMapValue(.r3, 0, 32), .mov64(.r4, 0),
                .call(.forEachMapElem), .mov64(.r6, .r0), .loadMapValue(.r1, 0, 0), .load64(.r0, .r1, 24),
                .lsh64(.r0, 8), .or64(.r0, .r6), .exit,
                .function("f"),
            ] + wipe + [.load32(.r5, .r2, 0), .add64(.r5, 100), .store64(.r3, 0, .r5), .mov64(.r0, 0), .exit]
        )
        #expect(try fixture.run() == 103 << 8 | 5)
    }

    @Test func hashesAreWalkedAndMayBeDeletedFrom() throws {
        let fixture = try SessionFixture(maps: [Self.hash])
        var fill: [Statement] = []
        for key in 1...20 {
            fill += [
                .mov64(.r1, Int64(key)), .store64(.r10, -8, .r1), .store64(.r10, -16, .r1), .loadMap(.r1, 0),
                .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, .r10), .add64(.r3, -16), .mov64(.r4, 0),
                .call(.mapUpdateElem), .jumpNotEqual(.r0, 0, to: "out"),
            ]
        }
        let walk: [Statement] = [
            .loadMap(.r1, 0), .loadFunction(.r2, "f"), .mov64(.r3, .r10), .add64(.r3, -24), .mov64(.r4, 0),
            .store64(.r10, -24, 0), .call(.forEachMapElem), .load64(.r1, .r10, -24), .lsh64(.r1, 8), .or64(.r0, .r1),
            .label("out"), .exit,
            .function("f"), .mov64(.r6, .r4), .load64(.r7, .r3, 0), .load64(.r8, .r2, 0), .call(.mapDeleteElem),
            .load64(.r1, .r6, 0), .add64(.r1, .r7), .sub64(.r1, .r8), .add64(.r1, 1), .store64(.r6, 0, .r1),
            .mov64(.r0, 0), .exit,
        ]
        try fixture.add(fill + walk)
        #expect(try fixture.run() == 20 << 8 | 20)
        // All are gone: filling and walking again gives the same.
        #expect(try fixture.run() == 20 << 8 | 20)
    }

    @Test func frozenValuesAreReadOnly() throws {
        let fixture = try SessionFixture(maps: [Self.frozen])
        try fixture.add([.loadMapValue(.r1, 0, 2), .load16(.r0, .r1, 0), .exit])
        try fixture.add([.loadMapValue(.r1, 0, 0), .store8(.r1, 0, 1), .mov64(.r0, 0), .exit])
        #expect(try fixture.run(0) == 0x0403)
        guard SessionEngine.current != .jit else { return }
        #expect { try fixture.run(1) } throws: { ($0 as? Trap)?.kind == .badWrite }
    }

    /// Counts rounds, not instructions, as the kernel does; whoever wants an end before has the budget.
    @Test func mayGotoEndsALoopAfterItsRounds() throws {
        let fixture = try SessionFixture()
        try fixture.add([
            .mov64(.r0, 0), .label("loop"), .mayGoto(to: "end"), .add64(.r0, 1), .jump(to: "loop"), .label("end"),
            .exit,
        ])
        fixture.budget = 1 << 26
        #expect(try fixture.run() == 8 << 20)
        guard SessionEngine.current != .jit else { return }
        fixture.budget = 10_000
        #expect { try fixture.run() } throws: { ($0 as? Trap)?.kind == .budget }
    }

    /// Each frame has its rounds, and so has the program that a tail call goes to.
    @Test func mayGotoCountsAnewInEachFrameAndProgram() throws {
        let fixture = try SessionFixture(maps: [Self.programs])
        fixture.budget = 1 << 27
        let loop: [Statement] = [.label("loop"), .mayGoto(to: "end"), .add64(.r7, 1), .jump(to: "loop"), .label("end")]
        let other: [Statement] = [.label("f loop"), .mayGoto(to: "f end"), .add64(.r0, 1), .jump(to: "f loop")]
        try fixture.add(
            [.mov64(.r7, 0)] + loop + [
                .call("f"), .jumpNotEqual(.r0, 8 << 20, to: "out"), .jumpNotEqual(.r7, 8 << 20, to: "out"),
                .loadMap(.r2, 0), .mov64(.r3, 0), .call(.tailCall), .label("out"), .mov64(.r0, 1), .exit,
                .function("f"), .mov64(.r0, 0),
            ] + other + [.label("f end"), .exit]
        )
        try fixture.add([.mov64(.r7, 0)] + loop + [.mov64(.r0, .r7), .exit])
        entry(fixture.open(), 0, 1)
        #expect(try fixture.run() == 8 << 20)
    }

    /// A way that is not gone costs nothing: in a loop, and in a function.
    @Test(arguments: [10, 100, 5000])
    func longWaysThatAreNotGoneAreNotCharged(_ length: Int) throws {
        let cold = [Statement](repeating: .add64(.r3, 1), count: length)
        let fixture = try SessionFixture()
        fixture.budget = 130_000
        try fixture.add(
            [
                .mov64(.r6, 0), .label("loop"), .mayGoto(to: "end"), .add64(.r6, 1), .jumpEqual(.r6, 10_000, to: "end"),
                .call("f"), .jumpEqual(.r0, 5, to: "loop"),
            ] + cold + [
                .jump(to: "loop"), .label("end"), .mov64(.r0, .r6), .exit,
                .function("f"), .mov64(.r0, 5), .jumpEqual(.r0, 5, to: "f end"),
            ] + cold + [.mov64(.r0, .r3), .label("f end"), .exit]
        )
        #expect(try fixture.run() == 10_000)
        // What the interpreter counts exactly, checked code counts to within a factor.
        let executed = fixture.budget &- fixture.lastContext.budget
        switch SessionEngine.current {
        case .vm: #expect(executed == 79_998)
        case .checkedJIT: #expect(executed <= 79_998 && executed > 79_998 / 2)
        case .jit: break
        }
    }

    /// A long way that is gone is charged.
    @Test func longWaysThatAreGoneAreCharged() throws {
        guard SessionEngine.current != .jit else { return }
        let fixture = try SessionFixture()
        fixture.budget = 1 << 20
        try fixture.add(
            [
                .mov64(.r6, 0), .label("loop"), .add64(.r6, 1), .jumpEqual(.r6, 10_000, to: "end"),
                .jumpEqual(.r6, 0, to: "loop"),
            ]
                + [Statement](repeating: .add64(.r3, 1), count: 5000)
                + [.jump(to: "loop"), .label("end"), .mov64(.r0, .r6), .exit]
        )
        #expect { try fixture.run() } throws: { ($0 as? Trap)?.kind == .budget }
    }

    /// A helper that calls back wants a function even where it would never call it.
    @Test func forgedCallbacksThatWouldNeverRunAreStopped() throws {
        // r1 to r4, and whether the helper would do nothing.
        let empty: [Statement] = [.loadMap(.r1, 1)]
        let loops: [(first: [Statement], flags: Int64, helper: Helper)] = [
            ([.mov64(.r1, 0)], 0, .loop), ([.mov64(.r1, 5)], 1, .loop), ([.mov64(.r1, 9 << 20)], 0, .loop),
            ([.mov64(.r1, 1)], 0, .loop), (empty, 0, .forEachMapElem), (empty, 1, .forEachMapElem),
            ([.mov64(.r1, 77)], 0, .forEachMapElem), ([.loadMap(.r1, 0)], 0, .forEachMapElem),
        ]
        for target in [3, 100_000, 0x7fff_ffff, 0xffff_ffff] {
            for (first, flags, helper) in loops {
                for isHidden in [false, true] {
                    let handle = Int64(bitPattern: FunctionHandle.make(target))
                    let hidden: [Statement] = isHidden ? [.store64(.r10, -8, .r2), .load64(.r2, .r10, -8)] : []
                    let fixture = try SessionFixture(maps: [Self.programs, Self.hash])
                    let code = first + [.loadImm64(.r2, handle)] + hidden + [.mov64(.r3, 0), .mov64(.r4, flags)]
                    try fixture.add(code + [.call(helper), .exit])
                    let trap = Trap(.badJump, instruction: code.count, value: UInt64(target))
                    #expect(throws: trap, "\(helper) \(flags)") { try fixture.run() }
                }
            }
        }
    }

    /// What changes which instructions run is called by its number in the instruction only.
    @Test(arguments: [12, 164, 181] as [Int64])
    func callsThroughRegistersOfHelpersThatCallAreStopped(_ number: Int64) throws {
        guard SessionEngine.current != .jit else { return }
        let fixture = try SessionFixture(maps: [Self.programs])
        try fixture.add([
            .mov64(.r1, 3), .loadFunction(.r2, "f"), .mov64(.r3, 0), .mov64(.r4, 0), .mov64(.r5, number),
            .callRegister(.r5), .exit, .function("f"), .mov64(.r0, 0), .exit,
        ])
        #expect(throws: Trap(.unsupported, instruction: 5, value: UInt64(number))) { try fixture.run() }
    }

    /// All that a tail call passes on is the context, and a program finds nothing else in its registers.
    @Test func tailCallsPassNothingButTheContext() throws {
        let fixture = try SessionFixture(maps: [Self.programs])
        try fixture.add(
            (Register.r4.rawValue...9).compactMap { Register(rawValue: $0) }.map { .mov64($0, 7) } + [
                .loadMap(.r2, 0), .mov64(.r3, 0), .call(.tailCall), .mov64(.r0, 1), .exit,
            ]
        )
        // Unchecked code leaves in r6 to r9 what the caller of the run had there.
        let seen: [Register] =
            SessionEngine.current == .jit ? [.r2, .r3, .r4, .r5] : [.r2, .r3, .r4, .r5, .r6, .r7, .r8, .r9]
        try fixture.add(seen.map { .or64(.r0, $0) } + [.add64(.r0, .r1), .exit])
        entry(fixture.open(), 0, 1)
        #expect(try fixture.run(r1: 40) == 40)
    }

    /// Looking for elements where there are none takes time, and is charged.
    @Test func emptyBucketsAreCharged() throws {
        guard SessionEngine.current != .jit else { return }
        let large = MapParameters(name: "large", type: .hash, keySize: 8, valueSize: 8, maxEntries: 4096)
        let fixture = try SessionFixture(maps: [large])
        fixture.budget = 100_000
        try fixture.add([
            .mov64(.r6, 100), .label("loop"), .loadMap(.r1, 0), .loadFunction(.r2, "f"), .mov64(.r3, 0), .mov64(.r4, 0),
            .call(.forEachMapElem), .sub64(.r6, 1), .jumpNotEqual(.r6, 0, to: "loop"), .exit,
            .function("f"), .mov64(.r0, 0), .exit,
        ])
        #expect(throws: Trap(.budget, instruction: 5, value: 0)) { try fixture.run() }
        fixture.budget = 10_000_000
        #expect(try fixture.run() == 0)
        let executed = fixture.budget &- fixture.lastContext.budget
        #expect(executed >= 100 * 4096 && executed < 200 * 4096)
    }

    /// Calls of what there is not, which loaders leave where constants decide that nobody comes by.
    @Test(arguments: [
        (Opcode.callHelper, TrapKind.unknownHelper), (.callKernelFunction, .unsupported), (.loadAbs32, .unsupported),
    ])
    func whatThereIsNotIsNoMatterUntilItRuns(_ opcode: Opcode, _ kind: TrapKind) throws {
        let statement = Statement.op(opcode, imm: 195_896_080)
        let fixture = try SessionFixture()
        try fixture.add([.mov64(.r0, .r1), .jumpEqual(.r0, 1, to: "end"), statement, .label("end"), .exit])
        #expect(try fixture.run(r1: 1) == 1)
        #expect { try fixture.run(r1: 2) } throws: {
            guard let trap = $0 as? Trap else { return false }
            return trap.kind == kind && trap.instruction == 2
        }
        #expect(try fixture.run(r1: 1) == 1)
    }

    /// Frames of callbacks count like others: a function `depth` calls down calls through a register or is called back.
    @Test(arguments: [0, 1, 2, 3], [false, true])
    func callbacksNestEightDeep(_ kind: Int, _ isHidden: Bool) throws {
        guard SessionEngine.current != .jit else { return }
        let hidden: [Statement] = isHidden ? [.store64(.r10, -16, .r2), .load64(.r2, .r10, -16)] : []
        let last: [Statement] =
            switch kind {
            case 0: [.loadFunction(.r2, "leaf")] + hidden + [.callRegister(.r2)]
            case 1:
                [.loadFunction(.r2, "leaf")] + hidden + [.mov64(.r1, 1), .mov64(.r3, 0), .mov64(.r4, 0), .call(.loop)]
            case 2:
                [.loadFunction(.r2, "leaf")] + hidden + [
                    .loadMap(.r1, 0), .mov64(.r3, 0), .mov64(.r4, 0), .call(.forEachMapElem),
                ]
            default: [.call("leaf")]
            }
        // Of an array's elements the key has a frame of its own.
        let needed = kind == 2 ? 2 : 1
        for calls in 1...8 {
            let fixture = try SessionFixture(maps: [Self.array])
            let code: [Statement] =
                [.mov64(.r1, Int64(calls)), .call("f"), .mov64(.r0, 9), .exit]
                + [.function("f"), .sub64(.r1, 1), .jumpEqual(.r1, 0, to: "last"), .call("f"), .exit, .label("last")]
                + last + [.exit, .function("leaf"), .store64(.r10, -512, -1), .mov64(.r0, 0), .exit]
            try fixture.add(code)
            if 1 + calls + needed <= 8 {
                #expect(try fixture.run() == 9, "\(calls) calls")
            } else {
                #expect("\(calls) calls") { try fixture.run() } throws: {
                    guard let trap = $0 as? Trap else { return false }
                    return trap.kind == .callDepth && trap.value == 8
                }
            }
        }
    }
}
