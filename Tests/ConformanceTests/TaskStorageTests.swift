import CRuntime
import EngineSupport
import Foundation
import ISA
import Testing
import UBPFVM

@testable import Runtime

/// A value for each thread, on every engine.
@Suite(EngineTrait(SessionEngine.allCases)) struct TaskStorageTests {
    private static let map = MapParameters(
        name: "tasks",
        type: .taskStorage,
        keySize: 4,
        valueSize: 12,
        maxEntries: 0,
        flags: 1
    )

    /// r0 = 1 + the value's first word, which goes up by one; 0 where there is none.
    static func get(task: Int64 = 1, flags: Int64, hasInitial: Bool = false) -> [Statement] {
        [
            .store64(.r10, -16, 40), .store64(.r10, -8, 0), .loadMap(.r1, 0), .mov64(.r2, task), .mov64(.r3, .r10),
            hasInitial ? .add64(.r3, -16) : .mov64(.r3, 0), .mov64(.r4, flags), .call(.taskStorageGet),
            .jumpEqual(.r0, 0, to: "end"), .load64(.r1, .r0), .add64(.r1, 1), .store64(.r0, 0, .r1), .mov64(.r0, .r1),
            .label("end"), .exit,
        ]
    }

    private func fixture() throws -> SessionFixture {
        let fixture = try SessionFixture(maps: [Self.map])
        try fixture.add(Self.get(flags: 0))
        try fixture.add(Self.get(flags: 1))
        try fixture.add(Self.get(flags: 1, hasInitial: true))
        try fixture.add([.loadMap(.r1, 0), .mov64(.r2, 1), .call(.taskStorageDelete), .exit])
        try fixture.add(Self.get(task: 0, flags: 1))
        try fixture.add(Self.get(flags: 2))
        _ = fixture.open()
        return fixture
    }

    @Test func valuesAreMadeKeptAndDeleted() throws {
        let fixture = try fixture()
        #expect(try fixture.run(0) == 0)
        #expect(try Int64(bitPattern: fixture.run(3)) == -2)
        #expect(try fixture.run(1) == 1)
        #expect(try fixture.run(0) == 2)
        #expect(try fixture.run(2) == 3)
        #expect(try fixture.run(3) == 0)
        #expect(try fixture.run(0) == 0)
        #expect(try fixture.run(2) == 41)
        #expect(try fixture.run(3) == 0)
        // Nodes are used again, their values are not.
        #expect(try fixture.run(1) == 1)
        #expect(try fixture.run(4) == 0)
        #expect(try fixture.run(5) == 0)
    }

    /// The same id with another token is another thread.
    @Test func reusedThreadIdsFindNothing() throws {
        let fixture = try fixture()
        fixture.setThread(id: 77, token: 5)
        #expect(try fixture.run(2) == 41)
        fixture.setThread(id: 78, token: 6)
        #expect(try fixture.run(0) == 0)
        fixture.setThread(id: 77, token: 7)
        #expect(try fixture.run(0) == 0)
        #expect(try fixture.run(1) == 1)
        fixture.setThread(id: 77, token: 5)
        #expect(try fixture.run(0) == 0)
    }

    /// One number is two threads in two PID namespaces; of others nobody knows whether they live, so they go last.
    @Test func namespaces() throws {
        let fixture = try fixture()
        let map = MapView(fixture.open(), 0)
        let foreign = UInt32(3 << 22) ^ cruntime_namespace_mark()
        for (id, token) in [(UInt32(1), 1), (foreign | 1, 2)] as [(UInt32, UInt64)] {
            #expect(map.taskValue(tid: id, token: token, initial: nil, creates: true) != nil)
        }
        #expect(map.taskValue(tid: 1, token: 1, initial: nil, creates: false) != nil)
        #expect(map.taskValue(tid: foreign | 1, token: 2, initial: nil, creates: false) != nil)
        for id in 2..<map.maxEntries + 500 {
            guard map.taskValue(tid: foreign | id, token: 1, initial: nil, creates: true) != nil else {
                Issue.record("no room for thread \(id)")
                return
            }
        }
        fixture.setThread(id: cruntime_tid(), token: 2)
        #expect(try fixture.run(1) == 1)
        #expect(try fixture.run(1) == 2)
    }

    /// All elements are of threads that have ended: room is found all the same, and a walk shows those that live.
    @Test func threadsThatHaveEndedGiveTheirRoom() throws {
        let fixture = try fixture()
        let map = MapView(fixture.open(), 0)
        // No kernel is as busy as to come to such ids.
        let dead = UInt32(4_150_000)
        for id in 0..<map.maxEntries {
            fixture.setThread(id: dead + id, token: 1)
            #expect(try fixture.run(1) == 1)
        }
        for id in 0..<1000 as Range<UInt32> {
            fixture.setThread(id: dead - 1000 + id, token: 1)
            #expect(try fixture.run(1) == 1)
        }
        fixture.setThread(id: cruntime_tid(), token: 2)
        #expect(try fixture.run(1) == 1)
        let frozen = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
        defer { frozen.deallocate() }
        frozen.initialize(to: 0)
        do {
            let user = UserMap(map, frozen: frozen)
            let own = withUnsafeBytes(of: cruntime_tid()) { Array($0) }
            #expect(user.nextKey(nil).key == own)
            #expect(user.nextKey(own).status == -2)
            #expect(user.lookup(own).value == [1] + [UInt8](repeating: 0, count: 11))
            // What is set from outside the thread finds.
            #expect(user.update(own, [9] + [UInt8](repeating: 0, count: 11)) == 0)
            #expect(try fixture.run(0) == 10)
            #expect(user.take(own).status == -524)
            #expect(user.lookupBatch(after: nil, count: 8).status == -524)
            #expect(user.delete(own) == 0)
        }
        #expect(try fixture.run(0) == 0)
    }

    @Test func programsDoNotReachOthers() throws {
        let fixture = try SessionFixture(maps: [Self.map])
        try fixture.add([
            .store64(.r10, -8, 1), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem), .exit,
        ])
        let error = #expect(throws: Trap.self) { try fixture.run() }
        #expect(error?.kind == .wrongMapType)
    }

    @Test func definitionsAreAsTheKernelWantsThem() {
        func refusal(_ change: (inout MapParameters) -> Void) -> SessionError? {
            var map = Self.map
            change(&map)
            do { _ = try SessionFixture(maps: [map]) } catch { return error as? SessionError }
            return nil
        }
        #expect(refusal { _ in } == nil)
        #expect(refusal { $0.maxEntries = 5 }?.message == "max_entries is 5, must be 0")
        #expect(refusal { $0.flags = 0 }?.message.contains("BPF_F_NO_PREALLOC") == true)
        #expect(refusal { $0.keySize = 8 }?.kind == .invalid)
        #expect(refusal { $0.valueSize = 0 }?.kind == .invalid)
        #expect(refusal { $0.valueSize = 70_000 }?.kind == .tooBig)
    }
}
