import Glibc

extension KernelMap {
    /// All elements by few system calls (BPF_MAP_LOOKUP_BATCH); nil for kernels and types of maps that have no such call.
    ///
    /// Programs may change the map meanwhile: of hashes, whole buckets are read at once; walks of others that lose their key
    /// may begin anew, and end after `limit` elements. `withoutZeros` leaves out values that are all zero. Requires Linux 5.6.
    package borrowing func allEntries(limit: Int, withoutZeros: Bool = false) throws(KernelError) -> [(
        key: [UInt8], value: [UInt8]
    )]? {
        var result: [(key: [UInt8], value: [UInt8])] = []
        // Elements of a call: some megabytes of them.
        let elementSize = keySize + valueSize
        var chunk = max(1, min(4096, (4 << 20) / max(1, elementSize)))
        // Where the next call goes on: a key, or the number of a bucket.
        var position = [UInt8](repeating: 0, count: max(8, keySize))
        var isFirst = true
        while true {
            var next = position
            var keys = [UInt8](repeating: 0, count: chunk * keySize)
            var values = [UInt8](repeating: 0, count: chunk * valueSize)
            var attributes = BPF.Attributes(size: 56)
            attributes.put(UInt32(chunk), at: 32)
            attributes.put(UInt32(descriptor), at: 36)
            let status = unsafe position.withUnsafeBytes { position in
                unsafe next.withUnsafeMutableBytes { next in
                    unsafe keys.withUnsafeMutableBytes { keys in
                        unsafe values.withUnsafeMutableBytes { values in
                            unsafe attributes.put(isFirst ? nil : position.baseAddress, at: 0)
                            unsafe attributes.put(next.baseAddress, at: 8)
                            unsafe attributes.put(keys.baseAddress, at: 16)
                            unsafe attributes.put(values.baseAddress, at: 24)
                            return BPF.call(.mapLookupBatch, &attributes)
                        }
                    }
                }
            }
            if status == -Int64(ENOSPC) {
                // A bucket with more elements; one by one where that is too much memory.
                guard 4 * chunk * elementSize <= 64 << 20 else { return nil }
                chunk *= 4
                continue
            }
            guard status >= 0 || status == -Int64(ENOENT) else {
                // EINTR: keys went faster than the kernel could walk. EINVAL: an old kernel; ENOTSUPP (524): a map that cannot.
                if status == -Int64(EINTR) { return nil }
                if isFirst, [-Int64(EINVAL), -Int64(EOPNOTSUPP), -524, -Int64(EPERM)].contains(status) { return nil }
                throw KernelError(call: "bpf(MAP_LOOKUP_BATCH)", errno: Int32(-status))
            }
            for index in 0..<Int(attributes.word(at: 32)) {
                let value = values[index * valueSize..<(index + 1) * valueSize]
                if withoutZeros, value.allSatisfy({ $0 == 0 }) { continue }
                result.append((Array(keys[index * keySize..<(index + 1) * keySize]), Array(value)))
            }
            if status < 0 || result.count > limit { return result }
            position = next
            isFirst = false
        }
    }
}
