import CSession
package import Runtime

/// Copies of a map's contents, as the controller prints them.
extension MapView {
    /// All entries; of per-CPU maps the values of all CPUs, one after the other.
    package func entries() -> [(key: [UInt8], value: [UInt8])] {
        var result: [(key: [UInt8], value: [UInt8])] = []
        let slots = isPerCPU ? session.cpuCount : 1
        var cursor = MapCursor()
        while cursor.advance(self, slot: 0) {
            let key: [UInt8]
            if let pointer = unsafe cursor.key {
                key = unsafe bytes(pointer, Int(keySize))
            } else {
                key = (0..<4).map { UInt8(truncatingIfNeeded: cursor.index >> (8 * $0)) }
            }
            var value: [UInt8] = []
            for slot in 0..<slots {
                let found =
                    slots == 1
                    ? unsafe cursor.value
                    : unsafe key.withUnsafeBytes { raw -> UnsafeMutableRawPointer? in
                        guard let base = raw.baseAddress else { return nil }
                        return unsafe lookup(base, slot: slot)
                    }
                if let pointer = unsafe found { value += unsafe bytes(pointer, Int(valueSize)) }
            }
            for index in hiddenBytes { value[index] = 0 }
            result.append((key, value))
        }
        return result
    }

    /// The addresses of one stored stack, innermost first; nil where there is none.
    package func stack(_ id: UInt32) -> [UInt64]? {
        var frames = [UInt64](repeating: 0, count: Int(valueSize / 8))
        let status = unsafe frames.withUnsafeMutableBytes { raw -> Int64 in
            guard let base = raw.baseAddress else { return -2 }
            return unsafe stackCopy(id, into: base)
        }
        return status == 0 ? Array(frames.prefix { $0 != 0 }) : nil
    }

    package var name: String {
        unsafe withUnsafeBytes(of: descriptor.pointee.name) { raw in
            unsafe String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}

private func bytes(_ pointer: UnsafeMutableRawPointer, _ count: Int) -> [UInt8] {
    unsafe [UInt8](UnsafeRawBufferPointer(start: pointer, count: count))
}

/// The modules that unwinds in the target met, as the agent noted them; nothing in them is trusted.
extension SessionView {
    package func notedModules() -> [(start: UInt64, end: UInt64, bias: UInt64, path: String)] {
        let count = unsafe min(sharedHeader.pointee.module_count, header.pointee.modules_capacity)
        return (0..<Int(count)).compactMap { index in
            let entry = unsafe module(index).pointee
            guard entry.end > entry.start else { return nil }
            let path = unsafe withUnsafeBytes(of: entry.path) { raw in
                unsafe String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
            }
            return (entry.start, entry.end, entry.bias, path)
        }
    }
}
