import CRuntime
import EngineSupport
import Glibc
import ISA
import Kernel
import Runtime
import Testing

/// The same random operations on our map and on the kernel's map of that type: same results, same errno.
@Suite struct MapParityTests {
    @Test(
        .enabled(if: geteuid() == 0, "the kernel makes maps for root only"),
        arguments: [(MapType.hash, 8, 50), (.hash, 4, 1000), (.array, 4, 20)]
    )
    func followsTheKernel(_ type: MapType, _ keySize: Int, _ entries: Int) throws {
        let theirs = try KernelMap(type: type, keySize: keySize, valueSize: 8, maxEntries: entries)
        var builder = SessionBuilder(cpuCount: 2, probeCapacity: 1, seed: 1)
        _ = try builder.addMap(
            MapParameters(
                name: "m",
                type: type,
                keySize: UInt32(keySize),
                valueSize: 8,
                maxEntries: UInt32(entries)
            )
        )
        let built = builder.finish(ownerPid: 1, ownerTid: 1)
        let image = UnsafeMutableRawPointer.allocate(byteCount: built.bytes.count, alignment: 64)
        let shared = UnsafeMutableRawPointer.allocate(byteCount: built.sharedSize, alignment: 64)
        defer {
            image.deallocate()
            shared.deallocate()
        }
        image.copyMemory(from: built.bytes, byteCount: built.bytes.count)
        shared.initializeMemory(as: UInt8.self, repeating: 0, count: built.sharedSize)
        built.initializeShared(shared)
        let view = SessionView(
            image: UnsafePointer(image.assumingMemoryBound(to: UInt8.self)),
            shared: shared.assumingMemoryBound(to: UInt8.self)
        )
        let ours = MapView(view, 0)
        var state: UInt64 = 0x1234_5678_9abc_def1 &+ UInt64(entries)
        func random(_ limit: Int) -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(limit))
        }
        let tid = cruntime_tid()
        var differences: [String] = []
        for round in 0..<100_000 where differences.count < 3 {
            let number = UInt64(random(entries * 3 / 2))
            var key = (0..<keySize).map { UInt8(truncatingIfNeeded: number >> UInt64(8 * $0)) }
            var value = (0..<8).map { UInt8(truncatingIfNeeded: round >> (8 * $0)) }
            switch random(5) {
            case 0, 1:
                let flags = UInt64(random(5))
                if flags == 4 { continue }  // BPF_F_LOCK needs a lock in the value
                let mine = ours.update(&key, &value, flags: flags, tid: tid, slot: 0)
                let other = theirs.update(key, value, flags: flags)
                if mine != other {
                    differences.append("\(round): update \(number) flags \(flags): \(mine), kernel \(other)")
                }
            case 2:
                let mine = ours.delete(&key, tid: tid)
                let other = theirs.delete(key)
                if mine != other { differences.append("\(round): delete \(number): \(mine), kernel \(other)") }
            default:
                let mine = ours.lookup(&key, slot: 0).map { Array(UnsafeRawBufferPointer(start: $0, count: 8)) }
                let other = try theirs.lookup(key)
                if mine != other {
                    differences.append("\(round): lookup \(number): \(mine ?? []), kernel \(other ?? [])")
                }
            }
        }
        #expect(differences == [])
    }
}
