import CRuntime
import Loader
import Runtime

/// Maps by the types that they are defined with (`__type(key, …)`, `__type(value, …)`).
extension MapHandle {
    /// The value of a key; nil where there is none.
    ///
    /// Of per-CPU maps with several CPUs, the list of their values.
    public subscript(_ key: Value) -> Value? {
        get throws(TestingError) {
            let bytes = try encode(key, spec.keyType, spec.keySize)
            if view.isPerCPU, cpus > 1 {
                var values: [Value] = []
                for cpu in 0..<cpus {
                    guard let own = raw(bytes, cpu: cpu) else { return nil }
                    values.append(decode(own, spec.valueType))
                }
                return .list(values)
            }
            return try value(forKey: bytes).map { decode($0, spec.valueType) }
        }
    }

    /// Sets the value of a key; fields that are not given are 0.
    public func set(_ value: Value, at key: Value) throws(TestingError) {
        try set(encode(value, spec.valueType, valueSize), forKey: encode(key, spec.keyType, keySize))
    }

    /// Removes a key; false where it was not there.
    @discardableResult
    public func remove(at key: Value) throws(TestingError) -> Bool {
        try remove(encode(key, spec.keyType, keySize))
    }

    /// All keys and values, in the map's order.
    public var entries: [(key: Value, value: Value)] {
        keys.compactMap { key in
            raw(key, cpu: 0).map { (decode(key, spec.keyType), decode($0, spec.valueType)) }
        }
    }

    /// Number of keys.
    public var count: Int { keys.count }

    /// Records since the last call, as values of a struct, of which a program may send a part only; of the type of the map's values where `type` is nil.
    public func events(as type: String? = nil) throws(TestingError) -> [Value] {
        var id = spec.valueType
        if let type {
            guard let found = types?.id(named: type) else { throw .noType(type) }
            id = found
        }
        let size = types?.btf.size(of: id) ?? 0
        return contents().map { decode($0.padded(to: size), id) }
    }

    /// Records since the last call, as values of a struct that another object knows, like one of a header.
    public func events(as type: String, of object: BPFObject) throws(TestingError) -> [Value] {
        guard let types = object.types, let id = types.id(named: type) else { throw .noType(type) }
        let size = types.btf.size(of: id) ?? 0
        return contents().map { types.decode($0.padded(to: size)[...], id) }
    }

    /// What programs gave; CPU and size come before it in a perf event array.
    private func contents() -> [[UInt8]] {
        let isPerf = view.family == .perfEventArray
        return records().map { isPerf ? Array($0.dropFirst(8)) : $0 }
    }

    /// The addresses of a stored stack, innermost first; nil where there is none.
    public func stack(_ id: Int64) -> [UInt64]? {
        guard let id = UInt32(exactly: id), view.family == .stackTrace else { return nil }
        var frames = [UInt64](repeating: 0, count: valueSize / 8)
        guard unsafe view.stackCopy(id, into: &frames) == 0 else { return nil }
        return Array(frames.prefix { $0 != 0 })
    }

    private var cpus: Int { view.session.cpuCount }

    private func raw(_ key: [UInt8], cpu: Int) -> [UInt8]? {
        guard let pointer = unsafe view.lookup(key, slot: cpu) else { return nil }
        return unsafe [UInt8](UnsafeRawBufferPointer(start: pointer, count: valueSize))
    }

    private func decode(_ bytes: [UInt8], _ type: UInt32) -> Value {
        if let types, type != 0 { return types.decode(bytes[...], type) }
        // A size alone says nothing; numbers of 4 and 8 bytes are what it mostly means.
        switch bytes.count {
        case 1, 2, 4, 8: return .integer(Int128(integer(bytes, as: UInt64.self)))
        default: return .bytes(bytes)
        }
    }

    private func encode(_ value: Value, _ type: UInt32, _ size: Int) throws(TestingError) -> [UInt8] {
        if let types, type != 0 { return try types.encode(value, type, name) }
        switch value {
        case .integer(let number) where size <= 8:
            return Array(littleEndian(UInt64(truncatingIfNeeded: number)).prefix(size))
        case .bytes(let bytes): return bytes
        case .integer, .float, .text, .list, .fields: throw .noTypes(name)
        }
    }
}

extension [UInt8] {
    /// With zeros for what is missing.
    fileprivate func padded(to size: Int) -> [UInt8] { self + [UInt8](repeating: 0, count: Swift.max(0, size - count)) }
}
