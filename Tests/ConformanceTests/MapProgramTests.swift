import CRuntime
import EngineSupport
import ISA
import Runtime
import Testing
import UBPFVM

/// The helpers of maps without keys, tries, LRU maps and per-CPU values, on every engine.
@Suite(EngineTrait(SessionEngine.allCases)) struct MapProgramTests {
    private static func map(_ type: MapType, key: UInt32, entries: UInt32, flags: UInt32 = 0) -> MapParameters {
        MapParameters(name: "m", type: type, keySize: key, valueSize: 8, maxEntries: entries, flags: flags)
    }

    /// `push` of an immediate; its status is added to r6.
    private func push(_ value: Int64, flags: Int64 = 0) -> [Statement] {
        [
            .store64(.r10, -8, value), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, flags),
            .call(.mapPushElem), .add64(.r6, .r0),
        ]
    }

    /// `pop` or `peek`; r6 = r6 * 10 + what came, where something came.
    private func take(_ helper: Helper) -> [Statement] {
        [
            .store64(.r10, -8, 9), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(helper),
            .load64(.r1, .r10, -8), .mul64(.r6, 10), .add64(.r6, .r1),
        ]
    }

    @Test(arguments: [(MapType.queue, 22_340 as Int64), (.stack, 44_320)])
    func pushPeekPop(_ type: MapType, _ expected: Int64) throws {
        let fixture = try SessionFixture(maps: [Self.map(type, key: 0, entries: 3)])
        // 1 makes room for 4, and a fifth does not fit: -E2BIG, taken off again.
        let start = push(1) + push(2) + push(3) + push(4, flags: 2) + push(5) + [.add64(.r6, 7)]
        let end = take(.mapPeekElem) + take(.mapPopElem) + take(.mapPopElem) + take(.mapPopElem)
        // The last pop finds nothing and leaves a zero.
        let empty = take(.mapPopElem) + [.add64(.r6, .r0), .mov64(.r0, .r6), .exit]
        try fixture.add([.mov64(.r6, 0)] + start + end + empty)
        let result = Int64(bitPattern: try fixture.run())
        // A digit for each, and -ENOENT.
        #expect(result == expected - 2)
    }

    @Test func bloomFilter() throws {
        let fixture = try SessionFixture(maps: [Self.map(.bloomFilter, key: 0, entries: 10)])
        try fixture.add(
            [.mov64(.r6, 0)] + push(77) + [
                .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapPeekElem), .mov64(.r7, .r0),
                .store64(.r10, -8, 78), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapPeekElem),
                .mul64(.r7, 100), .add64(.r0, .r7), .add64(.r0, .r6), .exit,
            ]
        )
        #expect(Int64(bitPattern: try fixture.run()) == -2)
    }

    @Test func longestPrefix() throws {
        let fixture = try SessionFixture(maps: [Self.map(.lpmTrie, key: 8, entries: 4, flags: 1)])
        try fixture.add([
            .store32(.r10, -8, 8), .store32(.r10, -4, 0x0a), .store64(.r10, -16, 42),
            .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, .r10), .add64(.r3, -16), .mov64(.r4, 0),
            .call(.mapUpdateElem), .mov64(.r6, .r0),
            .store32(.r10, -8, 32), .store32(.r10, -4, 0x0102_030a),
            .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem),
            .jumpEqual(.r0, 0, to: "none"), .load64(.r0, .r0, 0), .add64(.r0, .r6), .exit,
            .label("none"), .mov64(.r0, -1), .exit,
        ])
        #expect(try fixture.run() == 42)
    }

    /// Ten keys in a map for four: all go in, the last is there.
    @Test(arguments: [MapType.lruHash, .lruPerCPUHash]) func leastRecentlyUsed(_ type: MapType) throws {
        let fixture = try SessionFixture(maps: [Self.map(type, key: 8, entries: 4)])
        try fixture.add([
            .mov64(.r7, 10), .mov64(.r6, 0), .label("next"), .store64(.r10, -8, .r7), .store64(.r10, -16, .r7),
            .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, .r10), .add64(.r3, -16), .mov64(.r4, 0),
            .call(.mapUpdateElem), .add64(.r6, .r0), .add64(.r7, -1), .jumpNotEqual(.r7, 0, to: "next"),
            .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem),
            .jumpEqual(.r0, 0, to: "none"), .load64(.r0, .r0, 0), .add64(.r0, .r6), .exit,
            .label("none"), .mov64(.r0, -1), .exit,
        ])
        #expect(try fixture.run() == 1)
        var cursor = MapCursor()
        var count = 0
        while cursor.advance(MapView(fixture.open(), 0), slot: 0) { count += 1 }
        #expect(count == 4)
    }

    /// This run's value in one of two slots, none in the other; a third slot there is not.
    @Test func lookupOfACPU() throws {
        let fixture = try SessionFixture(maps: [Self.map(.perCPUHash, key: 8, entries: 4)])
        func lookup(_ cpu: Int64, _ none: String) -> [Statement] {
            [
                .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, cpu), .call(.mapLookupPercpuElem),
                .jumpEqual(.r0, 0, to: none), .load64(.r0, .r0, 0), .add64(.r6, .r0), .label(none),
            ]
        }
        try fixture.add(
            [
                .store64(.r10, -8, 5), .store64(.r10, -16, 30), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8),
                .mov64(.r3, .r10), .add64(.r3, -16), .mov64(.r4, 0), .call(.mapUpdateElem), .mov64(.r6, .r0),
            ] + lookup(0, "a") + lookup(1, "b") + lookup(2, "c") + [.add64(.r0, .r6), .exit]
        )
        #expect(try fixture.run() == 30)
    }

    /// A map of another kind is a trap, not a crash.
    @Test(arguments: [Helper.mapPushElem, .mapPopElem, .mapPeekElem, .mapLookupPercpuElem])
    func wrongMaps(_ helper: Helper) throws {
        let fixture = try SessionFixture(maps: [Self.map(.hash, key: 8, entries: 4)])
        try fixture.add([
            .store64(.r10, -8, 1), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, 0), .call(helper),
            .exit,
        ])
        // Unchecked code relies on a verifier for this.
        guard SessionEngine.current != .jit else { return }
        do {
            _ = try fixture.run()
            Issue.record("no trap")
        } catch {
            #expect(error.kind == .wrongMapType)
        }
    }
}
