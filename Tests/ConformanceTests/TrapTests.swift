import EngineSupport
import ISA
import Runtime
import Testing
import UBPFVM

/// Nothing that a program does may harm the process: each misdeed is a trap at its instruction.
@Suite(EngineTrait([.vm, .checkedJIT])) struct TrapTests {
    static let badAddresses: [Int64] = [
        0, 1, 0x1000, -1, -8, -4096, 0x7fff_ffff_ffff, Int64.min, Int64.max, 0x1234_5678_9abc_def0,
    ]
    static let reads: [Opcode] = [
        .load8, .load16, .load32, .load64, .loadSigned8, .loadSigned16, .loadSigned32, .loadAcquire8, .loadAcquire64,
    ]
    static let writes: [Opcode] = [
        .store8Imm, .store64Imm, .store8Reg, .store16Reg, .store32Reg, .store64Reg, .atomicAdd32, .atomicFetchXor64,
        .atomicExchange64, .atomicCompareExchange32, .storeRelease32,
    ]

    @Test(arguments: reads, badAddresses)
    func readsOutsideAreStopped(_ opcode: Opcode, _ address: Int64) throws {
        let found = try trap([.loadImm64(.r2, address), .op(opcode, dst: .r0, src: .r2), .exit])
        #expect(found == Trap(.badRead, instruction: 1, value: UInt64(bitPattern: address)))
    }

    @Test(arguments: writes, badAddresses)
    func writesOutsideAreStopped(_ opcode: Opcode, _ address: Int64) throws {
        let found = try trap([.loadImm64(.r2, address), .op(opcode, dst: .r2, src: .r3), .exit])
        #expect(found == Trap(.badWrite, instruction: 1, value: UInt64(bitPattern: address)))
    }

    /// Every size at every distance from both ends of the stack and of packet memory.
    @Test(arguments: [(Opcode.load8, 1), (.load16, 2), (.load32, 4), (.load64, 8)])
    func edgesAreExact(_ opcode: Opcode, _ size: Int) throws {
        for offset in -10...40 {
            let isInside = offset >= 0 && offset + size <= 32
            let found = try trap(
                [.op(opcode, dst: .r0, src: .r1, offset: Int32(offset)), .mov64(.r0, 0), .exit],
                packet: [UInt8](repeating: 1, count: 32)
            )
            #expect((found == nil) == isInside, "packet \(offset)")
        }
        for offset in -4106...8 {
            let isInside = offset >= -4096 && offset + size <= 0
            let found = try trap([.op(opcode, dst: .r0, src: .r10, offset: Int32(offset)), .mov64(.r0, 0), .exit])
            #expect((found == nil) == isInside, "stack \(offset)")
        }
    }

    @Test func packetsSmallerThanAWordAreExact() throws {
        #expect(try run([.load8(.r0, .r1, 2), .exit], packet: [1, 2, 3]) == 3)
        #expect(try trap([.load8(.r0, .r1, 3), .exit], packet: [1, 2, 3])?.kind == .badRead)
        #expect(try trap([.load32(.r0, .r1, 0), .exit], packet: [1, 2, 3])?.kind == .badRead)
    }

    @Test func atomicsMustBeAligned() throws {
        for opcode in [Opcode.atomicAdd64, .atomicFetchOr32, .atomicCompareExchange64, .storeRelease16, .loadAcquire64]
        {
            var statement = Statement.op(opcode, dst: .r10, src: .r3, offset: -31)
            if opcode == .loadAcquire64 { statement = .op(opcode, dst: .r3, src: .r10, offset: -31) }
            #expect(try trap([statement, .exit])?.kind == .misaligned, "\(opcode)")
        }
    }

    @Test func budgetEndsLoops() throws {
        let found = try trap([.label("loop"), .jump(to: "loop"), .exit], budget: 1000)
        #expect(found == Trap(.budget, instruction: 0, value: 0))
        // Exactly enough, then one too few.
        #expect(try run([.mov64(.r0, 4), .exit], budget: 2) == 4)
        // Compiled code pays for a function where it begins.
        let place = SessionEngine.current == .vm ? 1 : 0
        #expect(try trap([.mov64(.r0, 4), .exit], budget: 1) == Trap(.budget, instruction: place, value: 0))
    }

    @Test func budgetCountsAcrossCalls() throws {
        let code: [Statement] = [
            .label("loop"), .call("f"), .jump(to: "loop"), .exit, .function("f"), .mov64(.r0, 1), .exit,
        ]
        let found = try #require(try trap(code, budget: 1001))
        #expect(found.kind == .budget)
        // In the loop or in the function, wherever the engine counts.
        #expect([0, 1, 3, 4].contains(found.instruction))
        // Compiled code pays for the function where it begins, and says so.
        if SessionEngine.current == .checkedJIT {
            #expect(try trap([.call("f"), .exit, .function("f"), .mov64(.r0, 1), .exit], budget: 3)?.instruction == 2)
        }
    }

    @Test(arguments: [(7, true), (8, false)])
    func callsNestEightDeep(_ calls: Int, _ fits: Bool) throws {
        let code: [Statement] = [
            .mov64(.r1, Int64(calls)), .call("f"), .exit,
            .function("f"), .mov64(.r0, 5), .sub64(.r1, 1), .jumpEqual(.r1, 0, to: "end"), .call("f"), .label("end"),
            .exit,
        ]
        #expect(try trap(code) == (fits ? nil : Trap(.callDepth, instruction: 6, value: 8)))
    }

    @Test func unknownThingsAreStopped() throws {
        #expect(try trap([.op(.callHelper, imm: 9999), .exit]) == Trap(.unknownHelper, instruction: 0, value: 9999))
        #expect(try trap([.loadImm64(.r2, 1 << 40), .callRegister(.r2), .exit])?.kind == .unknownHelper)
        #expect(try trap([.op(.callKernelFunction, imm: 7), .exit])?.kind == .unsupported)
        #expect(try trap([.op(.loadAbs32), .exit])?.kind == .unsupported)
        #expect(try trap([.op(.loadVariable, imm: 3), .exit])?.kind == .unsupported)
        let handle = Int64(bitPattern: FunctionHandle.make(500))
        #expect(try trap([.loadImm64(.r2, handle), .callRegister(.r2), .exit])?.kind == .badJump)
        // A handle that names the middle of a function is none: engines enter functions only where they start.
        let middle = Int64(bitPattern: FunctionHandle.make(5))
        let forged: [Statement] = [
            .loadImm64(.r2, middle), .callRegister(.r2), .exit, .function("f"), .mov64(.r0, 1), .mov64(.r0, 2), .exit,
        ]
        #expect(try trap([.call("f")] + forged) == Trap(.badJump, instruction: 2, value: 5))
    }

    @Test func trapsNameTheirInstruction() throws {
        let code = try Assembly([.mov64(.r1, 16), .load64(.r0, .r1, 8), .exit]).instructions
        var runner = ProgramRunner()
        do {
            _ = try runner.run(code)
            Issue.record("no trap")
        } catch .trap(let trap) {
            #expect(trap.description(in: code).contains("instruction 1 (r0 = *(u64 *)(r1 +8))"))
            #expect(trap.description(in: code).contains("0x18"))
        } catch {
            Issue.record("\(error)")
        }
    }
}
