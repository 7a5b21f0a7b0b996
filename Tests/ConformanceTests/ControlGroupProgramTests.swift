import EngineSupport
import ISA
import Runtime
import Testing
import UBPFVM

/// What programs learn of the control group that their process is in, on every engine.
@Suite(EngineTrait(SessionEngine.allCases)) struct ControlGroupProgramTests {
    private static let map = MapParameters(
        name: "groups",
        type: .cgroupArray,
        keySize: 4,
        valueSize: 4,
        maxEntries: 3
    )

    private func answer(_ groups: [UInt64], _ statements: [Statement]) throws -> Int64 {
        let fixture = try SessionFixture(maps: [Self.map])
        try fixture.add(statements + [.exit])
        let view = MapView(fixture.open(), 0)
        for (index, id) in [7, 0, 1 << 40].enumerated() { view.cgroupEntry(UInt32(index)).pointee = UInt64(id) }
        fixture.setControlGroups(groups)
        return Int64(bitPattern: try fixture.run())
    }

    @Test(arguments: [[1], [1, 7], [1, 0, 1 << 40], []]) func ids(_ groups: [UInt64]) throws {
        #expect(try answer(groups, [.call(.getCurrentCgroupId)]) == Int64(groups.last ?? 0))
        for level in [0, 1, 2, 3, -1, Int64(1) << 32] {
            let expected =
                level == 1 << 32 ? groups.first : groups.indices.contains(Int(level)) ? groups[Int(level)] : 0
            let found = try answer(groups, [.loadImm64(.r1, level), .call(.getCurrentAncestorCgroupId)])
            #expect(found == Int64(expected ?? 0), "level \(level)")
        }
    }

    @Test(
        arguments: [
            ([1, 7], 0, 1), ([1, 7, 9], 0, 1), ([1, 9], 0, 0), ([1], 1, -11), ([1, 0, 1 << 40], 2, 1), ([1, 7], 3, -7),
            ([1, 7], 1 << 32, 1), ([1, 7], -1, -7), ([], 0, 0),
        ] as [([UInt64], Int64, Int64)]
    )
    func membership(_ groups: [UInt64], _ index: Int64, _ expected: Int64) throws {
        let call: [Statement] = [.loadMap(.r1, 0), .loadImm64(.r2, index), .call(.currentTaskUnderCgroup)]
        #expect(try answer(groups, call) == expected)
    }

    /// Other maps are no such array; no program gets at the elements as at values.
    @Test func otherMaps() throws {
        guard SessionEngine.current != .jit else { return }
        let other = MapParameters(name: "m", type: .array, keySize: 4, valueSize: 4, maxEntries: 1)
        for (maps, helper) in [([other], Helper.currentTaskUnderCgroup), ([Self.map], .mapLookupElem)] {
            let fixture = try SessionFixture(maps: maps)
            try fixture.add([
                .store64(.r10, -8, 0), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(helper), .exit,
            ])
            var kind = TrapKind.none
            do throws(Trap) { _ = try fixture.run() } catch { kind = error.kind }
            #expect(kind == .wrongMapType)
        }
    }
}
