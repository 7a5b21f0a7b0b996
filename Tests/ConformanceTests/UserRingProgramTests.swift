import CLinux
import CRuntime
import EngineSupport
import Foundation
import ISA
import Testing
import UBPFVM

@testable import Runtime

/// `bpf_user_ringbuf_drain` on every engine, and beside the kernel's.
@Suite(EngineTrait(SessionEngine.allCases)) struct UserRingProgramTests {
    private static let ringSize = 4096
    private static let maps = [
        MapParameters(name: "words", type: .array, keySize: 4, valueSize: 40, maxEntries: 1),
        MapParameters(name: "ring", type: .userRingBuffer, keySize: 0, valueSize: 0, maxEntries: UInt32(ringSize)),
    ]

    /// Drains with the flags in word 0 of the array's value; word 1 is the result, 2 a hash of what was seen, 3 how much, and 4 what
    /// a drain inside the callback answers.
    private static let drain: [Statement] = [
        .loadMapValue(.r6, 0, 0), .store64(.r10, -16, 0), .store64(.r10, -8, 0), .store64(.r10, -24, 0),
        .load64(.r4, .r6), .loadMap(.r1, 1), .loadFunction(.r2, "sample"), .mov64(.r3, .r10), .add64(.r3, -24),
        .call(.userRingbufDrain), .store64(.r6, 8, .r0), .load64(.r1, .r10, -16), .store64(.r6, 16, .r1),
        .load64(.r1, .r10, -8), .store64(.r6, 24, .r1), .load64(.r1, .r10, -24), .store64(.r6, 32, .r1),
        .mov64(.r0, 0), .exit,
    ]

    /// Hashes the first eight bytes, or the error where there are fewer; 7 in the lowest bits stops.
    private static let sample: [Statement] = [
        .function("sample"), .mov64(.r6, .r2), .mov64(.r3, .r1), .store64(.r10, -8, 0), .mov64(.r1, .r10),
        .add64(.r1, -8), .mov64(.r2, 8), .mov64(.r4, 0), .mov64(.r5, 0), .call(.dynptrRead), .load64(.r1, .r6, 8),
        .mul64(.r1, 31), .add64(.r1, .r0), .load64(.r2, .r10, -8), .add64(.r1, .r2), .store64(.r6, 8, .r1),
        .load64(.r1, .r6, 16), .add64(.r1, 1), .store64(.r6, 16, .r1), .and64(.r2, 7), .mov64(.r0, 0),
        .jumpNotEqual(.r2, 7, to: "on"), .mov64(.r0, 1), .label("on"), .exit,
    ]

    private static func words(_ bytes: [UInt8]) -> [UInt64] {
        (0..<bytes.count / 8).map { word in
            (0..<8).reduce(0) { $0 | UInt64(bytes[8 * word + $1]) << UInt64(8 * $1) }
        }
    }

    private func value(_ fixture: SessionFixture) throws -> UnsafeMutablePointer<UInt64> {
        try #require(MapView(fixture.open(), 0).lookup([UInt32(0)], slot: 0)).assumingMemoryBound(to: UInt64.self)
    }

    private func make(_ statements: [Statement] = drain + sample) throws -> (SessionFixture, UserRingProducer) {
        let fixture = try SessionFixture(maps: Self.maps)
        fixture.budget = 1 << 24
        try fixture.add(statements)
        return (fixture, try #require(UserRingProducer(MapView(fixture.open(), 1))))
    }

    /// Word 1 to 4 after a drain.
    private func drain(_ fixture: SessionFixture, flags: UInt64 = 0) throws -> [Int64] {
        let value = try value(fixture)
        for index in 0..<5 { value[index] = 0 }
        value[0] = flags
        _ = try fixture.run()
        return (1..<5).map { Int64(bitPattern: value[$0]) }
    }

    /// A record of eight bytes.
    private func bytes(_ number: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }

    @Test func drains() throws {
        var (fixture, producer) = try make()
        #expect(try drain(fixture) == [0, 0, 0, 0])
        for number in [1, 2, 3] { #expect(producer.push(bytes(UInt64(number))) == 0) }
        #expect(try drain(fixture) == [3, (1 * 31 + 2) * 31 + 3, 3, 0])
        // A callback that returns 1 ends it; its record is consumed.
        for number in [8, 15, 16] { #expect(producer.push(bytes(UInt64(number))) == 0) }
        #expect(try drain(fixture) == [2, 8 * 31 + 15, 2, 0])
        #expect(try drain(fixture) == [1, 16, 1, 0])
        // Too short for the program.
        #expect(producer.push([1]) == 0)
        #expect(try drain(fixture) == [1, -7, 1, 0])
        #expect(try drain(fixture, flags: 4)[0] == -22)
    }

    @Test func reservations() throws {
        var (fixture, producer) = try make()
        let first = try #require(producer.reserve(8).record)
        let second = try #require(producer.reserve(8).record)
        first.bytes.copyBytes(from: bytes(1))
        second.bytes.copyBytes(from: bytes(2))
        producer.submit(second)
        #expect(try drain(fixture)[0] == 0)
        producer.submit(first, discards: true)
        #expect(try drain(fixture) == [1, 2, 1, 0])
        #expect(producer.push([UInt8](repeating: 0, count: 4089)) == -7)
        #expect(producer.push([UInt8](repeating: 0, count: 4088)) == 0)
        #expect(producer.push([]) == -28)
        #expect(try drain(fixture)[0] == 1)
        #expect(producer.push([]) == 0)
    }

    /// A producer that has died, or that another one outlives.
    @Test func deadProducers() throws {
        var (fixture, producer) = try make()
        let record = try #require(producer.reserve(8).record)
        #expect(producer.push(bytes(5)) == 0)
        #expect(try drain(fixture)[0] == 0)
        // No thread has such a number.
        record.bytes.baseAddress?.storeBytes(
            of: 0x3f_fff0 | cruntime_namespace_mark(),
            toByteOffset: -4,
            as: UInt32.self
        )
        #expect(try drain(fixture) == [1, 5, 1, 0])
        let ring = MapView(fixture.open(), 1)
        ring.word(MetaOffset.producerLock).pointee = 0x3f_fff0 | cruntime_namespace_mark()
        #expect(producer.push(bytes(6)) == 0)
        #expect(try drain(fixture) == [1, 6, 1, 0])
    }

    /// Another consumer: one that lives, one that has died, and this thread, whose last run was left in its middle.
    @Test func consumers() throws {
        var (fixture, producer) = try make()
        let lock = MapView(fixture.open(), 1).word(MetaOffset.ringLock)
        for (owner, expected) in [(UInt32(getppid()), -16), (0x3f_fff0, 1), (cruntime_tid(), 1)] as [(UInt32, Int64)] {
            #expect(producer.push(bytes(1)) == 0)
            lock.pointee = owner | cruntime_namespace_mark()
            #expect(try drain(fixture)[0] == expected + (expected > 0 && owner == 0x3f_fff0 ? 1 : 0))
            #expect(lock.pointee == (expected < 0 ? owner | cruntime_namespace_mark() : 0))
        }
    }

    /// Of other PID namespaces nobody knows who lives: a consumer and a producer that stand still for two seconds are given up.
    @Test func otherNamespaces() throws {
        var (fixture, producer) = try make()
        let ring = MapView(fixture.open(), 1)
        let foreign = UInt32(3 << 22) ^ cruntime_namespace_mark() | 77
        let lock = ring.word(MetaOffset.ringLock)
        func age(_ note: UInt64) { ring.quad(note + 8).pointee -= 2_100_000_000 }
        #expect(producer.push(bytes(1)) == 0)
        lock.pointee = foreign
        for _ in 0..<2 { #expect(try drain(fixture)[0] == -16) }
        // Another one, and the same one again after it has given the lock back, begin anew.
        age(MetaOffset.drainSeen)
        lock.pointee = foreign + 1
        #expect(try drain(fixture)[0] == -16)
        lock.pointee = 0
        #expect(try drain(fixture) == [1, 1, 1, 0])
        #expect(ring.quad(MetaOffset.drainSeen).pointee == 0)
        lock.pointee = foreign + 1
        #expect(try drain(fixture)[0] == -16)
        age(MetaOffset.drainSeen)
        #expect(producer.push(bytes(2)) == 0)
        #expect(try drain(fixture) == [1, 2, 1, 0])
        #expect(lock.pointee == 0)
        let record = try #require(producer.reserve(8).record)
        record.bytes.baseAddress?.storeBytes(of: foreign, toByteOffset: -4, as: UInt32.self)
        #expect(producer.push(bytes(3)) == 0)
        for _ in 0..<2 { #expect(try drain(fixture)[0] == 0) }
        age(MetaOffset.recordSeen)
        #expect(try drain(fixture) == [1, 3, 1, 0])
    }

    /// A drain inside a drain, and a run that ends in a trap in the middle of one.
    @Test func inside() throws {
        let nested: [Statement] = [
            .function("sample"), .mov64(.r6, .r2), .loadMap(.r1, 1), .loadFunction(.r2, "other"), .mov64(.r3, 0),
            .mov64(.r4, 0), .call(.userRingbufDrain), .store64(.r6, 0, .r0), .mov64(.r0, 0), .exit, .function("other"),
            .mov64(.r0, 0), .exit,
        ]
        var (fixture, producer) = try make(Self.drain + nested)
        #expect(producer.push(bytes(1)) == 0)
        #expect(try drain(fixture) == [1, 0, 0, -16])
        guard SessionEngine.current != .jit else { return }
        let wild: [Statement] = [.function("sample"), .mov64(.r1, 8), .load64(.r0, .r1), .exit]
        (fixture, producer) = try make(Self.drain + wild)
        for number in [1, 2] { #expect(producer.push(bytes(UInt64(number))) == 0) }
        #expect(throws: Trap.self) { _ = try fixture.run() }
        #expect(fixture.lastContext.drain == 0 && fixture.lastContext.effects == 0)
        let ring = MapView(fixture.open(), 1)
        #expect(ring.word(MetaOffset.ringLock).pointee == 0)
        // The record at hand is gone, the other one is not.
        #expect(ring.quad(MetaOffset.taken).pointee == 16 && ring.quad(MetaOffset.producer).pointee == 32)
    }

    /// Anything may stand in the ring and its positions: nothing outside of the ring is read, and every drain ends.
    @Test func garbage() throws {
        var random = Xorshift(state: 77)
        let data: [Statement] = [
            .function("sample"), .mov64(.r2, 0), .mov64(.r3, 8), .call(.dynptrData), .mov64(.r1, .r0), .mov64(.r0, 0),
            .jumpEqual(.r1, 0, to: "out"), .load64(.r2, .r1), .store64(.r1, 0, .r2), .label("out"), .exit,
        ]
        for body in [Self.sample, data] {
            let (fixture, _) = try make(Self.drain + body)
            let ring = MapView(fixture.open(), 1)
            for _ in 0..<2000 {
                let at = UInt64(random.next(1024)) * 4
                let lengths: [UInt32] = [0, 8, 4088, 4096, 1 << 20, 1 << 30, 1 << 31, .max, 0x3fff_ffff]
                ring.values(at).assumingMemoryBound(to: UInt32.self).pointee = lengths[random.next(lengths.count)]
                let positions: [UInt64] = [
                    0, 8, 4096, 8192, 4, 1, .max, .max - 7, 1 << 63, UInt64(random.next(1 << 20)) * 8,
                ]
                switch random.next(4) {
                case 0: ring.quad(MetaOffset.producer).pointee = positions[random.next(positions.count)]
                case 1: ring.quad(MetaOffset.taken).pointee = positions[random.next(positions.count)]
                default: break
                }
                let result = try drain(fixture)[0]
                #expect(result >= 0 && result <= 128 << 10 || [-22, -7].contains(result))
            }
            // A producer makes it whole again.
            var producer = try #require(UserRingProducer(ring))
            ring.quad(MetaOffset.producer).pointee = 12345
            #expect(producer.push([1, 2, 3]) == 0)
            #expect(producer.damaged == 1)
            #expect(try drain(fixture)[0] == 1)
        }
    }

    /// The same random operations on ours and on the kernel's: the same results, and the same records seen.
    @Test(.enabled(if: geteuid() == 0, "the kernel makes maps for root only")) func followsTheKernel() throws {
        let isFull = ProcessInfo.processInfo.environment["UBPF_TORTURE"] == "1"
        var random = Xorshift(state: 4711)
        var drained = 0
        for _ in 0..<(isFull ? 100 : 5) {
            let kernel = try KernelUserRing(Self.drain + Self.sample, size: Self.ringSize, valueSize: 40)
            var (fixture, producer) = try make()
            let ring = MapView(fixture.open(), 1)
            var open: [(UserRingProducer.Reservation, UnsafeMutablePointer<UInt32>, Int)] = []
            func compare(_ flags: UInt64) throws {
                let theirs = Self.words(try kernel.run(bytes(flags) + [UInt8](repeating: 0, count: 32))).dropFirst()
                let ours = try drain(fixture, flags: flags)
                #expect(ours == theirs.map { Int64(bitPattern: $0) })
                if ours[0] > 0 { drained += Int(ours[0]) }
            }
            for _ in 0..<(isFull ? 10_000 : 2000) {
                switch random.next(8) {
                case 0, 1, 2:
                    let sizes = [0, 1, 7, 8, 8, 9, 16, 100, random.next(600), random.next(4200)]
                    let size = sizes[random.next(sizes.count)]
                    let (mine, theirs) = (producer.reserve(size), kernel.reserve(size))
                    #expect(mine.status == theirs.status)
                    guard let record = mine.record, let header = theirs.header else { break }
                    for index in 0..<size {
                        let byte = UInt8(truncatingIfNeeded: random.next(256))
                        record.bytes[index] = byte
                        UnsafeMutableRawPointer(header + 2).storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
                    }
                    open.append((record, header, size))
                    fallthrough
                case 3, 4:
                    guard !open.isEmpty, random.next(8) != 0 else { break }
                    let (record, header, size) = open.remove(at: random.next(3) == 0 ? random.next(open.count) : 0)
                    let discards = random.next(6) == 0
                    producer.submit(record, discards: discards)
                    header[0] = UInt32(size) | (discards ? 1 << 30 : 0)
                default: try compare(random.next(20) == 0 ? UInt64(random.next(6)) : 0)
                }
            }
            // At last what makes no sense; the owners that ours keeps in headers are none.
            kernel.clear()
            ring.values(0).initializeMemory(as: UInt8.self, repeating: 0, count: 2 * Self.ringSize)
            for _ in 0..<50 {
                let positions = [kernel.producerPosition, 4, 4096, kernel.producerPosition &+ 8, UInt64.max - 7]
                let position = positions[random.next(positions.count)]
                kernel.producerPosition = position
                ring.quad(MetaOffset.producer).pointee = position
                let lengths: [UInt32] = [
                    0, 8, 4088, 4089, 1 << 20, 1 << 24, 1 << 30, 1 << 31, 3 << 30 | 8, 0x3fff_ffff,
                ]
                let word = lengths[random.next(lengths.count)]
                let place = kernel.consumerPosition & ~7
                kernel.header(place)[0] = word
                ring.record(place)[0] = word
                try compare(0)
            }
        }
        #expect(drained > 100)
    }
}
