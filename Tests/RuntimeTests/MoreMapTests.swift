import CRuntime
import ISA
import Testing

@testable import Runtime

@Suite struct LRUTests {
    /// Never more than `max_entries`, never a refusal, and what was just put in is there.
    @Test(arguments: [1, 3, 64, 1000] as [UInt32], [MapType.lruHash, .lruPerCPUHash])
    func staysFull(_ entries: UInt32, _ type: MapType) throws {
        let fixture = try MapFixture([hashMap(entries: entries, type: type)])
        let map = fixture.map()
        for key in 0..<UInt64(entries) * 5 {
            #expect(map.set(key, key + 1) == 0)
            #expect(map.get(key) == key + 1)
            // Nothing goes before the map is full.
            if key < UInt64(entries), entries <= 64 { #expect(map.keys().count == Int(key) + 1) }
        }
        #expect(map.keys().count == Int(entries))
    }

    /// What is used stays; what is not goes first.
    @Test func keepsWhatIsUsed() throws {
        let fixture = try MapFixture([hashMap(entries: 256, type: .lruHash)])
        let map = fixture.map()
        for key in 0..<256 as Range<UInt64> { #expect(map.set(key, key) == 0) }
        for key in 0..<100 as Range<UInt64> { #expect(map.get(key) == key) }
        for key in 1000..<1156 as Range<UInt64> { #expect(map.set(key, key) == 0) }
        let keys = Set(map.keys())
        #expect((0..<100).allSatisfy { keys.contains($0) })
        #expect((1000..<1156).allSatisfy { keys.contains($0) })
    }

    @Test func deletedRoomIsUsedFirst() throws {
        let fixture = try MapFixture([hashMap(entries: 128, type: .lruHash)])
        let map = fixture.map()
        for key in 0..<128 as Range<UInt64> { map.set(key, key) }
        #expect(map.set(500, 1) == 0)
        let before = map.keys()
        #expect(map.remove(before[7]) == 0)
        #expect(map.set(501, 1) == 0)
        #expect(Set(map.keys()) == Set(before).subtracting([before[7]]).union([501]))
    }

    @Test func flagsAreKept() throws {
        let fixture = try MapFixture([hashMap(entries: 2, type: .lruHash)])
        let map = fixture.map()
        #expect(map.set(1, 1, flags: 2) == Errno.noEntry)
        #expect(map.set(1, 1, flags: 1) == 0)
        #expect(map.set(1, 2, flags: 1) == Errno.exists)
        #expect(map.set(1, 2, flags: 2) == 0)
        #expect(map.get(1) == 2)
        #expect(map.remove(9) == Errno.noEntry)
    }

    /// Many threads on a map that is always full: each finds what it put in, until it is given up.
    @Test func sixteenThreads() throws {
        let fixture = try MapFixture([hashMap(entries: 500, type: .lruHash)])
        let failures = Counter()
        inThreads(16) { thread in
            let map = fixture.map()
            let tid = cruntime_tid()
            var random = TestRandom(state: UInt64(thread) + 1)
            for round in 0..<20_000 as Range<UInt64> {
                let key = random.next(2000)
                switch random.next(4) {
                case 0, 1: if map.set(key, key << 32 | round, tid: tid) != 0 { failures.add() }
                case 2: _ = map.remove(key, tid: tid)
                default: if let value = map.get(key), value >> 32 != key, value >> 32 > 2000 { failures.add() }
                }
            }
        }
        #expect(failures.value == 0)
        #expect(map(fixture).keys().count <= 500)
        // All room is still there.
        for key in 10_000..<10_500 as Range<UInt64> { #expect(map(fixture).set(key, 1) == 0) }
        #expect(map(fixture).keys().count == 500)
    }

    private func map(_ fixture: MapFixture) -> MapView { fixture.map() }
}

@Suite struct PrefixTests {
    /// `length, bytes` of a prefix.
    private func key(_ length: UInt32, _ bytes: [UInt8]) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + bytes
    }

    private func trie(_ bytes: UInt32, entries: UInt32) throws -> MapFixture {
        try MapFixture([
            MapParameters(name: "t", type: .lpmTrie, keySize: 4 + bytes, valueSize: 8, maxEntries: entries, flags: 1)
        ])
    }

    private func get(_ map: MapView, _ key: [UInt8]) -> UInt64? { map.lookup(key, slot: 0)?.load(as: UInt64.self) }

    private func set(_ map: MapView, _ key: [UInt8], _ value: UInt64, flags: UInt64 = 0) -> Int64 {
        map.update(key, [value], flags: flags, tid: 1, slot: 0)
    }

    @Test func longestPrefixWins() throws {
        let fixture = try trie(4, entries: 16)
        let map = fixture.map()
        #expect(set(map, key(0, [0, 0, 0, 0]), 1) == 0)
        #expect(set(map, key(8, [10, 0, 0, 0]), 2) == 0)
        #expect(set(map, key(9, [10, 128, 0, 0]), 3) == 0)
        #expect(set(map, key(32, [10, 129, 2, 3]), 4) == 0)
        #expect(get(map, key(32, [10, 1, 2, 3])) == 2)
        #expect(get(map, key(32, [10, 200, 2, 3])) == 3)
        #expect(get(map, key(32, [10, 129, 2, 3])) == 4)
        #expect(get(map, key(31, [10, 129, 2, 3])) == 3)
        #expect(get(map, key(32, [11, 0, 0, 0])) == 1)
        #expect(get(map, key(33, [11, 0, 0, 0])) == nil)
        #expect(map.delete(key(0, [9, 9, 9, 9]), tid: 1) == 0)
        #expect(get(map, key(32, [11, 0, 0, 0])) == nil)
        #expect(map.delete(key(0, [0, 0, 0, 0]), tid: 1) == Errno.noEntry)
        #expect(set(map, key(33, [0, 0, 0, 0]), 1) == Errno.invalid)
        #expect(set(map, key(8, [10, 7, 7, 7]), 1, flags: 1) == Errno.exists)
    }

    /// Random prefixes against a search through all of them.
    @Test(arguments: [1, 4, 16, 256] as [UInt32])
    func followsAModel(_ bytes: UInt32) throws {
        let fixture = try trie(bytes, entries: 64)
        let map = fixture.map()
        var model: [[UInt8]: UInt64] = [:]
        var random = TestRandom(state: UInt64(bytes) + 5)
        func masked(_ length: UInt32, _ data: [UInt8]) -> [UInt8] {
            key(
                length,
                data.enumerated().map { index, byte in
                    let bits = max(0, min(8, Int(length) - index * 8))
                    return byte & (bits == 0 ? 0 : 0xff << UInt8(8 - bits))
                }
            )
        }
        for round in 0..<(bytes > 16 ? 500 : 3000) as Range<UInt64> {
            let length = UInt32(random.next(UInt64(bytes * 8) + 1))
            // Few different bytes, so that prefixes meet.
            let data = (0..<Int(bytes)).map { _ in UInt8(random.next(2) == 0 ? 0xa5 : 0xa4) }
            let exact = masked(length, data)
            switch random.next(4) {
            case 0:
                let isFull = model[exact] == nil && model.count == 64
                #expect(set(map, key(length, data), round) == (isFull ? -28 : 0))
                if !isFull { model[exact] = round }
            case 1:
                #expect(map.delete(key(length, data), tid: 1) == (model.removeValue(forKey: exact) == nil ? -2 : 0))
            default:
                var expected: UInt64?
                let lengths = Set(model.keys.map { UInt32($0[0]) | UInt32($0[1]) << 8 }).filter { $0 <= length }
                for shorter in lengths.sorted(by: >) where expected == nil { expected = model[masked(shorter, data)] }
                #expect(get(map, key(length, data)) == expected)
            }
        }
    }
}

@Suite struct QueueTests {
    private func take(_ map: MapView, _ removes: Bool) -> (Int64, UInt64) {
        var value: UInt64 = 99
        let status = removes ? map.pop(&value, tid: 1) : map.peek(&value, tid: 1)
        return (status, value)
    }

    @Test(arguments: [MapType.queue, .stack])
    func followsAModel(_ type: MapType) throws {
        let fixture = try MapFixture([MapParameters(name: "q", type: type, keySize: 0, valueSize: 8, maxEntries: 7)])
        let map = fixture.map()
        var model: [UInt64] = []
        var random = TestRandom(state: 9)
        for round in 0..<10_000 as Range<UInt64> {
            let flags = random.next(4)
            let next = type == .queue ? model.first : model.last
            switch random.next(4) {
            case 0, 1:
                var value = round
                let status = map.push(&value, flags: flags, tid: 1)
                if flags == 1 || flags == 3 {
                    #expect(status == Errno.invalid)
                } else if model.count == 7, flags == 0 {
                    #expect(status == Errno.tooBig)
                } else {
                    #expect(status == 0)
                    if model.count == 7 { model.removeFirst() }
                    model.append(round)
                }
            case 2:
                let (status, value) = take(map, true)
                #expect(status == (next == nil ? Errno.noEntry : 0))
                #expect(value == next ?? 0)
                if next != nil { _ = type == .queue ? model.removeFirst() : model.removeLast() }
            default:
                let (status, value) = take(map, false)
                #expect(status == (next == nil ? Errno.noEntry : 0))
                #expect(value == next ?? 0)
            }
        }
        var key: UInt64 = 0
        #expect(map.delete(&key, tid: 1) == Errno.invalid)
        #expect(map.nextKey(nil, into: &key) == Errno.invalid)
        #expect(map.lookup(&key, slot: 0) == nil)
    }

    /// What goes in comes out once, in each producer's order.
    @Test func threadsShareAQueue() throws {
        let fixture = try MapFixture([MapParameters(name: "q", type: .queue, keySize: 0, valueSize: 16, maxEntries: 64)]
        )
        let failures = Counter()
        let received = Counter()
        inThreads(8) { thread in
            let map = fixture.map()
            let tid = cruntime_tid()
            var last = [UInt64](repeating: 0, count: 8)
            for round in 1...2000 as ClosedRange<UInt64> {
                var value = (UInt64(thread), round)
                if thread < 4 {
                    while map.push(&value, flags: 0, tid: tid) != 0 { cruntime_yield() }
                } else {
                    while map.pop(&value, tid: tid) != 0 { cruntime_yield() }
                    if value.0 > 3 || value.1 <= last[Int(value.0 & 7)] { failures.add() }
                    last[Int(value.0 & 7)] = value.1
                    received.add()
                }
            }
        }
        #expect(failures.value == 0)
        #expect(received.value == 8000)
    }
}

@Suite struct BloomFilterTests {
    @Test(arguments: [0, 1, 7, 15] as [UInt64])
    func neverForgets(_ hashes: UInt64) throws {
        let fixture = try MapFixture([
            MapParameters(name: "b", type: .bloomFilter, keySize: 0, valueSize: 8, maxEntries: 1000, extra: hashes)
        ])
        let map = fixture.map()
        for number in 0..<1000 as Range<UInt64> {
            var value = number &* 0x9e37_79b9
            #expect(map.push(&value, flags: 0, tid: 1) == 0)
        }
        var wrong = 0
        for number in 0..<11_000 as Range<UInt64> {
            var value = number &* 0x9e37_79b9
            let status = map.peek(&value, tid: 1)
            if number < 1000 { #expect(status == 0) } else if status == 0 { wrong += 1 }
        }
        // About half of the bits are set: one hash errs half of the time or less, five 3 %.
        #expect(wrong < (hashes == 1 ? 6000 : 1000))
        var value: UInt64 = 1
        #expect(map.push(&value, flags: 1, tid: 1) == Errno.invalid)
        #expect(map.pop(&value, tid: 1) == -95)
    }
}
