import Glibc
package import ISA
package import Loader

/// What keys and values of a map are: ids in a `KernelBTF`.
package struct MapTypes: Sendable {
    package var descriptor: Int32
    package var key: UInt32
    package var value: UInt32

    /// Nil for global data, whose types are the loader's alone, and as below.
    package init?(_ map: MapSpec, types descriptor: Int32) {
        guard map.contents == nil else { return nil }
        self.init(map.type, key: map.keyType, value: map.valueType, types: descriptor)
    }

    /// Nil where the object does not say, and for maps whose elements are the kernel's own (libbpf
    /// `bpf_object__create_map`).
    package init?(_ type: MapType, key: UInt32, value: UInt32, types descriptor: Int32) {
        guard value != 0 else { return nil }
        switch type {
        case .unspecified, .programArray, .perfEventArray, .cgroupArray, .stackTrace, .arrayOfMaps, .hashOfMaps,
            .devMap,
            .devMapHash, .cpuMap, .xskMap, .sockMap, .sockHash, .queue, .stack, .ringBuffer, .userRingBuffer,
            .reusePortSockArray, .structOps, .arena:
            return nil
        case .hash, .array, .perCPUHash, .perCPUArray, .lruHash, .lruPerCPUHash, .lpmTrie, .cgroupStorage,
            .perCPUCgroupStorage, .socketStorage, .inodeStorage, .taskStorage, .cgroupLocalStorage, .bloomFilter:
            (self.descriptor, self.key, self.value) = (descriptor, key, value)
        }
    }
}

/// A map in the kernel.
package struct KernelMap: ~Copyable {
    package let descriptor: Int32
    package let keySize: Int
    /// Bytes of a value as system calls carry it: one for every possible CPU in per-CPU maps.
    package let valueSize: Int

    /// Makes a map; sizes in bytes.
    ///
    /// Needs CAP_BPF where `unprivileged_bpf_disabled` is set. `innerMap` is the template of a map of maps.
    package init(
        type: MapType,
        keySize: Int,
        valueSize: Int,
        maxEntries: Int,
        flags: UInt32 = 0,
        innerMap: Int32? = nil,
        extra: UInt64 = 0,
        name: String = "",
        types: MapTypes? = nil
    ) throws(KernelError) {
        var attributes = BPF.Attributes(size: 72)
        attributes.put(type.rawValue, at: 0)
        attributes.put(UInt32(keySize), at: 4)
        attributes.put(UInt32(valueSize), at: 8)
        attributes.put(UInt32(maxEntries), at: 12)
        attributes.put(flags, at: 16)
        attributes.put(UInt32(bitPattern: innerMap ?? 0), at: 20)
        BPF.put(name: name, at: 28, in: &attributes)
        if let types {
            attributes.put(UInt32(bitPattern: types.descriptor), at: 48)
            attributes.put(types.key, at: 52)
            attributes.put(types.value, at: 56)
        }
        attributes.put(extra, at: 64)
        var result = BPF.call(.mapCreate, &attributes)
        if result < 0, types != nil {
            // Some maps are particular about types: most do without (libbpf, too, tries again).
            for offset in [48, 52, 56] { attributes.put(UInt32(0), at: offset) }
            result = BPF.call(.mapCreate, &attributes)
        }
        guard result >= 0 else { throw KernelError(call: "bpf(MAP_CREATE)", errno: Int32(-result)) }
        self.init(adopting: Int32(result), type: type, keySize: keySize, valueSize: valueSize)
    }

    /// Owns the descriptor of a map from now on.
    init(adopting descriptor: Int32, type: MapType, keySize: Int, valueSize: Int) {
        self.descriptor = descriptor
        self.keySize = keySize
        switch type {
        case .perCPUArray, .perCPUHash, .lruPerCPUHash, .perCPUCgroupStorage:
            self.valueSize = (valueSize + 7) / 8 * 8 * possibleCPUs
        default: self.valueSize = valueSize
        }
    }

    deinit { _ = close(descriptor) }

    /// The value of a key; nil where there is none.
    package borrowing func lookup(_ key: [UInt8]) throws(KernelError) -> [UInt8]? {
        var value = [UInt8](repeating: 0, count: valueSize)
        let status = unsafe value.withUnsafeMutableBytes { value in
            unsafe element(.mapLookup, key, value.baseAddress, 0)
        }
        if status == -Int64(ENOENT) { return nil }
        guard status >= 0 else { throw KernelError(call: "bpf(MAP_LOOKUP_ELEM)", errno: Int32(-status)) }
        return value
    }

    /// Sets a key's value; 0 or -errno, which is what callers compare.
    package borrowing func update(_ key: [UInt8], _ value: [UInt8], flags: UInt64 = 0) -> Int64 {
        unsafe value.withUnsafeBytes { value in unsafe element(.mapUpdate, key, value.baseAddress, flags) }
    }

    /// Removes a key; 0 or -errno.
    package borrowing func delete(_ key: [UInt8]) -> Int64 { unsafe element(.mapDelete, key, nil, 0) }

    /// The key after `key`, or the first; nil after the last.
    package borrowing func nextKey(_ key: [UInt8]?) throws(KernelError) -> [UInt8]? {
        var next = [UInt8](repeating: 0, count: keySize)
        let status = unsafe next.withUnsafeMutableBytes { next -> Int64 in
            guard let key else {
                var attributes = BPF.Attributes(size: 32)
                attributes.put(UInt32(descriptor), at: 0)
                unsafe attributes.put(next.baseAddress, at: 16)
                return BPF.call(.mapNextKey, &attributes)
            }
            return unsafe element(.mapNextKey, key, next.baseAddress, 0)
        }
        if status == -Int64(ENOENT) { return nil }
        guard status >= 0 else { throw KernelError(call: "bpf(MAP_GET_NEXT_KEY)", errno: Int32(-status)) }
        return next
    }

    /// Forbids further changes from this side of the system call (BPF_MAP_FREEZE).
    ///
    /// Requires kernel 5.2.
    package borrowing func freeze() throws(KernelError) {
        var attributes = BPF.Attributes(size: 32)
        attributes.put(UInt32(descriptor), at: 0)
        let status = BPF.call(.mapFreeze, &attributes)
        guard status >= 0 else { throw KernelError(call: "bpf(MAP_FREEZE)", errno: Int32(-status)) }
    }

    private borrowing func element(
        _ command: BPF.Command,
        _ key: [UInt8],
        _ value: UnsafeRawPointer?,
        _ flags: UInt64
    ) -> Int64 {
        var attributes = BPF.Attributes(size: 32)
        attributes.put(UInt32(descriptor), at: 0)
        unsafe attributes.put(value, at: 16)
        attributes.put(flags, at: 24)
        return unsafe key.withUnsafeBytes { key in
            unsafe attributes.put(key.baseAddress, at: 8)
            return BPF.call(command, &attributes)
        }
    }
}
