import CLinux
import CRuntime
import Glibc
import ISA
import Runtime

/// A map to make on both sides.
struct MapShape: CustomStringConvertible, Sendable {
    var type: MapType
    var keySize = 8
    var valueSize = 8
    var entries: Int
    var flags: UInt32 = 0

    var description: String { "\(type.name)(\(keySize), \(valueSize), \(entries))" }
}

/// Maps to put into maps of maps, by number: three like the template, and one that is not.
///
/// Other numbers are of no map.
///
/// Values of maps of maps are such numbers on both sides, in four bytes.
let innerShapes = [4, 4, 4, 5].map { MapShape(type: .array, keySize: 4, entries: $0) }

/// What user space does with a map; statuses are 0 or -errno.
protocol MapSide {
    func lookup(_ key: [UInt8], _ value: [UInt8]) -> (status: Int64, value: [UInt8])
    func update(_ key: [UInt8], _ value: [UInt8], _ flags: UInt64) -> Int64
    func delete(_ key: [UInt8]) -> Int64
    func next(_ key: [UInt8]?) -> (status: Int64, key: [UInt8])
    func take(_ value: [UInt8]) -> (status: Int64, value: [UInt8])
}

/// CPUs that per-CPU values have places for.
let possibleCPUs = Int(sysconf(Int32(_SC_NPROCESSORS_CONF)))

/// Our map, in a session of its own.
final class OurMap: MapSide {
    private let image: UnsafeMutableRawPointer
    private let shared: UnsafeMutableRawPointer
    let map: MapView
    private let tid = cruntime_tid()
    private let valueBytes: Int

    init(_ shape: MapShape) throws {
        var builder = SessionBuilder(cpuCount: possibleCPUs, probeCapacity: 1, perfRingSize: 4096, seed: 1)
        var parameters = Self.parameters(shape)
        if shape.type.holdsMaps { parameters.inner = [Self.parameters(innerShapes[0])] }
        _ = try builder.addMap(parameters)
        if shape.type.holdsMaps { for inner in innerShapes { _ = try builder.addMap(Self.parameters(inner)) } }
        let built = builder.finish(ownerPid: 1, ownerTid: 1)
        image = .allocate(byteCount: built.bytes.count, alignment: 64)
        shared = .allocate(byteCount: built.sharedSize, alignment: 64)
        image.copyMemory(from: built.bytes, byteCount: built.bytes.count)
        shared.initializeMemory(as: UInt8.self, repeating: 0, count: built.sharedSize)
        built.initializeShared(shared)
        let session = SessionView(
            image: UnsafePointer(image.assumingMemoryBound(to: UInt8.self)),
            shared: shared.assumingMemoryBound(to: UInt8.self)
        )
        try session.validate(imageSize: built.bytes.count, sharedSize: built.sharedSize)
        map = MapView(session, 0)
        valueBytes = shape.valueSize
    }

    private static func parameters(_ shape: MapShape) -> MapParameters {
        MapParameters(
            name: "m",
            type: shape.type,
            keySize: UInt32(shape.keySize),
            valueSize: UInt32(shape.valueSize),
            maxEntries: UInt32(shape.entries),
            flags: shape.flags
        )
    }

    deinit {
        image.deallocate()
        shared.deallocate()
    }

    func lookup(_ key: [UInt8], _ value: [UInt8]) -> (status: Int64, value: [UInt8]) {
        var value = value
        switch map.family {
        case .queue, .bloomFilter: return (map.peek(&value, tid: tid), value)
        default: break
        }
        var found: [UInt8] = []
        for slot in 0..<(map.isPerCPU ? possibleCPUs : 1) {
            guard let place = map.lookup(key, slot: slot) else { return (-Int64(ENOENT), value) }
            let size = map.isPerCPU ? (valueBytes + 7) & ~7 : valueBytes
            found += [UInt8](UnsafeRawBufferPointer(start: place, count: size))
        }
        // The maps inside are the session's maps 1 and up, with ids from 2.
        if map.holdsMaps { found[0] -= 2 }
        return (0, found)
    }

    func update(_ key: [UInt8], _ value: [UInt8], _ flags: UInt64) -> Int64 {
        switch map.family {
        case .queue, .bloomFilter: map.push(value, flags: flags, tid: tid)
        case _ where map.holdsMaps:
            map.update(key, value[0] < 4 ? [value[0] + 2, 0, 0, 0] : value, flags: flags, tid: tid, slot: -1)
        default: map.update(key, value, flags: flags, tid: tid, slot: -1)
        }
    }

    func delete(_ key: [UInt8]) -> Int64 { map.delete(key + [0, 0, 0, 0], tid: tid) }

    func next(_ key: [UInt8]?) -> (status: Int64, key: [UInt8]) {
        var next = [UInt8](repeating: 0, count: max(Int(map.keySize), 4))
        let status = key.map { map.nextKey($0 + [0, 0, 0, 0], into: &next) } ?? map.nextKey(nil, into: &next)
        return (status, Array(next.prefix(Int(map.keySize))))
    }

    func take(_ value: [UInt8]) -> (status: Int64, value: [UInt8]) {
        var value = value
        return (map.pop(&value, tid: tid), value)
    }
}

/// The kernel's map, by bpf(2).
final class KernelSideMap: MapSide {
    private let descriptor: Int32
    private let keySize: Int
    /// Bytes of all CPUs' values.
    private let valueBytes: Int
    /// The maps that may be inside.
    private var inner: [KernelSideMap] = []

    /// Nil with errno where the kernel refuses.
    init?(_ shape: MapShape) {
        keySize = shape.keySize
        valueBytes = shape.type.isPerCPU ? ((shape.valueSize + 7) & ~7) * possibleCPUs : shape.valueSize
        var words = [UInt32](repeating: 0, count: 18)
        words[0] = shape.type.rawValue
        words[1] = UInt32(shape.keySize)
        words[2] = UInt32(shape.valueSize)
        words[3] = UInt32(shape.entries)
        words[4] = shape.flags
        if shape.type.holdsMaps {
            inner = innerShapes.compactMap { KernelSideMap($0) }
            words[5] = UInt32(inner[0].descriptor)
        }
        let result = words.withUnsafeMutableBytes {
            clinux_syscall(321, 0, Int64(Int(bitPattern: $0.baseAddress)), 72, 0, 0, 0)
        }
        guard result >= 0 else { return nil }
        descriptor = Int32(result)
    }

    deinit { close(descriptor) }

    /// `BPF_OBJ_GET_INFO_BY_FD`.
    private var id: UInt32 {
        var info = [UInt32](repeating: 0, count: 32)
        return info.withUnsafeMutableBytes { info in
            var words: [UInt64] = [UInt64(descriptor) | 128 << 32, UInt64(UInt(bitPattern: info.baseAddress))]
            let status = words.withUnsafeMutableBytes {
                clinux_syscall(321, 15, Int64(Int(bitPattern: $0.baseAddress)), 16, 0, 0, 0)
            }
            return status == 0 ? info.load(fromByteOffset: 4, as: UInt32.self) : 0
        }
    }

    /// `value` is a pointer to the value or, for the next key, to the key.
    private func raw(
        _ command: Int64,
        _ key: UnsafeRawPointer?,
        _ value: UnsafeMutableRawPointer?,
        _ flags: UInt64
    ) -> Int64 {
        var words: [UInt64] = [
            UInt64(descriptor), UInt64(UInt(bitPattern: key)), UInt64(UInt(bitPattern: value)), flags,
        ]
        return words.withUnsafeMutableBytes {
            clinux_syscall(321, command, Int64(Int(bitPattern: $0.baseAddress)), 32, 0, 0, 0)
        }
    }

    private func call(_ command: Int64, _ key: [UInt8]?, _ value: inout [UInt8], _ flags: UInt64 = 0) -> Int64 {
        value.withUnsafeMutableBytes { value in
            guard let key, keySize > 0 else { return raw(command, nil, value.baseAddress, flags) }
            return key.withUnsafeBytes { raw(command, $0.baseAddress, value.baseAddress, flags) }
        }
    }

    func lookup(_ key: [UInt8], _ value: [UInt8]) -> (status: Int64, value: [UInt8]) {
        var value = value
        if value.count < valueBytes { value += [UInt8](repeating: 0, count: valueBytes - value.count) }
        let status = call(1, key, &value)
        if !inner.isEmpty, status == 0 {
            let id = value.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
            value = [UInt8(inner.firstIndex { $0.id == id } ?? 0xff), 0, 0, 0]
        }
        return (status, value)
    }

    func update(_ key: [UInt8], _ value: [UInt8], _ flags: UInt64) -> Int64 {
        var value = value
        if !inner.isEmpty, value[0] < inner.count { value = [UInt8(inner[Int(value[0])].descriptor), 0, 0, 0] }
        return call(2, key, &value, flags)
    }

    func delete(_ key: [UInt8]) -> Int64 {
        key.withUnsafeBytes { raw(3, keySize > 0 ? $0.baseAddress : nil, nil, 0) }
    }

    func next(_ key: [UInt8]?) -> (status: Int64, key: [UInt8]) {
        var next = [UInt8](repeating: 0, count: max(keySize, 4))
        let status = call(4, key, &next)
        return (status, Array(next.prefix(keySize)))
    }

    func take(_ value: [UInt8]) -> (status: Int64, value: [UInt8]) {
        var value = value
        return (call(21, nil, &value), value)
    }
}
