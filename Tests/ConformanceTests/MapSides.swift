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
    /// Where the values have a `struct bpf_spin_lock`.
    var lock: Int?

    /// As the tables of Documentation/Parity.md have it.
    var name: String { "`\(type.name)`" + (lock == nil ? "" : " with a lock") }
    var description: String { "\(name)(\(keySize), \(valueSize), \(entries))" }
}

/// Maps to put into maps of maps, by number: three like the template, and one that is not.
///
/// Other numbers are of no map.
///
/// Values of maps of maps are such numbers on both sides, in four bytes.
let innerShapes = [4, 4, 4, 5].map { MapShape(type: .array, keySize: 4, entries: $0) }

/// What user space does with a map; statuses are 0 or -errno.
protocol MapSide {
    func lookup(_ key: [UInt8], _ value: [UInt8], flags: UInt64) -> (status: Int64, value: [UInt8])
    func update(_ key: [UInt8], _ value: [UInt8], _ flags: UInt64) -> Int64
    func delete(_ key: [UInt8]) -> Int64
    func next(_ key: [UInt8]?) -> (status: Int64, key: [UInt8])
    /// A pop.
    func take(_ value: [UInt8]) -> (status: Int64, value: [UInt8])
    func take(key: [UInt8], flags: UInt64) -> (status: Int64, value: [UInt8])
    func lookupBatch(after: [UInt8]?, count: Int, deletes: Bool, elementFlags: UInt64, flags: UInt64) -> BatchResult
    /// Values of maps of maps are 0: the first map.
    func updateBatch(_ keys: [UInt8], _ values: [UInt8], count: Int, elementFlags: UInt64) -> BatchResult
    func deleteBatch(_ keys: [UInt8], count: Int, elementFlags: UInt64) -> BatchResult
    func freeze() -> Int64
}

extension MapSide {
    func lookup(_ key: [UInt8], _ value: [UInt8]) -> (status: Int64, value: [UInt8]) { lookup(key, value, flags: 0) }
}

/// CPUs that per-CPU values have places for.
let possibleCPUs = Int(sysconf(Int32(_SC_NPROCESSORS_CONF)))

/// Our map, in a session of its own.
final class OurMap: MapSide {
    private let image: UnsafeMutableRawPointer
    private let shared: UnsafeMutableRawPointer
    let map: MapView
    private let user: UserMap
    private let frozen = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)

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
        frozen.initialize(to: 0)
        user = UserMap(map, frozen: frozen)
    }

    private static func parameters(_ shape: MapShape) -> MapParameters {
        MapParameters(
            name: "m",
            type: shape.type,
            keySize: UInt32(shape.keySize),
            valueSize: UInt32(shape.valueSize),
            maxEntries: UInt32(shape.entries),
            flags: shape.flags,
            lock: shape.lock
        )
    }

    deinit {
        image.deallocate()
        shared.deallocate()
        frozen.deallocate()
    }

    func lookup(_ key: [UInt8], _ value: [UInt8], flags: UInt64) -> (status: Int64, value: [UInt8]) {
        let found = user.lookup(key, value: value, flags: flags)
        return found.status == 0 ? (0, shown(found.value)) : (found.status, value)
    }

    func update(_ key: [UInt8], _ value: [UInt8], _ flags: UInt64) -> Int64 {
        user.update(key, given(value), flags: flags)
    }

    func delete(_ key: [UInt8]) -> Int64 { user.delete(key) }

    func next(_ key: [UInt8]?) -> (status: Int64, key: [UInt8]) { user.nextKey(key) }

    func take(_ value: [UInt8]) -> (status: Int64, value: [UInt8]) {
        let taken = user.take([])
        return taken.status == 0 ? taken : (taken.status, value)
    }

    func take(key: [UInt8], flags: UInt64) -> (status: Int64, value: [UInt8]) { user.take(key, flags: flags) }

    func lookupBatch(
        after: [UInt8]?,
        count: Int,
        deletes: Bool,
        elementFlags: UInt64,
        flags: UInt64
    ) -> BatchResult {
        var result = user.lookupBatch(
            after: after,
            count: count,
            deletes: deletes,
            elementFlags: elementFlags,
            flags: flags
        )
        if map.holdsMaps {
            for index in 0..<result.count { result.values[4 * index] -= 2 }
        }
        return result
    }

    func updateBatch(_ keys: [UInt8], _ values: [UInt8], count: Int, elementFlags: UInt64) -> BatchResult {
        user.updateBatch(
            keys,
            map.holdsMaps ? values.enumerated().map { $0 % 4 == 0 ? $1 + 2 : $1 } : values,
            count: count,
            elementFlags: elementFlags
        )
    }

    func deleteBatch(_ keys: [UInt8], count: Int, elementFlags: UInt64) -> BatchResult {
        user.deleteBatch(keys, count: count, elementFlags: elementFlags)
    }

    func freeze() -> Int64 { user.freeze() }

    /// The maps inside are the session's maps 1 and up, with ids from 2.
    private func given(_ value: [UInt8]) -> [UInt8] {
        map.holdsMaps && value[0] < 4 ? [value[0] + 2, 0, 0, 0] : value
    }

    private func shown(_ value: [UInt8]) -> [UInt8] { map.holdsMaps ? [value[0] - 2, 0, 0, 0] : value }
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
        var types: Int32 = -1
        if let lock = shape.lock {
            types = Self.types(shape, lock)
            // btf_fd, btf_key_type_id, btf_value_type_id
            (words[12], words[13], words[14]) = (UInt32(bitPattern: types), 1, 3)
        }
        defer { if types >= 0 { close(types) } }
        let result = words.withUnsafeMutableBytes {
            clinux_syscall(321, 0, Int64(Int(bitPattern: $0.baseAddress)), 72, 0, 0, 0)
        }
        guard result >= 0 else { return nil }
        descriptor = Int32(result)
    }

    deinit { close(descriptor) }

    /// `BPF_BTF_LOAD`: an integer as the key, and a struct with a lock as the value; a descriptor or -errno.
    private static func types(_ shape: MapShape, _ lock: Int) -> Int32 {
        let strings = [UInt8]("\0bpf_spin_lock\0".utf8)
        func int(_ size: Int) -> [UInt32] { [0, 1 << 24, UInt32(size), UInt32(size * 8)] }
        // BTF_KIND_STRUCT with one member.
        func structure(_ name: UInt32, _ size: Int, _ member: UInt32, at offset: Int) -> [UInt32] {
            [name, 4 << 24 | 1, UInt32(size), 1, member, UInt32(offset * 8)]
        }
        // 1: the key, 2: the lock, 3: the value, 4: what a lock consists of. Members have to have names: any.
        let words = int(shape.keySize) + structure(1, 4, 4, at: 0) + structure(1, shape.valueSize, 2, at: lock) + int(4)
        let header: [UInt32] = [
            0x1_eb9f, 24, 0, UInt32(words.count * 4), UInt32(words.count * 4), UInt32(strings.count),
        ]
        var blob =
            (header + words).flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } } + strings
        return blob.withUnsafeMutableBytes { blob in
            var attributes: [UInt64] = [UInt64(UInt(bitPattern: blob.baseAddress)), 0, UInt64(blob.count), 0]
            return attributes.withUnsafeMutableBytes {
                Int32(clinux_syscall(321, 18, Int64(Int(bitPattern: $0.baseAddress)), 28, 0, 0, 0))
            }
        }
    }

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

    func lookup(_ key: [UInt8], _ value: [UInt8], flags: UInt64) -> (status: Int64, value: [UInt8]) {
        var value = value
        if value.count < valueBytes { value += [UInt8](repeating: 0, count: valueBytes - value.count) }
        let status = call(1, key, &value, flags)
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

    func take(key: [UInt8], flags: UInt64) -> (status: Int64, value: [UInt8]) {
        var value = [UInt8](repeating: 0, count: max(valueBytes, 8))
        let status = call(21, key, &value, flags)
        return (status, status == 0 ? Array(value.prefix(valueBytes)) : [])
    }

    /// `bpf_attr.batch`.
    private func batch(
        _ command: Int64,
        after: [UInt8]?,
        _ keys: inout [UInt8],
        _ values: inout [UInt8],
        _ count: Int,
        _ elementFlags: UInt64,
        _ flags: UInt64
    ) -> BatchResult {
        var (from, next) = (after ?? [], [UInt8](repeating: 0xee, count: max(keySize, 4)))
        var result = BatchResult(0)
        from.withUnsafeMutableBytes { from in
            next.withUnsafeMutableBytes { next in
                keys.withUnsafeMutableBytes { keys in
                    values.withUnsafeMutableBytes { values in
                        var words: [UInt64] = [from, next, keys, values].map {
                            UInt64(UInt(bitPattern: $0.baseAddress))
                        }
                        if after == nil { words[0] = 0 }
                        words += [UInt64(UInt32(count)) | UInt64(descriptor) << 32, elementFlags, flags]
                        words.withUnsafeMutableBytes { attributes in
                            result.status = clinux_syscall(
                                321,
                                command,
                                Int64(Int(bitPattern: attributes.baseAddress)),
                                56,
                                0,
                                0,
                                0
                            )
                            result.count = Int(attributes.load(fromByteOffset: 32, as: UInt32.self))
                        }
                    }
                }
            }
        }
        if next.contains(where: { $0 != 0xee }) { result.next = next }
        return result
    }

    func lookupBatch(
        after: [UInt8]?,
        count: Int,
        deletes: Bool,
        elementFlags: UInt64,
        flags: UInt64
    ) -> BatchResult {
        var keys = [UInt8](repeating: 0, count: count * keySize + 8)
        var values = [UInt8](repeating: 0, count: count * valueBytes + 8)
        var result = batch(deletes ? 25 : 24, after: after, &keys, &values, count, elementFlags, flags)
        // Refused before the count was looked at.
        if result.status != 0, result.status != -Int64(ENOENT) { result.count = 0 }
        result.keys = Array(keys.prefix(result.count * keySize))
        result.values = Array(values.prefix(result.count * valueBytes))
        if !inner.isEmpty {
            for index in 0..<result.count {
                let id = result.values.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 4 * index, as: UInt32.self) }
                result.values.replaceSubrange(
                    4 * index..<4 * index + 4,
                    with: [UInt8(inner.firstIndex { $0.id == id } ?? 0xff), 0, 0, 0]
                )
            }
        }
        return result
    }

    func updateBatch(_ keys: [UInt8], _ values: [UInt8], count: Int, elementFlags: UInt64) -> BatchResult {
        var keys = keys + [0]
        var values = values + [0]
        if let first = inner.first {
            for index in 0..<count { values[4 * index] = UInt8(first.descriptor) }
        }
        let result = batch(26, after: nil, &keys, &values, count, elementFlags, 0)
        return changed(result, of: count)
    }

    func deleteBatch(_ keys: [UInt8], count: Int, elementFlags: UInt64) -> BatchResult {
        var keys = keys + [0]
        var values: [UInt8] = [0]
        return changed(batch(27, after: nil, &keys, &values, count, elementFlags, 0), of: count)
    }

    /// Where a batch is refused at once, its count stays what was asked for; in the middle it is what was done.
    private func changed(_ result: BatchResult, of count: Int) -> BatchResult {
        var result = result
        if result.status != 0, result.count == count { result.count = 0 }
        result.next = nil
        return result
    }

    func freeze() -> Int64 { raw(22, nil, nil, 0) }
}
