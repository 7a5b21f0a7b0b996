import EngineSupport
import ISA
import Runtime
import Testing
import UBPFVM

/// What programs do with maps inside maps, on every engine.
@Suite(EngineTrait(SessionEngine.allCases)) struct MapOfMapsTests {
    private static let inner = MapParameters(name: "inner", type: .hash, keySize: 8, valueSize: 8, maxEntries: 4)
    private static let ring = MapParameters(name: "ring", type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 4096)

    private static func outer(_ type: MapType, _ keySize: UInt32, of inner: MapParameters) -> MapParameters {
        var map = MapParameters(name: "outer", type: type, keySize: keySize, valueSize: 4, maxEntries: 3)
        map.inner = [inner]
        return map
    }

    /// r0 = the map at `key` of map 0; goes to "end" with r0 = -1 where there is none.
    private static func inner(_ key: Int64) -> [Statement] {
        [
            .store64(.r10, -8, key), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem),
            .jumpNotEqual(.r0, 0, to: "found"), .mov64(.r0, -1), .jump(to: "end"), .label("found"),
        ]
    }

    /// Sets key 5 of the map in r0 to 77, and looks it up: r0 is the value.
    private static let use: [Statement] = [
        .mov64(.r6, .r0), .store64(.r10, -16, 5), .store64(.r10, -24, 77),
        .mov64(.r1, .r6), .mov64(.r2, .r10), .add64(.r2, -16), .mov64(.r3, .r10), .add64(.r3, -24), .mov64(.r4, 0),
        .call(.mapUpdateElem), .jumpNotEqual(.r0, 0, to: "end"),
        .mov64(.r1, .r6), .mov64(.r2, .r10), .add64(.r2, -16), .call(.mapLookupElem),
        .jumpEqual(.r0, 0, to: "end"), .load64(.r0, .r0), .label("end"), .exit,
    ]

    private func set(_ session: SessionView, _ key: UInt64, _ id: UInt32) -> Int64 {
        MapView(session, 0).update([key], [id], flags: 0, tid: 1, slot: -1)
    }

    @Test(arguments: [MapType.arrayOfMaps, .hashOfMaps])
    func programsUseMapsInside(_ type: MapType) throws {
        let fixture = try SessionFixture(maps: [
            Self.outer(type, type == .arrayOfMaps ? 4 : 8, of: Self.inner), Self.inner, Self.inner,
        ])
        for key in 0...3 { try fixture.add(Self.inner(Int64(key)) + Self.use) }
        let session = fixture.open()
        #expect(set(session, 0, 2) == 0)
        #expect(set(session, 2, 3) == 0)
        #expect(try fixture.run(0) == 77)
        #expect(MapView(session, 1).lookup([UInt64(5)], slot: 0) != nil)
        #expect(MapView(session, 2).lookup([UInt64(5)], slot: 0) == nil)
        #expect(try fixture.run(2) == 77)
        #expect(MapView(session, 2).lookup([UInt64(5)], slot: 0) != nil)
        #expect(try fixture.run(1) == UInt64.max)
        #expect(try fixture.run(3) == UInt64.max)
        // Another map from now on; and none.
        #expect(set(session, 0, 3) == 0)
        #expect(MapView(session, 1).delete([UInt64(5)], tid: 1) == 0)
        #expect(try fixture.run(0) == 77)
        #expect(MapView(session, 1).lookup([UInt64(5)], slot: 0) == nil)
        #expect(MapView(session, 0).delete([UInt64(0)], tid: 1) == 0)
        #expect(try fixture.run(0) == UInt64.max)
    }

    /// A peer may write anything over the map's own part: no program gets a map that is not like the template.
    @Test(arguments: [UInt32(1), 2, 3, 4, 100, .max])
    func onlyMapsLikeTheTemplateAreFound(_ id: UInt32) throws {
        var other = Self.inner
        other.valueSize = 16
        let fixture = try SessionFixture(maps: [Self.outer(.arrayOfMaps, 4, of: Self.inner), Self.inner, other])
        try fixture.add(Self.inner(0) + Self.use)
        let session = fixture.open()
        #expect(set(session, 0, id) == (id == 2 ? 0 : id <= 3 ? -22 : -9))
        #expect(set(session, 0, 2) == 0)
        MapView(session, 0).lookup([UInt32(0)], slot: 0)?.storeBytes(of: id, as: UInt32.self)
        #expect(try fixture.run() == (id == 2 ? 77 : UInt64.max))
    }

    @Test func programsDoNotChangeMapsOfMaps() throws {
        let fixture = try SessionFixture(maps: [Self.outer(.hashOfMaps, 8, of: Self.inner), Self.inner])
        for helper in [Helper.mapUpdateElem, .mapDeleteElem] {
            try fixture.add([
                .store64(.r10, -8, 0), .store64(.r10, -16, 2), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8),
                .mov64(.r3, .r10), .add64(.r3, -16), .mov64(.r4, 0), .call(helper), .exit,
            ])
        }
        try fixture.add([
            .loadMap(.r1, 0), .loadFunction(.r2, "f"), .mov64(.r3, 0), .mov64(.r4, 0), .call(.forEachMapElem), .exit,
            .function("f"), .mov64(.r0, 0), .exit,
        ])
        for program in 0...2 {
            let error = #expect(throws: Trap.self) { try fixture.run(program) }
            #expect(error?.kind == .wrongMapType)
        }
    }

    @Test func ringsAreInside() throws {
        let fixture = try SessionFixture(maps: [Self.outer(.arrayOfMaps, 4, of: Self.ring), Self.ring])
        try fixture.add(
            Self.inner(0) + [
                .store64(.r10, -16, 99), .mov64(.r1, .r0), .mov64(.r2, .r10), .add64(.r2, -16), .mov64(.r3, 8),
                .mov64(.r4, 0), .call(.ringbufOutput), .label("end"), .exit,
            ]
        )
        let session = fixture.open()
        #expect(set(session, 0, 2) == 0)
        #expect(try fixture.run() == 0)
        var consumer = RingConsumer(MapView(session, 1))
        #expect(consumer.next() == [99, 0, 0, 0, 0, 0, 0, 0])
    }

    // MARK: What may be inside

    private func inside(_ template: MapParameters, _ map: MapParameters) throws -> Int64 {
        let fixture = try SessionFixture(maps: [Self.outer(.arrayOfMaps, 4, of: template), map])
        try fixture.add([.mov64(.r0, 0), .exit])
        return set(fixture.open(), 0, 2)
    }

    @Test func mapsInsideAreLikeTheTemplate() throws {
        func map(_ type: MapType, _ change: (inout MapParameters) -> Void = { _ in }) -> MapParameters {
            var map = MapParameters(name: "m", type: type, keySize: 4, valueSize: 8, maxEntries: 4)
            change(&map)
            return map
        }
        #expect(try inside(map(.hash), map(.hash) { $0.maxEntries = 5 }) == 0)
        #expect(try inside(map(.array), map(.array)) == 0)
        #expect(try inside(map(.array), map(.array) { $0.maxEntries = 5 }) == -22)
        let free: (inout MapParameters) -> Void = { $0.flags = 0x1000 }
        let other: (inout MapParameters) -> Void = { ($0.flags, $0.maxEntries) = (0x1000, 5) }
        #expect(try inside(map(.array, free), map(.array, other)) == 0)
        #expect(try inside(map(.array), map(.array, free)) == -22)
        #expect(try inside(map(.hash), map(.lruHash)) == -22)
        #expect(try inside(map(.hash), map(.hash) { $0.keySize = 8 }) == -22)
        #expect(try inside(map(.hash), map(.hash) { $0.valueSize = 4 }) == -22)
        #expect(try inside(map(.hash), map(.hash) { $0.flags = 1 }) == -22)
        #expect(try inside(map(.hash), map(.hash) { $0.record = 1 }) == -22)
    }

    @Test(arguments: [MapType.programArray, .arrayOfMaps, .hashOfMaps])
    func someTypesAreNotInside(_ type: MapType) throws {
        var inner = MapParameters(name: "inner", type: type, keySize: 4, valueSize: 4, maxEntries: 3)
        if type.holdsMaps { inner.inner = [Self.inner] }
        #expect { try SessionFixture(maps: [Self.outer(.arrayOfMaps, 4, of: inner)]) } throws: {
            ($0 as? SessionError)?.kind == .unsupported
        }
        var bare = Self.outer(.arrayOfMaps, 4, of: Self.inner)
        bare.inner = []
        #expect { try SessionFixture(maps: [bare]) } throws: { ($0 as? SessionError)?.kind == .invalid }
    }
}
