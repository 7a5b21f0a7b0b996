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

    @Test func hashMapsOutliveTheirWriters() throws {
        let kills = 200
        let entries: UInt32 = 4096
        let fixture = try MapFixture([hashMap(entries: entries)])
        let map = fixture.map()
        var random = TestRandom(state: 11)
        var slowest: UInt64 = 0
        for round in 0..<kills {
            let work = Work(fixture, UInt64(round) + 1)
            let pid = Self.child(work) { user in
                guard let user else { return }
                let work = Unmanaged<Work>.fromOpaque(user).takeUnretainedValue()
                let map = work.fixture.map()
                let tid = cruntime_tid()
                var random = TestRandom(state: work.seed)
                // Few buckets, so that most of the time is spent inside of one.
                while true {
                    var key = random.next(64) << 20
                    var value = key
                    if random.next(2) == 0 {
                        _ = map.update(&key, &value, flags: 0, tid: tid, slot: 0)
                    } else {
                        _ = map.delete(&key, tid: tid)
                    }
                }
            }
            let status = withExtendedLifetime(work) { fork_kill(pid, UInt32(200 + random.next(3000))) }
            #expect(status & 0x7f == SIGKILL)
            // Every bucket that the dead one may have held must work again, soon.
            let before = cruntime_monotonic_ns()
            for key in 0..<64 as Range<UInt64> {
                let result = map.set(key << 20, key)
                #expect(result == 0)
                #expect(map.get(key << 20) == key)
                #expect(map.remove(key << 20) == 0)
            }
            slowest = max(slowest, cruntime_monotonic_ns() - before)
        }
        // A lock of a dead thread is taken over within a millisecond; the rest is room for a busy machine.
        #expect(slowest < 1_000_000_000, "a waiter hung for \(slowest / 1_000_000) ms")
        print("slowest of \(kills) recoveries over 64 buckets: \(slowest / 1000) us")
        #expect(map.keys() == [])
        // Each death costs at most a node and one of max_entries.
        var fit = 0
        for key in 0..<UInt64(entries) where map.set(key | 1 << 50, 1) == 0 { fit += 1 }
        #expect(fit >= Int(entries) - kills)
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
