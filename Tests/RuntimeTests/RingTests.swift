import CRuntime
import Foundation
import ISA
import Testing

@testable import Runtime

@Suite struct RingTests {
    private func ring(_ size: UInt32) throws -> MapFixture {
        try MapFixture([MapParameters(name: "r", type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: size)])
    }

    /// Every size, many times around: record headers fall on every place of the ring's end.
    @Test(arguments: [1, 7, 8, 12, 16, 24, 32, 40, 64, 100, 1000])
    func manyTimesAround(size: Int) throws {
        let fixture = try ring(4096)
        let map = fixture.map()
        var consumer = RingConsumer(map)
        for round in 0..<30_000 {
            let data = try #require(map.ringReserve(UInt64(size), tid: cruntime_tid()))
            data.initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: round), count: size)
            map.ringCommit(data, size: UInt64(size), discards: round % 5 == 4)
            let record = consumer.next()
            if round % 5 == 4 {
                #expect(record == nil)
            } else {
                #expect(record == [UInt8](repeating: UInt8(truncatingIfNeeded: round), count: size))
            }
        }
        #expect(consumer.dropped == 0)
        #expect(consumer.damaged == 0)
    }

    @Test func aFullRingCountsWhatItDrops() throws {
        let fixture = try ring(4096)
        let map = fixture.map()
        var written = 0
        for _ in 0..<100 {
            guard let data = map.ringReserve(100, tid: 1) else { continue }
            map.ringCommit(data, size: 100, discards: false)
            written += 1
        }
        var consumer = RingConsumer(map)
        var read = 0
        while consumer.next() != nil { read += 1 }
        #expect(read == written)
        #expect(written == 36)  // 112 bytes each
        #expect(consumer.dropped == UInt64(100 - written))
        #expect(map.ringReserve(5000, tid: 1) == nil)
    }

    @Test func sixteenProducersLoseNothingUncounted() throws {
        let fixture = try ring(1 << 16)
        let done = Counter()
        let written = Counter()
        let producers = 16
        // Ten million records with UBPF_TORTURE=1.
        let perProducer = ProcessInfo.processInfo.environment["UBPF_TORTURE"] == "1" ? 625_000 : 20_000
        let reader = DispatchGroup()
        let state = ReaderState(producers)
        reader.enter()
        let thread = Thread {
            var consumer = RingConsumer(fixture.map())
            while true {
                let finished = done.value == producers
                var idle = true
                while let record = consumer.next() {
                    idle = false
                    state.take(record)
                }
                if finished && idle { break }
            }
            state.dropped = consumer.dropped
            state.damaged = consumer.damaged
            reader.leave()
        }
        thread.start()
        inThreads(producers) { producer in
            let map = fixture.map()
            let tid = cruntime_tid()
            var random = TestRandom(state: UInt64(producer) + 9)
            for sequence in 0..<perProducer {
                let size = 16 + Int(random.next(60))
                guard let data = map.ringReserve(UInt64(size), tid: tid) else { continue }
                data.storeBytes(of: UInt64(producer), as: UInt64.self)
                data.storeBytes(of: UInt64(sequence), toByteOffset: 8, as: UInt64.self)
                map.ringCommit(data, size: UInt64(size), discards: false)
                written.add()
            }
            done.add()
        }
        reader.wait()
        #expect(state.outOfOrder == 0)
        #expect(state.damaged == 0)
        #expect(state.records == written.value)
        #expect(written.value + Int(state.dropped) == producers * perProducer)
        print(
            "\(producers) producers, \(producers * perProducer) records: \(state.records) read, \(state.dropped) counted as lost"
        )
    }

    private final class ReaderState: @unchecked Sendable {
        var last: [Int64]
        var records = 0
        var outOfOrder = 0
        var dropped: UInt64 = 0
        var damaged: UInt64 = 0

        init(_ producers: Int) { last = Array(repeating: -1, count: producers) }

        func take(_ record: [UInt8]) {
            records += 1
            let number = { (at: Int) in (0..<8).reduce(UInt64(0)) { $0 | UInt64(record[at + $1]) << UInt64(8 * $1) } }
            let producer = Int(number(0))
            guard producer < last.count, Int64(number(8)) > last[producer] else {
                outOfOrder += 1
                return
            }
            last[producer] = Int64(number(8))
        }
    }

    /// Nothing in the ring is trusted: a target can write anything there.
    @Test func garbageIsSurvived() throws {
        let fixture = try ring(4096)
        let map = fixture.map()
        var random = TestRandom(state: 5)
        for _ in 0..<2000 {
            if let data = map.ringReserve(64, tid: 1) { map.ringCommit(data, size: 64, discards: false) }
            let header = map.record(0)
            for index in 0..<32 { header[index] = UInt32(truncatingIfNeeded: random.next(1 << 32)) }
            var consumer = RingConsumer(map)
            var read = 0
            while consumer.next() != nil, read < 1000 { read += 1 }
            #expect(read < 1000)
        }
    }
}
