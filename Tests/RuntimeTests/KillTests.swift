import CForkFixtures
import CRuntime
import Foundation
import ISA
import Testing

@testable import Runtime

/// Processes that share a session are killed at random points inside map operations; the others must go on.
@Suite(.serialized) struct KillTests {
    private final class Work {
        let fixture: MapFixture
        let seed: UInt64

        init(_ fixture: MapFixture, _ seed: UInt64) {
            self.fixture = fixture
            self.seed = seed
        }
    }

    private static func child(_ work: Work, _ body: @convention(c) (UnsafeMutableRawPointer?) -> Void) -> Int32 {
        fork_run(body, Unmanaged.passUnretained(work).toOpaque())
    }

    /// Deaths for each of the maps: 10,000 for all of them with UBPF_TORTURE=1.
    private static let kills = ProcessInfo.processInfo.environment["UBPF_TORTURE"] == "1" ? 1000 : 20

    private static let maps: [MapParameters] = [
        hashMap(entries: 4096), hashMap(entries: 48), hashMap(entries: 256, type: .perCPUHash),
        hashMap(entries: 40, type: .lruHash), hashMap(entries: 64, type: .lruPerCPUHash),
        MapParameters(name: "t", type: .lpmTrie, keySize: 8, valueSize: 8, maxEntries: 64, flags: 1),
        MapParameters(name: "q", type: .queue, keySize: 0, valueSize: 64, maxEntries: 16),
        MapParameters(name: "s", type: .stack, keySize: 0, valueSize: 64, maxEntries: 16),
        MapParameters(name: "b", type: .bloomFilter, keySize: 0, valueSize: 8, maxEntries: 64),
        MapParameters(name: "a", type: .array, keySize: 4, valueSize: 64, maxEntries: 16),
        MapParameters(name: "p", type: .perCPUArray, keySize: 4, valueSize: 64, maxEntries: 16),
        MapParameters(name: "l", type: .hash, keySize: 8, valueSize: 64, maxEntries: 40, lock: 8),
        MapParameters(name: "l", type: .array, keySize: 4, valueSize: 64, maxEntries: 4, lock: 8),
        outer(.arrayOfMaps, keySize: 4), outer(.hashOfMaps, keySize: 8),
        MapParameters(name: "k", type: .taskStorage, keySize: 4, valueSize: 64, maxEntries: 0, flags: 1),
    ]

    /// The template is such a map itself, the second of its session.
    private static let inside = MapParameters(name: "i", type: .array, keySize: 4, valueSize: 8, maxEntries: 4)

    private static func outer(_ type: MapType, keySize: UInt32) -> MapParameters {
        var map = MapParameters(name: "m", type: type, keySize: keySize, valueSize: 4, maxEntries: 24)
        map.inner = [inside]
        return map
    }

    /// A random operation, on few keys, so that most of the time is spent inside of the same stripes and buckets.
    private static func operate(_ map: MapView, _ random: inout TestRandom, _ tid: UInt32) {
        var value = cruntime_text()
        withUnsafeMutableBytes(of: &value) { value in
            guard let value = value.baseAddress else { return }
            let number = random.next(64)
            var key = [number << 20]
            switch map.family {
            case .lpmTrie: key = [number % 33 | number << 32]
            case .array, .mapArray: key = [number % 20]
            default: break
            }
            value.storeBytes(of: key[0], as: UInt64.self)
            // The map inside, and none.
            if map.holdsMaps { value.storeBytes(of: random.next(8) == 0 ? 7 : 2, as: UInt32.self) }
            if map.isTaskStorage {
                // Each process has a thread of its own, and numbers of threads that have ended are there too.
                let (thread, token) =
                    number < 8 ? (tid, UInt64(tid)) : (cruntime_namespace_mark() | 0x3f_ff00 + UInt32(number), number)
                if number & 1 == 0 {
                    _ = map.taskValue(tid: thread, token: token, initial: value, creates: random.next(3) != 0)
                } else {
                    _ = map.taskDelete(tid: thread, token: token)
                }
                return
            }
            switch (map.family, random.next(4)) {
            case (.queue, 0), (.queue, 1), (.bloomFilter, 0), (.bloomFilter, 1): _ = map.push(value, flags: 0, tid: tid)
            case (.queue, 2): _ = map.pop(value, tid: tid)
            case (.queue, _), (.bloomFilter, _): _ = map.peek(value, tid: tid)
            case (_, 0), (_, 1):
                let flags = map.lockOffset != nil && random.next(4) != 0 ? UpdateFlag.lock : 0
                _ = map.update(&key, value, flags: flags, tid: tid, slot: 0)
            case (_, 2): _ = map.delete(&key, tid: tid)
            default: _ = map.lookup(&key, slot: 0)
            }
        }
    }

    /// Two processes at a time on one map; one is killed at a random point, then another starts, while this one goes on.
    @Test(arguments: maps) func mapsOutliveTheirUsers(_ parameters: MapParameters) throws {
        let fixture = try MapFixture([parameters, Self.inside], cpuCount: 2)
        let map = fixture.map()
        var random = TestRandom(state: 11)
        var slowest: UInt64 = 0
        let tid = cruntime_tid()
        for round in 0..<Self.kills {
            let work = Work(fixture, UInt64(round) + 1)
            let pid = Self.child(work) { user in
                guard let user else { return }
                let work = Unmanaged<Work>.fromOpaque(user).takeUnretainedValue()
                let map = work.fixture.map()
                let tid = cruntime_tid()
                var random = TestRandom(state: work.seed)
                while true { KillTests.operate(map, &random, tid) }
            }
            let status = withExtendedLifetime(work) { fork_kill(pid, UInt32(200 + random.next(3000))) }
            #expect(status & 0x7f == SIGKILL)
            // Every lock that the dead one may have held must be free again, soon.
            for _ in 0..<300 {
                let before = cruntime_monotonic_ns()
                Self.operate(map, &random, tid)
                slowest = max(slowest, cruntime_monotonic_ns() - before)
            }
        }
        // A lock of a dead thread is taken over within a millisecond; the rest is room for a busy machine.
        #expect(slowest < 1_000_000_000, "a waiter hung for \(slowest / 1_000_000) ms")
        print("\(parameters.type.name), \(Self.kills) deaths: the slowest operation took \(slowest / 1000) us")
        try checkRoom(map, parameters)
    }

    /// Nothing was lost for good: the map takes `max_entries` again, and no more.
    private func checkRoom(_ map: MapView, _ parameters: MapParameters) throws {
        var key: UInt64 = 0
        var value = cruntime_text()
        switch map.family {
        case .hash where map.isTaskStorage:
            // As many threads as there is room for, though the numbers of the dead are still in it.
            map.sweepAll(1)
            #expect(map.keys().count <= 1)
            for number in 0..<UInt64(taskLimit) {
                let thread = cruntime_namespace_mark() | 0x3e_0000 + UInt32(number)
                guard map.taskValue(tid: thread, token: number + 1, initial: nil, creates: true) != nil else {
                    Issue.record("no room for thread \(number)")
                    break
                }
            }
        case .hash where map.holdsMaps:
            while map.nextKey(nil, into: &key) == 0 { #expect(map.remove(key) == 0) }
            var fit = 0
            for number in 0..<UInt64(parameters.maxEntries) * 2 where map.set(number | 1 << 50, 2) == 0 { fit += 1 }
            #expect(fit <= Int(parameters.maxEntries) && fit >= Int(parameters.maxEntries) - Self.kills / 10 - 2)
        case .hash, .lpmTrie:
            while map.nextKey(nil, into: &key) == 0 { #expect(map.remove(key) == 0) }
            let isTrie = parameters.type == .lpmTrie
            var fit = 0
            for number in 0..<UInt64(parameters.maxEntries) * 2 {
                if map.set(isTrie ? number << 32 | 32 : number | 1 << 50, number) == 0 { fit += 1 }
            }
            let count = map.keys().count
            // A death between two stripes, one of which gives the other a node, loses it: only maps that are full do that.
            #expect(count <= Int(parameters.maxEntries))
            #expect(count >= Int(parameters.maxEntries) - (parameters.maxEntries > 64 ? 0 : Self.kills / 10 + 2))
            #expect(fit >= count)
        case .queue:
            while map.pop(&value, tid: 1) == 0 {}
            var fit = 0
            while map.push(&value, flags: 0, tid: 1) == 0 { fit += 1 }
            #expect(fit == Int(parameters.maxEntries))
        default: break
        }
    }

    /// A process that is stopped inside costs the others one long wait, not one for each operation.
    @Test func stoppedHolders() throws {
        let fixture = try MapFixture([hashMap(entries: 64)])
        let map = fixture.map()
        let holder = Process()
        holder.executableURL = URL(filePath: "/bin/sleep")
        holder.arguments = ["100"]
        try holder.run()
        defer { holder.terminate() }
        var key: UInt64 = 5
        let word = map.stripe(map.bucket(&key) & (map.stripes - 1)).words
        word.pointee = cruntime_namespace_mark() | UInt32(holder.processIdentifier)
        let clock = ContinuousClock()
        var results: [Int64] = []
        // A waiter that hardly gets a CPU does not look often enough to know: then the next one waits as long.
        var first = Duration.zero
        var others = Duration.seconds(100)
        for _ in 0..<20 where others > .milliseconds(400) {
            word.pointee &= ~OwnerLock.forsaken
            first = clock.measure { results.append(map.set(5, 1)) }
            others = clock.measure { for _ in 0..<20 { results.append(map.set(5, 1)) } }
        }
        #expect(results.allSatisfy { $0 == -16 })
        #expect(first > .milliseconds(400))
        #expect(others < .milliseconds(400))
        // It goes on.
        word.pointee = 0
        #expect(map.set(5, 1) == 0 && map.get(5) == 1)
        word.pointee = cruntime_namespace_mark() | UInt32(holder.processIdentifier) | 1 << 31
        kill(holder.processIdentifier, SIGKILL)
        holder.waitUntilExit()
        #expect(map.set(5, 2) == 0 && map.get(5) == 2)
        // Of another PID namespace nobody knows whether it lives: who has it at every look for half of the wait loses it.
        word.pointee = (cruntime_namespace_mark() ^ 1 << 22) | UInt32(getpid())
        var foreign = Duration.zero
        for _ in 0..<20 where results.last != 0 { foreign = clock.measure { results.append(map.set(5, 3)) } }
        #expect(results.last == 0 && map.get(5) == 3 && word.pointee == 0)
        #expect(foreign > .milliseconds(200))
    }

    @Test func ringsOutliveTheirProducers() throws {
        let fixture = try MapFixture([
            MapParameters(name: "r", type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 4096)
        ])
        var consumer = RingConsumer(fixture.map())
        var random = TestRandom(state: 21)
        for round in 0..<100 {
            let work = Work(fixture, UInt64(round) + 1)
            let pid = Self.child(work) { user in
                guard let user else { return }
                let work = Unmanaged<Work>.fromOpaque(user).takeUnretainedValue()
                let map = work.fixture.map()
                let tid = cruntime_tid()
                while true {
                    if let data = map.ringReserve(48, tid: tid) { map.ringCommit(data, size: 48, discards: false) }
                }
            }
            let status = withExtendedLifetime(work) { fork_kill(pid, UInt32(200 + random.next(2000))) }
            #expect(status & 0x7f == SIGKILL)
            while consumer.next() != nil {}
            // The ring is empty and takes records again.
            let map = fixture.map()
            let data = try #require(map.ringReserve(8, tid: cruntime_tid()), "round \(round)")
            data.storeBytes(of: UInt64(round), as: UInt64.self)
            map.ringCommit(data, size: 8, discards: false)
            #expect(consumer.next()?.count == 8)
        }
        #expect(consumer.damaged == 0)
    }
}
