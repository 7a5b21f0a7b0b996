import CRuntime
import ISA

/// A map as user space has it: what the commands of bpf(2) do with one, and their errno values.
///
/// Statuses are 0 or -errno. Order of checks: kernel/bpf/syscall.c, `map_lookup_elem` and its neighbours. Not for targets.
@safe
package struct UserMap {
    package let map: MapView
    /// 1 once `freeze` was called; lies with whoever shares the map.
    private let frozen: UnsafeMutablePointer<UInt32>
    private let tid: UInt32

    package init(_ map: MapView, frozen: UnsafeMutablePointer<UInt32>) {
        cruntime_find_namespace()
        self.map = map
        tid = cruntime_owner()
        unsafe self.frozen = unsafe frozen
    }

    /// `ENOTSUPP`, which no errno.h has.
    private static let notSupported: Int64 = -524

    /// Whether flags of an element are any but `BPF_F_LOCK`, or that for a map without locks.
    func refusesFlags(_ flags: UInt64) -> Bool {
        flags & ~UpdateFlag.lock != 0 || flags != 0 && map.lockOffset == nil
    }

    // MARK: Rights

    private var flags: UInt32 { unsafe map.descriptor.pointee.flags }
    /// `BPF_F_WRONLY`.
    private var mayRead: Bool { flags & 0x10 == 0 }
    /// `BPF_F_RDONLY`, and what was frozen.
    private var mayWrite: Bool { flags & 0x8 == 0 && !isFrozen }
    /// No command changes it any more; programs do.
    package var isFrozen: Bool { unsafe map.isReadOnly || cruntime_load32(frozen) != 0 }

    /// `BPF_MAP_FREEZE`.
    package func freeze() -> Int64 {
        // Of maps whose values have fields of the kernel's.
        if map.lockOffset != nil { return Self.notSupported }
        if flags & 0x8 != 0 || isFrozen { return Failure.notPermitted }
        unsafe cruntime_store32(frozen, 1)
        return 0
    }

    /// Whether a batch may look at elements and change them.
    func mayDo(reading: Bool, writing: Bool) -> Bool { (!reading || mayRead) && (!writing || mayWrite) }

    // MARK: Sizes

    /// Bytes of a value as commands have it: of per-CPU maps one for each CPU, each padded to 8 bytes.
    package var valueBytes: Int {
        let size = Int(map.valueSize)
        return map.isPerCPU ? ((size + 7) & ~7) * map.session.cpuCount : size
    }

    private var keyBytes: Int { Int(map.keySize) }

    /// Runs `body` with a key that may be read a word at a time.
    private func with<T>(_ key: [UInt8], _ body: (UnsafeRawPointer) -> T) -> T {
        var padded = key
        padded.append(contentsOf: repeatElement(0, count: max(0, keyBytes - key.count) + 8))
        if map.isTaskStorage { mark(&padded) }
        return unsafe padded.withUnsafeBytes { raw in
            // Never empty.
            unsafe body(raw.baseAddress ?? UnsafeRawPointer(frozen))
        }
    }

    /// Threads of this namespace are known by their numbers; those of others have their owner's.
    private func mark(_ key: inout [UInt8]) {
        let own = cruntime_namespace_mark()
        let number = (0..<4).reduce(0 as UInt32) { $0 | UInt32(key[$1]) << UInt32(8 * $1) }
        guard number >> 22 == 0 || number & ~0x3f_ffff == own else { return }
        for index in 0..<4 { key[index] = UInt8(truncatingIfNeeded: (number ^ own) >> UInt32(8 * index)) }
    }

    /// The value at a place, with those of the other CPUs.
    private func copy(_ body: (_ slot: Int) -> UnsafeMutableRawPointer?) -> [UInt8]? {
        let size = Int(map.valueSize)
        var bytes: [UInt8] = []
        for slot in 0..<(map.isPerCPU ? map.session.cpuCount : 1) {
            guard let place = unsafe body(slot) else { return nil }
            unsafe bytes.append(contentsOf: UnsafeRawBufferPointer(start: place, count: size))
            if map.isPerCPU { bytes.append(contentsOf: repeatElement(0, count: ((size + 7) & ~7) - size)) }
        }
        for index in map.hiddenBytes { bytes[index] = 0 }
        return bytes
    }

    private func fill(_ bytes: inout [UInt8], _ body: (UnsafeMutableRawPointer) -> Int64) -> Int64 {
        unsafe bytes.withUnsafeMutableBytes { raw in
            guard let base = raw.baseAddress else { return Failure.fault }
            return unsafe body(base)
        }
    }

    // MARK: One element

    /// `BPF_MAP_LOOKUP_ELEM`; `value` is asked for by bloom filters alone.
    package func lookup(_ key: [UInt8], value: [UInt8] = [], flags: UInt64 = 0) -> (status: Int64, value: [UInt8]) {
        if flags & ~UpdateFlag.lock != 0 { return (Failure.invalid, value) }
        if !mayRead { return (Failure.notPermitted, value) }
        if refusesFlags(flags) { return (Failure.invalid, value) }
        switch map.family {
        case .hash where flags != 0, .array where flags != 0:
            var found = value
            let status = unsafe with(key) { key in
                unsafe map.withLocked(key, tid) { place in found = unsafe copy { _ in unsafe place } ?? [] }
            }
            return (status, found)
        case .hash, .array, .lpmTrie, .mapArray:
            let found = unsafe with(key) { key in unsafe copy { slot in unsafe map.lookup(key, slot: slot) } }
            return found.map { (0, $0) } ?? (Failure.noEntry, value)
        case .programArray:
            let index = unsafe with(key) { unsafe map.arrayIndex($0) }
            guard index < map.maxEntries, unsafe cruntime_load32(map.programEntry(index)) != 0 else {
                return (Failure.noEntry, value)
            }
            return unsafe (0, copy { _ in unsafe UnsafeMutableRawPointer(map.programEntry(index)) } ?? [])
        case .queue, .bloomFilter:
            var bytes = value + [UInt8](repeating: 0, count: max(0, Int(map.valueSize) - value.count) + 8)
            let status = unsafe fill(&bytes) { unsafe map.peek($0, tid: tid) }
            return (status, Array(bytes.prefix(Int(map.valueSize))))
        case .stackTrace:
            var bytes = [UInt8](repeating: 0, count: Int(map.valueSize))
            let id = unsafe with(key) { unsafe map.arrayIndex($0) }
            return unsafe (fill(&bytes) { unsafe map.stackCopy(id, into: $0) }, bytes)
        case .cgroupArray, .perfEventArray, .ringBuffer, nil:
            return (Self.notSupported, value)
        }
    }

    /// `BPF_MAP_UPDATE_ELEM`; of maps without keys a push.
    package func update(_ key: [UInt8], _ value: [UInt8], flags: UInt64 = 0) -> Int64 {
        if !mayWrite { return Failure.notPermitted }
        if flags & UpdateFlag.lock != 0, map.lockOffset == nil { return Failure.invalid }
        return unsafe with(key) { key in
            let bytes = value + [UInt8](repeating: 0, count: max(0, valueBytes - value.count) + 8)
            return unsafe bytes.withUnsafeBytes { raw in
                guard let base = raw.baseAddress else { return Failure.fault }
                return unsafe put(key, base, flags)
            }
        }
    }

    private func put(_ key: UnsafeRawPointer, _ value: UnsafeRawPointer, _ flags: UInt64) -> Int64 {
        switch map.family {
        case .queue, .bloomFilter: unsafe map.push(value, flags: flags, tid: tid)
        case .ringBuffer: Self.notSupported
        case .cgroupArray: unsafe putCgroup(map.arrayIndex(key), Int32(bitPattern: map.arrayIndex(value)), flags)
        case .hash, .array, .lpmTrie, .mapArray, .programArray, .stackTrace, .perfEventArray, nil:
            unsafe map.update(key, value, flags: flags, tid: tid, slot: -1)
        }
    }

    /// `BPF_MAP_DELETE_ELEM`.
    package func delete(_ key: [UInt8]) -> Int64 {
        if !mayWrite { return Failure.notPermitted }
        if case .ringBuffer = map.family { return Self.notSupported }
        return unsafe with(key) { unsafe map.delete($0, tid: tid) }
    }

    /// `BPF_MAP_GET_NEXT_KEY`.
    package func nextKey(_ key: [UInt8]?) -> (status: Int64, key: [UInt8]) {
        if !mayRead { return (Failure.notPermitted, []) }
        if case .ringBuffer = map.family { return (Self.notSupported, []) }
        if map.isTaskStorage, key == nil { map.sweepAll(tid) }
        var next = [UInt8](repeating: 0, count: keyBytes + 8)
        let status = unsafe fill(&next) { next in
            guard let key else { return unsafe map.nextKey(nil, into: next) }
            return unsafe with(key) { unsafe map.nextKey($0, into: next) }
        }
        if map.isTaskStorage { mark(&next) }
        return (status, Array(next.prefix(keyBytes)))
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`; of maps without keys a pop.
    package func take(_ key: [UInt8], flags: UInt64 = 0) -> (status: Int64, value: [UInt8]) {
        if flags & ~UpdateFlag.lock != 0 { return (Failure.invalid, []) }
        if !mayRead || !mayWrite { return (Failure.notPermitted, []) }
        if refusesFlags(flags) { return (Failure.invalid, []) }
        switch map.family {
        case .queue:
            var bytes = [UInt8](repeating: 0, count: Int(map.valueSize) + 8)
            let status = unsafe fill(&bytes) { unsafe map.pop($0, tid: tid) }
            return (status, Array(bytes.prefix(Int(map.valueSize))))
        case .hash where !map.holdsMaps && !map.isTaskStorage:
            var value: [UInt8] = []
            let status = unsafe with(key) { key in
                unsafe map.hashTake(key, tid: tid) { node in
                    let read = { value = unsafe copy { slot in unsafe map.nodeValue(node, slot: slot) } ?? [] }
                    if flags != 0 { return unsafe map.withLock(of: map.nodeValue(node, slot: 0), tid, read) }
                    read()
                    return 0
                }
            }
            return (status, value)
        case .stackTrace:
            let found = lookup(key)
            return found.status == 0 ? (delete(key), found.value) : found
        case .hash, .array, .lpmTrie, .mapArray, .programArray, .bloomFilter, .cgroupArray, .perfEventArray,
            .ringBuffer, nil:
            return (Self.notSupported, [])
        }
    }

    // MARK: Control groups

    /// Puts the control group behind a descriptor into a CGROUP_ARRAY (kernel/bpf/arraymap.c, `bpf_fd_array_map_update_elem`).
    private func putCgroup(_ index: UInt32, _ descriptor: Int32, _ flags: UInt64) -> Int64 {
        if flags != 0 { return Failure.invalid }
        if index >= map.maxEntries { return Failure.tooBig }
        let id = controlGroup(of: descriptor)
        if id == 0 { return Failure.badDescriptor }
        unsafe cruntime_store64(map.cgroupEntry(index), id)
        return 0
    }
}

/// The id of the control group whose directory a descriptor is of; 0 for anything else.
///
/// That is the directory's inode number (fs/kernfs/dir.c, `kernfs_ino`; numbers have 64 bits on x86-64).
package func controlGroup(of descriptor: Int32) -> UInt64 {
    // struct stat and struct statfs; fstat and fstatfs by their numbers, as libc is not for this module.
    var words = [UInt64](repeating: 0, count: 32)
    func ask(_ call: Int64) -> Bool {
        unsafe words.withUnsafeMutableBytes {
            cruntime_syscall(call, Int64(descriptor), Int64(Int(bitPattern: $0.baseAddress)), 0, 0, 0, 0) == 0
        }
    }
    // CGROUP2_SUPER_MAGIC
    guard ask(138), words[0] == 0x6367_7270, ask(5) else { return 0 }
    // S_ISDIR
    return words[3] & 0xf000 == 0x4000 ? words[1] : 0
}
