import CRuntime
import CSession
import EngineSupport
import Foundation
import ISA
import Runtime
import Testing
import UBPFVM

/// Helpers that act on the process, on every engine.
@Suite(EngineTrait(SessionEngine.allCases)) struct TargetHelperTests {
    /// What a signal is sent for is noted; only the agent sends it, after the run.
    @Test(
        arguments: [
            (Helper.sendSignal, 15, 0), (.sendSignalThread, 64, 0), (.sendSignal, 0, 0), (.sendSignal, 65, -22),
        ]
            as [(Helper, Int64, Int64)]
    )
    func signals(_ helper: Helper, _ number: Int64, _ expected: Int64) throws {
        let fixture = try SessionFixture()
        try fixture.add([.mov64(.r1, number), .call(helper), .exit])
        #expect(Int64(bitPattern: try fixture.run()) == expected)
        let bit = (1...64).contains(number) ? UInt64(1) << UInt64(number - 1) : 0
        let context = fixture.lastContext
        #expect(context.process_signals == (helper == .sendSignal ? bit : 0))
        #expect(context.thread_signals == (helper == .sendSignalThread ? bit : 0))
        #expect(context.effects == (bit == 0 ? 0 : UInt64(CRUNTIME_SENDS_SIGNALS.rawValue)))
    }

    private func write(_ address: UInt64, size: Int64, allowed: Bool) throws -> Int64 {
        let fixture = try SessionFixture()
        fixture.flags = allowed ? CSESSION_ALLOW_WRITE.rawValue : 0
        try fixture.add([
            .store64(.r10, -8, 0x1122), .loadImm64(.r1, Int64(bitPattern: address)), .mov64(.r2, .r10), .add64(.r2, -8),
            .mov64(.r3, size), .call(.probeWriteUser), .exit,
        ])
        return Int64(bitPattern: try fixture.run())
    }

    @Test func writes() throws {
        let pages = try #require(mmap(nil, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
        defer { munmap(pages, 12288) }
        mprotect(pages + 4096, 4096, PROT_READ)
        let address = UInt64(UInt(bitPattern: pages))
        #expect(try write(address + 16, size: 8, allowed: true) == 0)
        #expect(pages.load(fromByteOffset: 16, as: UInt64.self) == 0x1122)
        #expect(try write(address + 32, size: 0, allowed: true) == 0)
        // Read-only, half read-only, not mapped, the kernel's.
        for bad in [address + 4096, address + 4092, 0, 16, 0xffff_8000_0000_0000] {
            #expect(try write(bad, size: 8, allowed: true) == -14)
        }
        #expect(pages.load(fromByteOffset: 4096, as: UInt64.self) == 0)
        guard SessionEngine.current != .jit else { return }
        #expect(throws: Trap(.unknownHelper, instruction: 5, value: 36)) {
            try write(address + 16, size: 8, allowed: false)
        }
    }

    /// Helpers that are given a task know the calling thread's only.
    @Test(arguments: [(Int64(0), Int64(0)), (1, -22)]) func copiesOfTasks(_ flags: Int64, _ expected: Int64) throws {
        let fixture = try SessionFixture()
        let source = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)
        source.initialize(to: 0x55)
        defer { source.deallocate() }
        try fixture.add([
            .store64(.r10, -8, 0), .mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r2, 8),
            .loadImm64(.r3, Int64(UInt(bitPattern: source))), .mov64(.r4, 1), .mov64(.r5, flags),
            .call(.copyFromUserTask), .load64(.r6, .r10, -8), .lsh64(.r6, 32), .or64(.r0, .r6), .exit,
        ])
        #expect(Int64(bitPattern: try fixture.run()) == (expected == 0 ? 0x55 << 32 : expected))
    }

    /// The same answers as of `bpf_get_stack`: here there is no stack, whichever is asked for.
    @Test(arguments: [0, 1 << 8, 1 << 20] as [Int64]) func stacksOfTasks(_ flags: Int64) throws {
        let fixture = try SessionFixture()
        func program(_ helper: Helper) -> [Statement] {
            [
                .mov64(.r1, 1), .mov64(.r2, .r10), .add64(.r2, -64), .mov64(.r3, 64), .loadImm64(.r4, flags),
                .call(helper),
                .exit,
            ]
        }
        try fixture.add(program(.getTaskStack))
        try fixture.add(program(.getStack))
        #expect(try fixture.run(0) == fixture.run(1))
    }

    @Test func overrides() throws {
        let fixture = try SessionFixture()
        fixture.flags = CSESSION_ALLOW_OVERRIDE.rawValue
        fixture.contextSize = 168
        try fixture.add([.mov64(.r2, -5), .call(.overrideReturn), .exit])
        try fixture.add([.add64(.r1, 8), .mov64(.r2, -5), .call(.overrideReturn), .exit])
        #expect(try fixture.run(0, r1: fixture.contextAddress) == 0)
        #expect(fixture.lastContext.effects == UInt64(CRUNTIME_OVERRIDES.rawValue))
        #expect(Int64(bitPattern: fixture.lastContext.override_value) == -5)
        guard SessionEngine.current != .jit else { return }
        #expect(throws: Trap.self) { try fixture.run(1, r1: fixture.contextAddress) }
    }
}
