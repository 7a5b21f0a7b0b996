package import ISA

/// A map to be made, as an object's definition gives it.
package struct MapParameters: Sendable {
    package var name: String
    package var type: MapType
    package var keySize: UInt32
    package var valueSize: UInt32
    package var maxEntries: UInt32
    package var flags: UInt32
    /// `map_extra`: in bloom filters the number of hash functions.
    package var extra: UInt64
    /// The first bytes of an array's values (`.data`, `.rodata`); the rest is zero.
    package var contents: [UInt8]?
    /// The values never change: they live in the sealed image.
    package var isFrozen: Bool
    /// What the value's special fields are and where, as any number; maps inside maps have to agree in it.
    package var record: UInt64 = 0
    /// The template of the maps inside a map of maps: one or none.
    package var inner: [MapParameters] = []
    /// Where a `struct bpf_spin_lock` lies in the value.
    package var lock: Int?
    /// The descriptor of the kernel's map whose memory the values are.
    package var kernel: Int32?

    package init(
        name: String,
        type: MapType,
        keySize: UInt32,
        valueSize: UInt32,
        maxEntries: UInt32,
        flags: UInt32 = 0,
        extra: UInt64 = 0,
        contents: [UInt8]? = nil,
        isFrozen: Bool = false,
        lock: Int? = nil
    ) {
        self.name = name
        self.type = type
        self.keySize = keySize
        self.valueSize = valueSize
        self.maxEntries = maxEntries
        self.flags = flags
        self.extra = extra
        self.contents = contents
        self.isFrozen = isFrozen
        self.lock = lock
    }

    /// Checks what the kernel's `map_alloc_check` checks, in its order.
    func check() throws(SessionError) -> MapFamily {
        guard let family = MapFamily(type) else { throw .mapType(name, type) }
        switch family {
        case .hash where type == .taskStorage: try checkTaskStorage()
        case .hash: try checkHash(perCPU: type.isPerCPU)
        case .array: try checkArray(perCPU: type.isPerCPU)
        case .queue: try checkQueue()
        case .bloomFilter: try checkBloomFilter()
        case .lpmTrie: try checkTrie()
        case .programArray, .cgroupArray: try checkDescriptors(entriesNeeded: true)
        case .perfEventArray: try checkDescriptors(entriesNeeded: false)
        case .stackTrace: try checkStackTrace()
        case .ringBuffer: try checkRing()
        case .mapArray: try checkDescriptors(entriesNeeded: true)
        }
        if type.holdsMaps { try checkInner() }
        if let contents,
            family != .array || type.isPerCPU || UInt64(contents.count) > UInt64(valueSize) * UInt64(maxEntries)
        {
            throw .contentsSize(name, contents.count, UInt64(valueSize) * UInt64(maxEntries))
        }
        if let lock { try checkLock(lock) }
        return family
    }

    /// kernel/bpf/syscall.c, `map_check_btf`.
    private func checkLock(_ offset: Int) throws(SessionError) {
        guard type == .hash || type == .array else { throw .lockInType(name, type) }
        guard flags & MapFlag.programAccess == 0, !isFrozen else { throw .lockInReadOnly(name) }
        guard offset >= 0, offset % 4 == 0, offset + 4 <= Int(valueSize) else { throw .lockOffset(name, offset) }
    }

    /// `KMALLOC_MAX_SIZE` (4 MiB), the kernel's limit of an element.
    private static var elementLimit: UInt64 { 4 << 20 }
    /// `PCPU_MIN_UNIT_SIZE`, the kernel's limit of a per-CPU value.
    private static var perCPULimit: UInt64 { 32 << 10 }

    private func allow(_ allowed: UInt32) throws(SessionError) {
        if flags & ~allowed != 0 { throw .flags(name, flags & ~allowed) }
    }

    /// kernel/bpf/hashtab.c, `htab_map_alloc_check`.
    private func checkHash(perCPU: Bool) throws(SessionError) {
        if type.holdsMaps, valueSize != 4 { throw .valueSize(name, valueSize, "4") }
        try allow(
            (type.isLRU ? MapFlag.noCommonLRU : MapFlag.noPreallocation) | MapFlag.numaNode | MapFlag.userAccess
                | MapFlag.programAccess | MapFlag.zeroSeed
        )
        if maxEntries == 0 { throw .noEntries(name) }
        if keySize == 0 { throw .keySize(name, 0, "at least 1") }
        if valueSize == 0 { throw .valueSize(name, 0, "at least 1") }
        let element = UInt64(keySize) + UInt64(valueSize)
        // The kernel counts 64 bytes of `struct htab_elem` too.
        if element >= Self.elementLimit - 64 { throw .elementTooBig(name, element, Self.elementLimit - 65) }
        if perCPU, UInt64(valueSize) > Self.perCPULimit {
            throw .elementTooBig(name, UInt64(valueSize), Self.perCPULimit)
        }
    }

    /// kernel/bpf/bpf_local_storage.c, `bpf_local_storage_map_alloc_check`.
    private func checkTaskStorage() throws(SessionError) {
        try allow(MapFlag.noPreallocation)
        if flags & MapFlag.noPreallocation == 0 { throw .preallocated(name, "a TASK_STORAGE") }
        if maxEntries != 0 { throw .entries(name, maxEntries) }
        if keySize != 4 { throw .keySize(name, keySize, "4") }
        if valueSize == 0 { throw .valueSize(name, 0, "at least 1") }
        // BPF_LOCAL_STORAGE_MAX_VALUE_SIZE, with a `struct bpf_local_storage_elem` of 64 bytes.
        if valueSize > 0xffff - 64 { throw .elementTooBig(name, UInt64(valueSize), 0xffff - 64) }
    }

    /// kernel/bpf/arraymap.c, `array_map_alloc_check`.
    private func checkArray(perCPU: Bool) throws(SessionError) {
        try allow(
            MapFlag.numaNode | MapFlag.userAccess | MapFlag.programAccess
                | (perCPU ? 0 : MapFlag.mmapable | MapFlag.innerMap)
        )
        if maxEntries == 0 { throw .noEntries(name) }
        if keySize != 4 { throw .keySize(name, keySize, "4") }
        if valueSize == 0 { throw .valueSize(name, 0, "at least 1") }
        if valueSize > UInt32(Int32.max) { throw .elementTooBig(name, UInt64(valueSize), UInt64(Int32.max)) }
        if perCPU, UInt64(valueSize) > Self.perCPULimit {
            throw .elementTooBig(name, UInt64(valueSize), Self.perCPULimit)
        }
    }

    /// kernel/bpf/queue_stack_maps.c, `queue_stack_map_alloc_check`.
    private func checkQueue() throws(SessionError) {
        try allow(MapFlag.numaNode | MapFlag.userAccess | MapFlag.programAccess)
        if maxEntries == 0 { throw .noEntries(name) }
        if keySize != 0 { throw .keySize(name, keySize, "0") }
        if valueSize == 0 { throw .valueSize(name, 0, "at least 1") }
        if UInt64(valueSize) > Self.elementLimit { throw .elementTooBig(name, UInt64(valueSize), Self.elementLimit) }
    }

    /// kernel/bpf/bloom_filter.c, `bloom_map_alloc`.
    private func checkBloomFilter() throws(SessionError) {
        try allow(MapFlag.numaNode | MapFlag.zeroSeed | MapFlag.userAccess | MapFlag.programAccess)
        if maxEntries == 0 { throw .noEntries(name) }
        if keySize != 0 { throw .keySize(name, keySize, "0") }
        if valueSize == 0 { throw .valueSize(name, 0, "at least 1") }
        if extra > 15 { throw .extra(name, extra, "the number of hash functions, 1 to 15 or 0 for 5") }
    }

    /// kernel/bpf/lpm_trie.c, `trie_alloc`.
    private func checkTrie() throws(SessionError) {
        try allow(MapFlag.noPreallocation | MapFlag.numaNode | MapFlag.userAccess | MapFlag.programAccess)
        if maxEntries == 0 { throw .noEntries(name) }
        if flags & MapFlag.noPreallocation == 0 { throw .preallocated(name, "an LPM_TRIE") }
        if keySize < 5 || keySize > 4 + 256 { throw .keySize(name, keySize, "5 to 260") }
        if valueSize == 0 { throw .valueSize(name, 0, "at least 1") }
        if UInt64(valueSize) > Self.elementLimit - 512 {
            throw .elementTooBig(name, UInt64(valueSize), Self.elementLimit - 512)
        }
    }

    /// kernel/bpf/arraymap.c, `fd_array_map_alloc_check`.
    private func checkDescriptors(entriesNeeded: Bool) throws(SessionError) {
        try allow(MapFlag.numaNode | MapFlag.userAccess)
        if entriesNeeded, maxEntries == 0 { throw .noEntries(name) }
        if keySize != 4 { throw .keySize(name, keySize, "4") }
        if valueSize != 4 { throw .valueSize(name, valueSize, "4") }
    }

    /// kernel/bpf/stackmap.c, `stack_map_alloc`.
    private func checkStackTrace() throws(SessionError) {
        try allow(MapFlag.numaNode | MapFlag.userAccess)
        if maxEntries == 0 { throw .noEntries(name) }
        if keySize != 4 { throw .keySize(name, keySize, "4") }
        if valueSize < 8 || valueSize % 8 != 0 || valueSize / 8 > UInt32(stackDepthLimit) {
            throw .valueSize(name, valueSize, "8 to 1016 and a multiple of 8")
        }
    }

    /// kernel/bpf/map_in_map.c, `bpf_map_meta_alloc`.
    private func checkInner() throws(SessionError) {
        guard let inner = inner.first else { throw .noTemplate(name) }
        switch try inner.check() {
        case .programArray, .mapArray: throw .innerType(name, inner.type)
        case .hash where inner.type.holdsMaps: throw .innerType(name, inner.type)
        case .hash, .array, .queue, .bloomFilter, .lpmTrie, .perfEventArray, .stackTrace, .cgroupArray, .ringBuffer:
            break
        }
    }

    /// kernel/bpf/ringbuf.c, `ringbuf_map_alloc`.
    private func checkRing() throws(SessionError) {
        try allow(MapFlag.numaNode)
        if keySize != 0 { throw .keySize(name, keySize, "0") }
        if valueSize != 0 { throw .valueSize(name, valueSize, "0") }
        if maxEntries < 4096 || maxEntries & (maxEntries &- 1) != 0 { throw .ringSize(name, maxEntries) }
    }
}

/// Frames that a stack may have: `kernel.perf_event_max_stack`'s default.
package var stackDepthLimit: Int {
    @_noLocks get { 127 }
}
