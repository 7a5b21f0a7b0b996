import CRuntime
import EngineSupport
import ISA
import Runtime
import Testing
import UBPFVM

/// Dynptrs over map values and ring records, on every engine.
@Suite(EngineTrait(SessionEngine.allCases)) struct DynptrProgramTests {
    private static let maps = [
        MapParameters(name: "values", type: .array, keySize: 4, valueSize: 64, maxEntries: 1),
        MapParameters(name: "ring", type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 4096),
    ]

    /// The dynptr is at r10-16; r7 is the map's value; 8 bytes to write are at r10-24.
    private static let prologue: [Statement] = [
        .store64(.r10, -32, 0), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -32), .call(.mapLookupElem),
        .jumpNotEqual(.r0, 0, to: "found"), .mov64(.r0, -1), .exit, .label("found"), .mov64(.r7, .r0),
        .store64(.r10, -24, 0x0102_0304), .store64(.r10, -16, 0), .store64(.r10, -8, 0),
    ]

    private func fromMemory(_ size: Int64, flags: Int64 = 0) -> [Statement] {
        [
            .mov64(.r1, .r7), .mov64(.r2, size), .mov64(.r3, flags), .mov64(.r4, .r10), .add64(.r4, -16),
            .call(.dynptrFromMem),
        ]
    }

    private func write(_ offset: Int64, _ size: Int64, flags: Int64 = 0) -> [Statement] {
        [
            .mov64(.r1, .r10), .add64(.r1, -16), .mov64(.r2, offset), .mov64(.r3, .r10), .add64(.r3, -24),
            .mov64(.r4, size), .mov64(.r5, flags), .call(.dynptrWrite),
        ]
    }

    private func read(_ offset: Int64, _ size: Int64, flags: Int64 = 0) -> [Statement] {
        [
            .mov64(.r1, .r10), .add64(.r1, -40), .mov64(.r2, size), .mov64(.r3, .r10), .add64(.r3, -16),
            .mov64(.r4, offset), .mov64(.r5, flags), .call(.dynptrRead),
        ]
    }

    private func data(_ offset: Int64, _ size: Int64) -> [Statement] {
        [.mov64(.r1, .r10), .add64(.r1, -16), .mov64(.r2, offset), .mov64(.r3, size), .call(.dynptrData)]
    }

    private func run(_ statements: [Statement]) throws -> Int64 {
        let fixture = try SessionFixture(maps: Self.maps)
        try fixture.add(Self.prologue + statements + [.exit])
        return Int64(bitPattern: try fixture.run())
    }

    @Test(
        arguments: [
            (0, 8, 0, 0), (56, 8, 0, 0), (57, 8, 0, -7), (64, 0, 0, 0), (65, 0, 0, -7), (0, 65, 0, -7), (0, 8, 1, -22),
            (-1, 8, 0, -7), (60, 8, 1, -7),
        ] as [(Int64, Int64, Int64, Int64)]
    )
    func writes(_ offset: Int64, _ size: Int64, _ flags: Int64, _ expected: Int64) throws {
        // More than is on the stack is not asked for by verified programs.
        guard size <= 24 else { return }
        #expect(try run(fromMemory(64) + write(offset, size, flags: flags)) == expected)
    }

    @Test(
        arguments: [(0, 8, 0, 0), (56, 8, 0, 0), (57, 8, 0, -7), (0, 8, 1, -22), (60, 8, 1, -22)]
            as [(Int64, Int64, Int64, Int64)]
    )
    func reads(_ offset: Int64, _ size: Int64, _ flags: Int64, _ expected: Int64) throws {
        #expect(try run(fromMemory(64) + read(offset, size, flags: flags)) == expected)
    }

    @Test func roundTrip() throws {
        let body = write(11, 4) + read(11, 4) + [.load32(.r0, .r10, -40), .load8(.r1, .r7, 12), .mul64(.r1, 1)]
        #expect(try run(fromMemory(64) + body) == 0x0102_0304)
        #expect(try run(fromMemory(64) + write(11, 4) + [.load8(.r0, .r7, 12)]) == 3)
    }

    /// A value copied over itself a few bytes on: as memmove.
    @Test func overlap() throws {
        let fill: [Statement] = (0..<16).map { .store8(.r7, Int32($0), Int64($0 + 1)) }
        let move: [Statement] = [
            .mov64(.r1, .r10), .add64(.r1, -16), .mov64(.r2, 3), .mov64(.r3, .r7), .mov64(.r4, 12), .mov64(.r5, 0),
            .call(.dynptrWrite), .load64(.r0, .r7, 7),
        ]
        #expect(try run(fill + fromMemory(64) + move) == 0x0c0b_0a09_0807_0605)
    }

    @Test func dataIsThere() throws {
        let body: [Statement] = [
            .jumpEqual(.r0, 0, to: "none"), .store64(.r0, 0, 99), .load64(.r0, .r7, 8), .exit, .label("none"),
            .mov64(.r0, -1),
        ]
        #expect(try run(fromMemory(64) + data(8, 8) + body) == 99)
        #expect(try run(fromMemory(64) + data(60, 8) + body) == -1)
        #expect(try run(fromMemory(64, flags: 1) + data(0, 8) + body) == -1)
    }

    @Test func noDynptr() throws {
        #expect(try run(fromMemory(64, flags: 1)) == -22)
        #expect(try run(fromMemory(64, flags: 1) + write(0, 8)) == -22)
        #expect(try run(fromMemory(64, flags: 1) + read(0, 8)) == -22)
    }

    private func reserve(_ size: Int64, flags: Int64 = 0) -> [Statement] {
        [
            .loadMap(.r1, 1), .mov64(.r2, size), .mov64(.r3, flags), .mov64(.r4, .r10), .add64(.r4, -16),
            .call(.ringbufReserveDynptr), .mov64(.r6, .r0),
        ]
    }

    private func finish(_ helper: Helper) -> [Statement] {
        [.mov64(.r1, .r10), .add64(.r1, -16), .mov64(.r2, 0), .call(helper), .mov64(.r0, .r6)]
    }

    private func records(_ statements: [Statement], _ expected: Int64) throws -> [[UInt8]] {
        let fixture = try SessionFixture(maps: Self.maps)
        try fixture.add(Self.prologue + statements + [.exit])
        #expect(Int64(bitPattern: try fixture.run()) == expected)
        #expect(fixture.lastContext.trap.kind == 0)
        var consumer = RingConsumer(MapView(fixture.open(), 1))
        var records: [[UInt8]] = []
        while let record = consumer.next() { records.append(record) }
        return records
    }

    @Test func ringRecords() throws {
        let sent = try records(reserve(13) + write(4, 4) + finish(.ringbufSubmitDynptr), 0)
        #expect(sent.count == 1 && sent[0].count == 13 && Array(sent[0][4..<8]) == [4, 3, 2, 1])
        #expect(try records(reserve(13) + finish(.ringbufDiscardDynptr), 0).isEmpty)
        // A failed reservation is submitted all the same, as the verifier demands.
        #expect(try records(reserve(8192) + finish(.ringbufSubmitDynptr), -22).isEmpty)
        #expect(try records(reserve(8, flags: 1) + finish(.ringbufSubmitDynptr), -22).isEmpty)
        #expect(try records(reserve(1 << 24) + finish(.ringbufDiscardDynptr), -7).isEmpty)
    }

    /// What a run leaves is discarded, and the ring goes on.
    @Test func forgottenRecord() throws {
        let fixture = try SessionFixture(maps: Self.maps)
        try fixture.add(Self.prologue + reserve(16) + [.mov64(.r0, 0), .exit])
        try fixture.add(Self.prologue + reserve(16) + finish(.ringbufSubmitDynptr) + [.exit])
        _ = try fixture.run(0)
        guard SessionEngine.current == .vm else { return }
        _ = try fixture.run(1)
        var consumer = RingConsumer(MapView(fixture.open(), 1))
        #expect(consumer.next()?.count == 16)
        #expect(consumer.next() == nil)
    }

    /// Without a verifier a dynptr may say anything: it leads to no memory but the program's.
    @Test func forgedDynptr() throws {
        guard SessionEngine.current != .jit else { return }
        let fixture = try SessionFixture(maps: Self.maps)
        let forged: [Statement] = [.loadImm64(.r1, 0x7fff_0000_0000), .store64(.r10, -16, .r1), .store64(.r10, -8, 64)]
        for body in [write(0, 8), read(0, 8), data(0, 8), finish(.ringbufSubmitDynptr)] {
            let one = try SessionFixture(maps: Self.maps)
            try one.add(Self.prologue + forged + body + [.exit])
            var kind = TrapKind.none
            do throws(Trap) { _ = try one.run() } catch { kind = error.kind }
            #expect(kind == .badArgument)
        }
        withExtendedLifetime(fixture) {}
    }
}
