import Glibc
import ISA
package import Loader

/// Maps that outlive their makers, under a name in a BPF filesystem.
extension KernelMap {
    /// Where libbpf pins maps by name (`LIBBPF_PIN_BY_NAME`).
    package static let pinDirectory = "/sys/fs/bpf"

    /// The map under a path, nil where there is none; EEXIST where it is another kind of map than `spec` asks for.
    ///
    /// Requires Linux 4.4.
    package static func pinned(_ path: String, as spec: MapSpec) throws(KernelError) -> KernelMap? {
        var attributes = BPF.Attributes(size: 16)
        let bytes = Array(path.utf8) + [0]
        let result = unsafe bytes.withUnsafeBytes { bytes in
            unsafe attributes.put(bytes.baseAddress, at: 0)
            return BPF.call(.objectGet, &attributes)
        }
        if result == -Int64(ENOENT) { return nil }
        guard result >= 0 else { throw KernelError(call: "bpf(OBJ_GET)", errno: Int32(-result)) }
        let map = KernelMap(adopting: Int32(result), type: spec.type, keySize: spec.keySize, valueSize: spec.valueSize)
        let facts = try map.facts()
        let isSame =
            facts.type == spec.type.rawValue && facts.keySize == spec.keySize && facts.valueSize == spec.valueSize
            && facts.maxEntries == spec.maxEntries && facts.flags == spec.flags
        guard isSame else {
            throw KernelError(
                call: "another kind of map is pinned at \(path) (type \(facts.type), key \(facts.keySize) B, "
                    + "value \(facts.valueSize) B, max_entries \(facts.maxEntries), flags \(facts.flags))",
                errno: EEXIST
            )
        }
        return map
    }

    /// Keeps the map under a path after this process.
    package borrowing func pin(_ path: String) throws(KernelError) {
        var attributes = BPF.Attributes(size: 16)
        attributes.put(UInt32(descriptor), at: 8)
        let bytes = Array(path.utf8) + [0]
        let result = unsafe bytes.withUnsafeBytes { bytes in
            unsafe attributes.put(bytes.baseAddress, at: 0)
            return BPF.call(.objectPin, &attributes)
        }
        guard result >= 0 else { throw KernelError(call: "bpf(OBJ_PIN, \(path))", errno: Int32(-result)) }
    }

    private struct Facts {
        var type: UInt32
        var keySize, valueSize, maxEntries: Int
        var flags: UInt32
    }

    /// `struct bpf_map_info`.
    private borrowing func facts() throws(KernelError) -> Facts {
        var info = [UInt32](repeating: 0, count: 22)
        var attributes = BPF.Attributes(size: 16)
        attributes.put(UInt32(descriptor), at: 0)
        attributes.put(UInt32(4 * info.count), at: 4)
        let result = unsafe info.withUnsafeMutableBytes { info in
            unsafe attributes.put(info.baseAddress, at: 8)
            return BPF.call(.objectInfo, &attributes)
        }
        guard result >= 0 else { throw KernelError(call: "bpf(OBJ_GET_INFO_BY_FD)", errno: Int32(-result)) }
        return Facts(
            type: info[0],
            keySize: Int(info[2]),
            valueSize: Int(info[3]),
            maxEntries: Int(info[4]),
            flags: info[5]
        )
    }
}
