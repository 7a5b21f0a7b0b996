import Foundation
import ISA
import Runtime
import Testing

/// The same random operations on our map and on the kernel's map of that type: same results, same errno.
@Suite struct MapParityTests {
    /// A million with UBPF_TORTURE=1; of maps of maps, each change of which has the kernel wait for all CPUs, a tenth.
    private static func operations(_ shape: MapShape) -> Int {
        guard ProcessInfo.processInfo.environment["UBPF_TORTURE"] == "1" else { return 10_000 }
        return shape.type.holdsMaps ? 100_000 : 1_000_000
    }

    /// Those of the types that UBPF_MAP_TYPES names, or all.
    private static let shapes: [MapShape] = {
        guard let names = ProcessInfo.processInfo.environment["UBPF_MAP_TYPES"]?.split(separator: ",") else {
            return all
        }
        return all.filter { shape in names.contains { $0 == shape.type.name } }
    }()

    private static let all: [MapShape] = [
        MapShape(type: .hash, entries: 50), MapShape(type: .hash, keySize: 4, valueSize: 12, entries: 1000),
        MapShape(type: .hash, keySize: 20, valueSize: 3, entries: 1, flags: 1),
        MapShape(type: .hash, keySize: 4, valueSize: 20, entries: 12, lock: 4),
        MapShape(type: .hash, valueSize: 8, entries: 40, flags: 1, lock: 0),
        MapShape(type: .array, keySize: 4, valueSize: 13, entries: 12, lock: 8),
        MapShape(type: .perCPUHash, valueSize: 12, entries: 40),
        MapShape(type: .array, keySize: 4, valueSize: 10, entries: 20),
        MapShape(type: .perCPUArray, keySize: 4, valueSize: 12, entries: 20),
        MapShape(type: .lpmTrie, entries: 30, flags: 1), MapShape(type: .lpmTrie, keySize: 20, entries: 100, flags: 1),
        // Fewer keys than entries: what an LRU map gives up, and when, is not the same (Documentation/Parity.md).
        MapShape(type: .lruHash, entries: 4000), MapShape(type: .lruPerCPUHash, entries: 4000),
        MapShape(type: .arrayOfMaps, keySize: 4, valueSize: 4, entries: 20),
        MapShape(type: .hashOfMaps, valueSize: 4, entries: 50),
        MapShape(type: .hashOfMaps, keySize: 12, valueSize: 4, entries: 7, flags: 1),
        MapShape(type: .queue, keySize: 0, valueSize: 12, entries: 7), MapShape(type: .queue, keySize: 0, entries: 100),
        MapShape(type: .stack, keySize: 0, valueSize: 12, entries: 7), MapShape(type: .stack, keySize: 0, entries: 100),
    ]

    @Test(.enabled(if: geteuid() == 0, "the kernel makes maps for root only"), arguments: shapes)
    func followsTheKernel(_ shape: MapShape) throws {
        let theirs = try #require(KernelSideMap(shape), "the kernel made no \(shape)")
        let ours = try OurMap(shape)
        var random = Xorshift(state: 0x1234_5678_9abc_def1 &+ UInt64(shape.entries))
        let valueBytes = shape.type.isPerCPU ? ((shape.valueSize + 7) & ~7) * possibleCPUs : shape.valueSize
        var differences: [String] = []
        func same(_ round: Int, _ what: String, _ mine: Int64, _ other: Int64, _ values: ([UInt8], [UInt8])? = nil) {
            if mine != other {
                differences.append("\(round): \(what): \(mine), kernel \(other)")
            } else if let values, mine == 0 || shape.keySize == 0, values.0 != values.1 {
                differences.append("\(round): \(what): \(values.0), kernel \(values.1)")
            }
        }
        for round in 0..<Self.operations(shape) where differences.count < 3 {
            let key = key(shape, &random)
            var value = (0..<valueBytes).map { UInt8(truncatingIfNeeded: round >> (8 * ($0 & 3))) }
            if shape.type.holdsMaps { value = [UInt8(random.next(5)), 0, 0, 0] }
            if value.first == 4, shape.type.holdsMaps { value = [0xff, 0xff, 0xff, 0x7f] }
            if shape.type.isPerCPU {
                // What lies between one value and the next is the kernel's own business.
                for index in value.indices where index % ((shape.valueSize + 7) & ~7) >= shape.valueSize {
                    value[index] = 0
                }
            }
            switch random.next(6) {
            case 0, 1:
                let flags = UInt64(random.next(9))
                same(round, "update \(key) \(flags)", ours.update(key, value, flags), theirs.update(key, value, flags))
            case 2 where shape.keySize == 0:
                let (mine, other) = (ours.take(value), theirs.take(value))
                same(round, "pop", mine.status, other.status, mine.status == 0 ? (mine.value, other.value) : nil)
            case 2:
                same(round, "delete \(key)", ours.delete(key), theirs.delete(key))
            case 3 where shape.keySize > 0 && random.next(shape.entries) == 0:
                try sameKeys(ours, theirs, shape)
            case 3 where shape.keySize > 0 && random.next(shape.entries * 2) == 0:
                let deletes = random.next(4) == 0
                let flags = lockFlag(shape, &random)
                let (mine, other) = (contents(ours, shape, deletes, flags), contents(theirs, shape, deletes, flags))
                same(round, "batches", mine.status, other.status)
                if mine.elements != other.elements { differences.append("\(round): elements differ by batch") }
            case 3 where shape.keySize > 0 && random.next(shape.entries * 2) == 0:
                try changeInBatches(ours, theirs, shape, &random) { same(round, $0, $1.status, $2.status) }
            case 4 where shape.keySize > 0 && random.next(4) == 0:
                let flags = lockFlag(shape, &random)
                let (mine, other) = (ours.take(key: key, flags: flags), theirs.take(key: key, flags: flags))
                same(round, "take \(key)", mine.status, other.status, (mine.value, other.value))
            case 3 where shape.keySize > 0 && random.next(shape.entries * 10) == 0:
                // Everything goes while it is walked; each key once.
                #expect(drain(ours, shape) == drain(theirs, shape))
            default:
                let flags = lockFlag(shape, &random)
                let (mine, other) = (ours.lookup(key, value, flags: flags), theirs.lookup(key, value, flags: flags))
                same(
                    round,
                    "lookup \(key)",
                    mine.status,
                    other.status,
                    mine.status == 0 ? (mine.value, other.value) : nil
                )
            }
        }
        #expect(differences == [])
        if shape.keySize > 0 { try sameKeys(ours, theirs, shape) }
    }

    /// An LRU map that is full on both sides: no refusals, never too many, the newest is there.
    @Test(
        .enabled(if: geteuid() == 0, "the kernel makes maps for root only"),
        arguments: [MapType.lruHash, .lruPerCPUHash]
    )
    func fullLeastRecentlyUsed(_ type: MapType) throws {
        let shape = MapShape(type: type, entries: 600)
        let sides: [any MapSide] = [try OurMap(shape), try #require(KernelSideMap(shape))]
        let value = [UInt8](repeating: 7, count: 8 * possibleCPUs)
        for side in sides {
            for number in 0..<6000 {
                let key = (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
                #expect(side.update(key, value, 0) == 0)
                #expect(side.lookup(key, value).status == 0)
            }
            #expect(keys(side, shape).count <= 600)
        }
        #expect(keys(sides[0], shape).count == 600)
    }

    /// A filter that has seen the same on both sides knows it on both; what else it believes to know is its own.
    @Test(.enabled(if: geteuid() == 0, "the kernel makes maps for root only"))
    func bloomFilters() throws {
        let shape = MapShape(type: .bloomFilter, keySize: 0, entries: 1000)
        let sides: [any MapSide] = [try OurMap(shape), try #require(KernelSideMap(shape))]
        var believed: [Int] = []
        for side in sides {
            var count = 0
            for number in 0..<11_000 as Range<UInt64> {
                let value = (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * UInt64($0))) }
                if number < 1000 { #expect(side.update([], value, 0) == 0) }
                let status = side.lookup([], value).status
                if number < 1000 {
                    #expect(status == 0)
                } else if status == 0 {
                    count += 1
                } else {
                    #expect(status == -2)
                }
            }
            believed.append(count)
        }
        // Both have at most half of their bits set: 3 % of 10,000.
        #expect(believed.allSatisfy { $0 < 600 }, "\(believed)")
    }

    // MARK: Support

    /// `BPF_F_LOCK` or 0; where there is no lock seldom, as that is always refused.
    private func lockFlag(_ shape: MapShape, _ random: inout Xorshift) -> UInt64 {
        random.next(shape.lock == nil ? 20 : 2) == 0 ? 4 : 0
    }

    private func key(_ shape: MapShape, _ random: inout Xorshift) -> [UInt8] {
        let number = random.next(
            shape.type == .lruHash || shape.type == .lruPerCPUHash ? 1000 : shape.entries * 3 / 2 + 1
        )
        if shape.type == .lpmTrie {
            let bits = (shape.keySize - 4) * 8
            let length = random.next(bits + 2)
            let data = (0..<shape.keySize - 4).map { _ in UInt8(random.next(4) == 0 ? 0x5a : 0x5b) }
            return (0..<4).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + data
        }
        return (0..<shape.keySize).map { UInt8(truncatingIfNeeded: $0 < 8 ? number >> (8 * $0) : number &* 31) }
    }

    /// All keys by walking, at most a few more than there can be; of tries what counts of them.
    private func keys(_ side: any MapSide, _ shape: MapShape) -> [[UInt8]] {
        var keys: [[UInt8]] = []
        var last: [UInt8]?
        while keys.count < shape.entries + 5, case let next = side.next(last), next.status == 0 {
            keys.append(next.key)
            last = next.key
        }
        return keys.map { masked($0, shape) }.sorted { $0.lexicographicallyPrecedes($1) }
    }

    /// The same, each deleted as soon as it is named.
    private func drain(_ side: any MapSide, _ shape: MapShape) -> [[UInt8]] {
        var keys: [[UInt8]] = []
        while keys.count < shape.entries + 5, case let next = side.next(nil), next.status == 0 {
            keys.append(next.key)
            if side.delete(next.key) != 0 { break }
        }
        return keys.map { masked($0, shape) }.sorted { $0.lexicographicallyPrecedes($1) }
    }

    /// All elements by batches, keys with values, in order of the keys; `deletes`: and none is left where the type can do it.
    private func contents(_ side: any MapSide, _ shape: MapShape, _ deletes: Bool, _ flags: UInt64) -> (
        status: Int64, elements: [[UInt8]]
    ) {
        var elements: [[UInt8]] = []
        var last: [UInt8]?
        var room = 5
        while true {
            let batch = side.lookupBatch(after: last, count: room, deletes: deletes, elementFlags: flags, flags: 0)
            let stride = batch.count == 0 ? 0 : batch.values.count / batch.count
            for index in 0..<batch.count {
                let key = batch.keys[index * shape.keySize..<(index + 1) * shape.keySize]
                let value = batch.values[index * stride..<(index + 1) * stride]
                elements.append(masked(Array(key), shape) + value)
            }
            if batch.status == -28, room < 1 << 16 {
                room *= 2
                continue
            }
            guard batch.status == 0, elements.count < shape.entries + 5 else {
                return (batch.status, elements.sorted { $0.lexicographicallyPrecedes($1) })
            }
            last = batch.next
        }
    }

    /// A few keys set, and a few deleted, by one command each.
    private func changeInBatches(
        _ ours: OurMap,
        _ theirs: KernelSideMap,
        _ shape: MapShape,
        _ random: inout Xorshift,
        _ same: (String, BatchResult, BatchResult) -> Void
    ) throws {
        let count = random.next(6)
        let keys = (0..<count).flatMap { _ in key(shape, &random) }
        let stride = shape.type.isPerCPU ? ((shape.valueSize + 7) & ~7) * possibleCPUs : shape.valueSize
        let values = [UInt8](repeating: 0, count: count * stride)
        let flags = lockFlag(shape, &random)
        let set = (
            ours.updateBatch(keys, values, count: count, elementFlags: flags),
            theirs.updateBatch(keys, values, count: count, elementFlags: flags)
        )
        same("set batch", set.0, set.1)
        #expect(set.0.count == set.1.count)
        let deleted = (
            ours.deleteBatch(keys, count: count, elementFlags: flags),
            theirs.deleteBatch(keys, count: count, elementFlags: flags)
        )
        same("delete batch", deleted.0, deleted.1)
        #expect(deleted.0.count == deleted.1.count)
    }

    private func masked(_ key: [UInt8], _ shape: MapShape) -> [UInt8] {
        guard shape.type == .lpmTrie else { return key }
        let length = Int(key[0]) | Int(key[1]) << 8
        return key.enumerated().map { index, byte in
            if index < 4 { return byte }
            let bits = max(0, min(8, length - (index - 4) * 8))
            return bits == 0 ? 0 : byte & (0xff << UInt8(8 - bits))
        }
    }

    private func sameKeys(_ ours: OurMap, _ theirs: KernelSideMap, _ shape: MapShape) throws {
        #expect(keys(ours, shape) == keys(theirs, shape))
    }
}

/// A generator with a fixed seed.
struct Xorshift {
    var state: UInt64

    mutating func next(_ limit: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state % UInt64(limit))
    }
}
