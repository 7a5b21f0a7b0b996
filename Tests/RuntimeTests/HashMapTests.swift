import CRuntime
import Foundation
import ISA
import Testing

@testable import Runtime

@Suite struct HashMapTests {
    /// Random operations against a dictionary; small maps so that they fill, large ones so that chains form.
    @Test(arguments: [4, 100, 5000] as [UInt32])
    func followsAModel(entries: UInt32) throws {
        let fixture = try MapFixture([hashMap(entries: entries)])
        let map = fixture.map()
        var model: [UInt64: UInt64] = [:]
        var random = TestRandom(state: UInt64(entries) + 77)
        for round in 0..<100_000 {
            // Addresses as malloc gives them.
            let key = 0x5555_0000_0000 + random.next(UInt64(entries) * 2) * 16
            let value = UInt64(round)
            switch random.next(6) {
            case 0, 1:
                let expected = model[key] == nil && model.count == Int(entries) ? Errno.tooBig : Errno.ok
                #expect(map.set(key, value) == expected)
                if expected == Errno.ok { model[key] = value }
            case 2:
                let full = model.count == Int(entries)
                let expected = model[key] != nil ? Errno.exists : full ? Errno.tooBig : Errno.ok
                #expect(map.set(key, value, flags: 1) == expected)
                if expected == Errno.ok { model[key] = value }
            case 3:
                let expected = model[key] == nil ? Errno.noEntry : Errno.ok
                #expect(map.set(key, value, flags: 2) == expected)
                if expected == Errno.ok { model[key] = value }
            case 4:
                #expect(map.remove(key) == (model.removeValue(forKey: key) == nil ? Errno.noEntry : Errno.ok))
            default:
                #expect(map.get(key) == model[key])
            }
        }
        #expect(Set(map.keys()) == Set(model.keys))
        for (key, value) in model { #expect(map.get(key) == value) }
        #expect(map.set(1, 1, flags: 9) == Errno.invalid)
    }

    /// malloc and free: what made the nearest rival lose four of five live keys.
    @Test func churnLosesNothing() throws {
        let fixture = try MapFixture([hashMap(entries: 10240)])
        let map = fixture.map()
        var live: [UInt64] = []
        var random = TestRandom(state: 3)
        var lost = 0
        // Ten million with UBPF_TORTURE=1.
        let rounds = ProcessInfo.processInfo.environment["UBPF_TORTURE"] == "1" ? 10_000_000 : 1_000_000
        for round in 0..<rounds {
            if live.count < 5000 || (live.count < 10_000 && random.next(2) == 0) {
                let key = 0x7f00_0000_0000 + (UInt64(round) * 48)
                if map.set(key, UInt64(round)) != 0 { lost += 1 } else { live.append(key) }
            } else {
                let index = Int(random.next(UInt64(live.count)))
                let key = live[index]
                live.swapAt(index, live.count - 1)
                live.removeLast()
                if map.remove(key) != 0 { lost += 1 }
            }
        }
        print("\(rounds) operations of churn: \(lost) keys lost")
        #expect(lost == 0)
        #expect(live.allSatisfy { map.get($0) != nil })
        #expect(map.keys().count == live.count)
        for key in live { #expect(map.remove(key) == 0) }
        #expect(map.keys() == [])
    }

    @Test func valuesAreAligned() throws {
        let fixture = try MapFixture([hashMap(entries: 16, valueSize: 12)])
        let map = fixture.map()
        for key in 0..<16 as Range<UInt64> {
            var key = key
            var value = [UInt8](repeating: 7, count: 12)
            #expect(map.update(&key, &value, flags: 0, tid: 1, slot: 0) == 0)
            let address = try #require(map.lookup(&key, slot: 0))
            #expect(UInt(bitPattern: address) % 8 == 0)
        }
    }

    @Test func iterationByKeysEnds() throws {
        let fixture = try MapFixture([hashMap(entries: 1000)])
        let map = fixture.map()
        for key in 0..<1000 as Range<UInt64> { map.set(key, key) }
        for key in stride(from: 0, to: 1000, by: 2) { map.remove(UInt64(key)) }
        var seen: Set<UInt64> = []
        var key: UInt64 = 0
        var next: UInt64 = 0
        var status = map.nextKey(nil, into: &next)
        while status == 0, seen.count <= 1000 {
            seen.insert(next)
            key = next
            status = map.nextKey(&key, into: &next)
        }
        #expect(status == Errno.noEntry)
        #expect(seen == Set((0..<1000).filter { $0 % 2 == 1 }.map(UInt64.init)))
    }

    /// Each thread owns its keys: every operation of it must succeed, whatever the others do.
    @Test func sixteenThreads() throws {
        let fixture = try MapFixture([hashMap(entries: 16 * 64)])
        let failures = Counter()
        inThreads(16) { thread in
            let map = fixture.map()
            let tid = cruntime_tid()
            var random = TestRandom(state: UInt64(thread) + 1)
            var mine: [UInt64: UInt64] = [:]
            for round in 0..<50_000 as Range<UInt64> {
                let key = UInt64(thread) << 32 | random.next(64)
                switch random.next(3) {
                case 0:
                    if map.set(key, round, tid: tid) != 0 { failures.add() }
                    mine[key] = round
                case 1:
                    let expected = mine.removeValue(forKey: key) == nil ? Errno.noEntry : Errno.ok
                    if map.remove(key, tid: tid) != expected { failures.add() }
                default:
                    if map.get(key) != mine[key] { failures.add() }
                }
            }
            for (key, value) in mine where map.get(key) != value { failures.add() }
        }
        #expect(failures.value == 0)
    }

    @Test func perCPUValuesAreApart() throws {
        let fixture = try MapFixture([hashMap(entries: 8, type: .perCPUHash)], cpuCount: 4)
        let map = fixture.map()
        #expect(map.set(5, 100, slot: 2) == 0)
        #expect((0..<4).map { map.get(5, slot: $0) } == [0, 0, 100, 0])
        #expect(map.set(5, 7, slot: 0) == 0)
        #expect((0..<4).map { map.get(5, slot: $0) } == [7, 0, 100, 0])
        #expect(map.remove(5) == 0)
        #expect(map.set(5, 1, slot: 1) == 0)
        // Deleted values do not come back.
        #expect((0..<4).map { map.get(5, slot: $0) } == [0, 1, 0, 0])
        for key in 10..<17 as Range<UInt64> { #expect(map.set(key, 1) == 0) }
        #expect(map.set(99, 1) == Errno.tooBig)
    }
}

/// A counter for threads.
final class Counter: @unchecked Sendable {
    private let lock = NSLock()
    private var count = 0

    func add(_ more: Int = 1) { lock.withLock { count += more } }

    var value: Int { lock.withLock { count } }
}

/// Runs `body` on `count` threads and waits for all.
func inThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    let group = DispatchGroup()
    for index in 0..<count {
        group.enter()
        let thread = Thread {
            body(index)
            group.leave()
        }
        thread.stackSize = 1 << 20
        thread.start()
    }
    group.wait()
}
