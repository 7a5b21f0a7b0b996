import CRuntime
import Foundation
import ISA
import Testing

@testable import Runtime

@Suite struct ArrayMapTests {
    @Test func limitsAndErrors() throws {
        let fixture = try MapFixture([
            MapParameters(name: "a", type: .array, keySize: 4, valueSize: 8, maxEntries: 3)
        ])
        let map = fixture.map()
        #expect(map.get(0) == 0)
        #expect(map.get(2) == 0)
        #expect(map.get(3) == nil)
        #expect(map.set(2, 9) == 0)
        #expect(map.get(2) == 9)
        #expect(map.set(3, 9) == Errno.tooBig)
        #expect(map.set(1, 9, flags: 1) == Errno.exists)
        #expect(map.set(1, 9, flags: 2) == 0)
        #expect(map.remove(1) == Errno.invalid)
        #expect(map.keys() == [0, 1, 2])
    }

    @Test func perCPU() throws {
        let fixture = try MapFixture([
            MapParameters(name: "a", type: .perCPUArray, keySize: 4, valueSize: 8, maxEntries: 2)
        ])
        let map = fixture.map()
        for slot in 0..<4 { #expect(map.set(1, UInt64(slot) + 10, slot: slot) == 0) }
        #expect((0..<4).map { map.get(1, slot: $0) } == [10, 11, 12, 13])
        #expect((0..<4).map { map.get(0, slot: $0) } == [0, 0, 0, 0])
    }

    /// Read, add one, write, without atomics: exact, because a run owns its slot.
    @Test func perCPUCountsAreExactOnManyThreads() throws {
        let fixture = try MapFixture(
            [MapParameters(name: "a", type: .perCPUArray, keySize: 4, valueSize: 8, maxEntries: 1)],
            cpuCount: 2
        )
        let shared = Counter()
        inThreads(8) { _ in
            fixture.context { context in
                let map = fixture.map()
                for _ in 0..<20_000 {
                    context.pointee.cpu_slot = -1
                    let own = slot(context, for: map)
                    var key: UInt32 = 0
                    if let value = map.lookup(&key, slot: own)?.assumingMemoryBound(to: UInt64.self) {
                        value.pointee += 1
                    } else {
                        shared.add()
                    }
                    endRun(context)
                }
            }
        }
        #expect(shared.value == 0)
        let map = fixture.map()
        #expect((0..<2).reduce(0) { $0 + (map.get(0, slot: $1) ?? 0) } == 160_000)
    }

    @Test func contentsAndFrozenOnes() throws {
        let fixture = try MapFixture([
            MapParameters(
                name: ".data",
                type: .array,
                keySize: 4,
                valueSize: 8,
                maxEntries: 1,
                contents: [1, 2, 3, 4, 5, 6, 7, 8]
            ),
            MapParameters(
                name: ".rodata",
                type: .array,
                keySize: 4,
                valueSize: 4,
                maxEntries: 1,
                contents: [9, 9, 9, 9],
                isFrozen: true
            ),
        ])
        #expect(fixture.map(0).get(0) == 0x0807_0605_0403_0201)
        #expect(fixture.map(1).isReadOnly)
        #expect(!fixture.map(0).isReadOnly)
    }
}

@Suite struct StackTraceTests {
    private func fixture(_ entries: UInt32) throws -> MapFixture {
        try MapFixture([
            MapParameters(name: "s", type: .stackTrace, keySize: 4, valueSize: 127 * 8, maxEntries: entries)
        ])
    }

    @Test func sameStackSameIdOthersDiffer() throws {
        let fixture = try fixture(16384)
        let map = fixture.map()
        var ids: [Int64: Int] = [:]
        var collisions = 0
        for stack in 0..<1000 {
            let frames = (0..<20).map { UInt64(0x400000 + stack * 1000 + $0) }
            let id = map.stackStore(frames, count: frames.count, flags: 0)
            if id == Errno.exists {
                collisions += 1
                continue
            }
            #expect(id >= 0)
            #expect(ids[id] == nil, "two stacks have id \(id)")
            ids[id] = stack
            #expect(map.stackStore(frames, count: frames.count, flags: 0) == id)
        }
        // 1000 stacks in 16384 buckets: about 30 collisions, never many more.
        #expect(collisions < 100)
        for (id, stack) in ids {
            var copy = [UInt64](repeating: 1, count: 127)
            #expect(map.stackCopy(UInt32(id), into: &copy) == 0)
            #expect(copy[0] == UInt64(0x400000 + stack * 1000))
            #expect(copy[19] == UInt64(0x400000 + stack * 1000 + 19))
            // Nothing behind the stack is left over.
            #expect(copy[20...].allSatisfy { $0 == 0 })
        }
    }

    @Test func collisionsAreRefusedOrReplaced() throws {
        let fixture = try fixture(1)
        let map = fixture.map()
        #expect(map.stackStore([1, 2], count: 2, flags: 0) == 0)
        #expect(map.stackStore([3, 4], count: 2, flags: 0) == Errno.exists)
        #expect(map.stackStore([3, 4], count: 2, flags: 1 << 10) == 0)
        var copy = [UInt64](repeating: 1, count: 127)
        #expect(map.stackCopy(0, into: &copy) == 0)
        #expect(copy[..<3] == [3, 4, 0])
        #expect(map.stackCopy(5, into: &copy) == Errno.noEntry)
    }

    @Test func equalLengthsAreNotEqualStacks() throws {
        let fixture = try fixture(1)
        let map = fixture.map()
        #expect(map.stackStore([1, 2, 3], count: 3, flags: 0) == 0)
        #expect(map.stackStore([1, 2, 4], count: 3, flags: 0) == Errno.exists)
        #expect(map.stackStore([1, 2], count: 2, flags: 0) == Errno.exists)
    }
}

@Suite struct ParameterTests {
    @Test(
        arguments: [
            MapParameters(name: "m", type: .hash, keySize: 0, valueSize: 8, maxEntries: 1),
            MapParameters(name: "m", type: .hash, keySize: 8, valueSize: 8, maxEntries: 0),
            MapParameters(name: "m", type: .array, keySize: 8, valueSize: 8, maxEntries: 1),
            MapParameters(name: "m", type: .array, keySize: 4, valueSize: 0, maxEntries: 1),
            MapParameters(name: "m", type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 5000),
            MapParameters(name: "m", type: .ringBuffer, keySize: 4, valueSize: 0, maxEntries: 4096),
            MapParameters(name: "m", type: .stackTrace, keySize: 4, valueSize: 12, maxEntries: 8),
            MapParameters(name: "m", type: .lpmTrie, keySize: 8, valueSize: 8, maxEntries: 8),
            MapParameters(name: "m", type: .lpmTrie, keySize: 4, valueSize: 8, maxEntries: 8, flags: 1),
            MapParameters(name: "m", type: .queue, keySize: 4, valueSize: 8, maxEntries: 8),
            MapParameters(name: "m", type: .stack, keySize: 0, valueSize: 8, maxEntries: 0),
            MapParameters(name: "m", type: .bloomFilter, keySize: 0, valueSize: 8, maxEntries: 8, extra: 16),
            MapParameters(name: "m", type: .lruHash, keySize: 8, valueSize: 8, maxEntries: 8, flags: 1),
            MapParameters(name: "m", type: .arrayOfMaps, keySize: 4, valueSize: 4, maxEntries: 8),
            MapParameters(name: "m", type: .hash, keySize: 8, valueSize: 8, maxEntries: 1, flags: 1 << 30),
        ]
    )
    func refused(_ map: MapParameters) {
        #expect(throws: SessionError.self) {
            var builder = SessionBuilder(cpuCount: 1)
            _ = try builder.addMap(map)
        }
    }
}
