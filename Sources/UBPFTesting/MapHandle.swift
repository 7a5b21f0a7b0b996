import CRuntime
import Loader
import Runtime

/// A map of a ``VM``: read and written by the types that it is defined with, as bytes, or as little-endian integers.
///
/// Operations have the kernel's rules: an update of a full hash map throws with errno 7 (`E2BIG`).
public struct MapHandle {
    /// The map's name.
    public var name: String { spec.name }
    let spec: MapSpec
    let types: Types?
    let view: MapView
    /// Keeps the memory.
    private let session: LoadedSession

    init(spec: MapSpec, view: MapView, session: LoadedSession, types: Types?) {
        self.spec = spec
        self.view = view
        self.session = session
        self.types = types
    }

    /// Bytes of a key.
    public var keySize: Int { Int(view.keySize) }
    /// Bytes of a value.
    public var valueSize: Int { Int(view.valueSize) }

    // MARK: Bytes

    /// The value of a key; nil where there is none.
    public func value(forKey key: [UInt8]) throws(TestingError) -> [UInt8]? {
        try check(key: key)
        guard let value = unsafe view.lookup(key, slot: 0) else { return nil }
        var bytes = unsafe [UInt8](UnsafeRawBufferPointer(start: value, count: valueSize))
        for index in view.hiddenBytes { bytes[index] = 0 }
        return bytes
    }

    /// Sets the value of a key; of a CGROUP_ARRAY the id of a control group.
    public func set(_ value: [UInt8], forKey key: [UInt8]) throws(TestingError) {
        try check(key: key)
        guard value.count == valueSize else { throw .valueSize(name, value.count, valueSize) }
        if case .programArray? = view.family { throw .programArray(name) }
        if case .cgroupArray? = view.family {
            // Of `World.controlGroups`: there are no directories that descriptors could be of.
            let index: UInt32 = integer(key)
            guard index < view.maxEntries else { throw .operation("update", name, -7) }
            unsafe view.cgroupEntry(index).pointee = integer(value)
            return
        }
        let status = unsafe view.update(key, value, flags: 0, tid: cruntime_tid(), slot: 0)
        if status != 0 { throw .operation("update", name, status) }
    }

    /// Removes a key; false where it was not there.
    @discardableResult
    public func remove(_ key: [UInt8]) throws(TestingError) -> Bool {
        try check(key: key)
        let status = unsafe view.delete(key, tid: cruntime_tid())
        if status == -2 { return false }
        if status != 0 { throw .operation("delete", name, status) }
        return true
    }

    /// All keys, in the map's order.
    public var keys: [[UInt8]] {
        var keys: [[UInt8]] = []
        var next = [UInt8](repeating: 0, count: max(keySize, 4))
        guard unsafe view.nextKey(nil, into: &next) == 0 else { return [] }
        while true {
            keys.append(Array(next.prefix(keySize)))
            let last = next
            guard unsafe view.nextKey(last, into: &next) == 0 else { return keys }
        }
    }

    /// Records that programs put into a ring buffer or perf event array since the last call; none for other maps.
    public func records() -> [[UInt8]] {
        switch view.family {
        case .ringBuffer where view.isUserRing: return []
        case .ringBuffer, .perfEventArray: break
        case .hash, .array, .queue, .bloomFilter, .lpmTrie, .programArray, .mapArray, .stackTrace, .cgroupArray, nil:
            return []
        }
        var consumer = RingConsumer(view)
        var records: [[UInt8]] = []
        while let record = consumer.next() { records.append(record) }
        return records
    }

    /// Puts a record into a user ring buffer, for programs that call `bpf_user_ringbuf_drain`; false where it is full.
    public func produce(_ record: [UInt8]) throws(TestingError) -> Bool {
        var producer = UserRingProducer(view)
        guard let status = producer?.push(record) else { throw .operation("produce", name, -22) }
        // -ENOSPC
        if status == -28 { return false }
        if status != 0 { throw .operation("produce", name, status) }
        return true
    }

    // MARK: Integers

    /// The value of an integer key, as an integer; nil where there is none.
    public func value<Key: FixedWidthInteger, Value: FixedWidthInteger>(
        forKey key: Key,
        as _: Value.Type = UInt64.self
    ) throws(TestingError) -> Value? {
        guard let bytes = try value(forKey: littleEndian(key)) else { return nil }
        guard bytes.count == MemoryLayout<Value>.size else {
            throw .valueSize(name, MemoryLayout<Value>.size, bytes.count)
        }
        return integer(bytes)
    }

    /// Sets the value of an integer key to an integer.
    public func set<Key: FixedWidthInteger, Value: FixedWidthInteger>(
        _ value: Value,
        forKey key: Key
    ) throws(TestingError) {
        try set(littleEndian(value), forKey: littleEndian(key))
    }

    private func check(key: [UInt8]) throws(TestingError) {
        guard key.count == keySize else { throw .keySize(name, key.count, keySize) }
    }
}

/// An integer's bytes, in the order of BPF's little-endian target.
public func littleEndian<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
    (0..<MemoryLayout<Value>.size).map { UInt8(truncatingIfNeeded: value >> Value(8 * $0)) }
}

/// The integer in little-endian bytes; missing bytes are 0.
public func integer<Value: FixedWidthInteger>(_ bytes: [UInt8], as _: Value.Type = Value.self) -> Value {
    var result: Value = 0
    for (index, byte) in bytes.prefix(MemoryLayout<Value>.size).enumerated() {
        result |= Value(truncatingIfNeeded: UInt64(byte) << UInt64(8 * index))
    }
    return result
}
