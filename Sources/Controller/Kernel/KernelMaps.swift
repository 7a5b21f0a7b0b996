import Glibc
import ISA
import Kernel
import Loader

/// A map of the object in the kernel, for as long as the run lasts.
final class KernelMapHolder {
    let map: KernelMap
    let spec: MapSpec
    /// Its elements that have arguments of static probes, where this is the map for them.
    let staticProbes = StaticProbeNumbers()
    private let isToBePinned: Bool

    /// Makes the map with its first contents; sizes that objects leave open become libbpf's or the kernel's own.
    ///
    /// `types` is the descriptor of the object's types in the kernel.
    init(_ given: MapSpec, types: Int32?) throws(Failure) {
        var spec = given
        switch spec.type {
        case .perfEventArray:
            spec.keySize = 4
            spec.valueSize = 4
            if spec.maxEntries == 0 { spec.maxEntries = possibleCPUs }
        case .stackTrace:
            // perf_event_max_stack, and what memleak's loader takes.
            if spec.valueSize == 0 { spec.valueSize = 127 * 8 }
            if spec.maxEntries == 0 { spec.maxEntries = 10_240 }
        case .ringBuffer:
            spec.keySize = 0
            spec.valueSize = 0
        case .hash, .lruHash, .perCPUHash, .lruPerCPUHash:
            // Left to the loader, which in libbpf's tools takes as many as there may be processes or so.
            if spec.maxEntries == 0 { spec.maxEntries = 10_240 }
        default: break
        }
        self.spec = spec
        do throws(KernelError) {
            let inner = try Self.template(spec.innerMap, types)
            if spec.isPinned, let pinned = try KernelMap.pinned(Self.path(spec), as: spec) {
                map = pinned
                isToBePinned = false
                return
            }
            isToBePinned = spec.isPinned
            map = try KernelMap(
                type: spec.type,
                keySize: spec.keySize,
                valueSize: spec.valueSize,
                maxEntries: spec.maxEntries,
                flags: spec.flags,
                innerMap: inner?.map.descriptor,
                extra: spec.extra,
                name: spec.name,
                types: types.flatMap { MapTypes(spec, types: $0) }
            )
            if let contents = spec.contents {
                let status = map.update([0, 0, 0, 0], contents)
                guard status >= 0 else { throw KernelError(call: "bpf(MAP_UPDATE_ELEM)", errno: Int32(-status)) }
            }
            if spec.isReadOnly { try map.freeze() }
        } catch {
            throw error.errno == EEXIST
                ? .pinnedMapDiffers(spec.name, error.call) : .kernelMapFailed(spec.name, error.description)
        }
    }

    private static func path(_ spec: MapSpec) -> String { "\(KernelMap.pinDirectory)/\(spec.name)" }

    /// Pins what was made to be pinned; once programs are loaded, so that nothing stays of a run that fails.
    func pin() throws(Failure) {
        guard isToBePinned else { return }
        do throws(KernelError) { try map.pin(Self.path(spec)) } catch {
            throw .kernelMapFailed(spec.name, error.description)
        }
    }

    /// What the maps inside a map of maps look like.
    private final class Template {
        let map: KernelMap

        init(_ spec: InnerMapSpec, _ types: Int32?) throws(KernelError) {
            map = try KernelMap(
                type: spec.type,
                keySize: spec.keySize,
                valueSize: spec.valueSize,
                maxEntries: spec.maxEntries,
                flags: spec.flags,
                types: types.flatMap { MapTypes(spec.type, key: spec.keyType, value: spec.valueType, types: $0) }
            )
        }
    }

    private static func template(_ spec: InnerMapSpec?, _ types: Int32?) throws(KernelError) -> Template? {
        guard let spec else { return nil }
        return try Template(spec, types)
    }

    /// Puts a descriptor into an element: a map's, a program's, a perf buffer's.
    func set(_ index: Int, to descriptor: Int32) throws(Failure) {
        try set(index, to: Self.bytes(UInt32(bitPattern: descriptor)))
    }

    /// Puts a value into an element.
    func set(_ index: Int, to value: [UInt8]) throws(Failure) {
        let status = map.update(Self.bytes(UInt32(truncatingIfNeeded: index)), value)
        guard status >= 0 else {
            throw .kernelMapFailed(spec.name, "bpf(MAP_UPDATE_ELEM): \(errorText(Int32(-status)))")
        }
    }

    private static func bytes(_ value: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * UInt32($0))) }
    }

    /// Whether its elements are data that can be shown.
    var isShown: Bool {
        switch spec.type {
        case .hash, .array, .perCPUHash, .perCPUArray, .lruHash, .lruPerCPUHash, .lpmTrie: true
        default: false
        }
    }

    var isPerCPU: Bool {
        switch spec.type {
        case .perCPUArray, .perCPUHash, .lruPerCPUHash: true
        default: false
        }
    }

    /// The elements, those of arrays that are all zero left out; programs may change them meanwhile.
    func entries() throws(Failure) -> [(key: [UInt8], value: [UInt8])] {
        let isArray = spec.type == .array || spec.type == .perCPUArray
        var result: [(key: [UInt8], value: [UInt8])] = []
        do throws(KernelError) {
            // Elements that come and go while it is read may be more than there is room for at once.
            if let all = try map.allEntries(limit: 2 * spec.maxEntries, withoutZeros: isArray) { return all }
            var key = try map.nextKey(nil)
            var visited = 0
            while let present = key, visited <= spec.maxEntries {
                visited += 1
                if let value = try map.lookup(present), !isArray || value.contains(where: { $0 != 0 }) {
                    result.append((present, value))
                }
                key = try map.nextKey(present)
            }
        } catch { throw .kernelMapFailed(spec.name, error.description) }
        return result
    }

    /// Keys that are there now, at most so many.
    func keys(limit: Int) -> [[UInt8]] {
        var keys: [[UInt8]] = []
        var key = try? map.nextKey(nil)
        while let present = key, keys.count < limit {
            keys.append(present)
            key = try? map.nextKey(present)
        }
        return keys
    }

    /// The addresses of one stored stack, innermost first; nil where there is none.
    func stack(_ id: UInt32) -> [UInt64]? {
        guard spec.type == .stackTrace, let value = try? map.lookup(Self.bytes(id)) else { return nil }
        return stride(from: 0, to: value.count - 7, by: 8).map { littleEndian(value, at: $0, size: 8) }
            .prefix { $0 != 0 }.map { $0 }
    }

    /// The bytes of global variables, if they can be had.
    func globals() -> [UInt8]? { try? map.lookup([0, 0, 0, 0]) }
}
