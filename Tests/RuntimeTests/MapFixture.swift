import CRuntime
import CSession
import Foundation
import ISA

@testable import Runtime

/// A session with maps in memory that forked children share, and what a test does with one of them.
final class MapFixture: @unchecked Sendable {
    let view: SessionView
    private let image: UnsafeMutableRawPointer
    private let shared: UnsafeMutableRawPointer
    private let sharedSize: Int

    init(_ maps: [MapParameters], cpuCount: Int = 4, logs: Bool = false) throws {
        var builder = SessionBuilder(cpuCount: cpuCount, probeCapacity: 16, perfRingSize: 1 << 16, seed: 42)
        for map in maps { _ = try builder.addMap(map) }
        if logs { _ = try builder.addLogRing() }
        let built = builder.finish(ownerPid: UInt32(getpid()), ownerTid: UInt32(getpid()))
        image = .allocate(byteCount: built.bytes.count, alignment: 64)
        image.copyMemory(from: built.bytes, byteCount: built.bytes.count)
        sharedSize = built.sharedSize
        shared = mmap(nil, sharedSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        built.initializeShared(shared)
        view = SessionView(
            image: UnsafePointer(image.assumingMemoryBound(to: UInt8.self)),
            shared: shared.assumingMemoryBound(to: UInt8.self)
        )
        try view.validate(imageSize: built.bytes.count, sharedSize: built.sharedSize)
    }

    deinit {
        munmap(shared, sharedSize)
        image.deallocate()
    }

    func map(_ index: Int = 0) -> MapView { MapView(view, index) }

    /// A context as the agent prepares one, for the calling thread.
    func context(_ body: (UnsafeMutablePointer<cruntime_context>) throws -> Void) rethrows {
        let stack = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 16)
        let context = UnsafeMutablePointer<cruntime_context>.allocate(capacity: 1)
        defer {
            stack.deallocate()
            context.deallocate()
        }
        context.initialize(to: cruntime_context())
        prepareContext(context, view)
        context.pointee.stack_low = UInt64(UInt(bitPattern: stack))
        context.pointee.stack_high = context.pointee.stack_low + 4096
        context.pointee.cpu_slot = -1
        context.pointee.pid_tgid = UInt64(getpid()) << 32 | UInt64(cruntime_tid())
        try body(context)
    }
}

/// errno values as maps return them.
enum Errno {
    static let ok: Int64 = 0
    static let noEntry: Int64 = -2
    static let tooBig: Int64 = -7
    static let exists: Int64 = -17
    static let invalid: Int64 = -22
}

/// A map of 8-byte keys (or 4-byte ones) and 8-byte values, as Swift values.
extension MapView {
    func get(_ key: UInt64, slot: Int = 0) -> UInt64? {
        var key = key
        return lookup(&key, slot: slot)?.load(as: UInt64.self)
    }

    @discardableResult
    func set(_ key: UInt64, _ value: UInt64, flags: UInt64 = 0, slot: Int = 0, tid: UInt32 = cruntime_tid()) -> Int64 {
        var key = key
        var value = value
        return update(&key, &value, flags: flags, tid: tid, slot: slot)
    }

    @discardableResult
    func remove(_ key: UInt64, tid: UInt32 = cruntime_tid()) -> Int64 {
        var key = key
        return delete(&key, tid: tid)
    }

    /// All keys, by a walk that ends whatever happens.
    func keys() -> [UInt64] {
        var cursor = MapCursor()
        var keys: [UInt64] = []
        while cursor.advance(self, slot: 0) {
            keys.append(cursor.key.map { $0.load(as: UInt64.self) } ?? UInt64(cursor.index))
        }
        return keys
    }
}

func hashMap(_ name: String = "h", entries: UInt32, type: MapType = .hash, valueSize: UInt32 = 8) -> MapParameters {
    MapParameters(name: name, type: type, keySize: 8, valueSize: valueSize, maxEntries: entries)
}

/// A generator with a fixed seed.
struct TestRandom {
    var state: UInt64

    mutating func next(_ limit: UInt64) -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state % limit
    }
}
