import CRuntime
package import CSession
package import ISA

/// Lays out a session's image and shared segment: maps first, then programs.
///
/// Maps must all be added before `layoutMaps()`; from then on `valueLocation` answers and programs can be linked.
package struct SessionBuilder {
    private let cpuCount: UInt32
    private let probeCapacity: Int
    private let perfRingSize: UInt32
    private let seed: UInt64
    /// Where fields of the kernel's task_struct lie, for `bpf_get_current_task`.
    package var task = csession_task()
    private var maps: [(parameters: MapParameters, layout: MapLayout)] = []
    private var shapes = MapShapes()
    private var isLaidOut = false
    private var logMap = UInt32.max
    private var programs: [csession_program] = []
    private var instructions: [LinkedInstruction] = []
    // Offsets, known once the maps are laid out.
    private var rodata = csession_range()
    private var statisticsOffset: UInt64 = 0
    private var modulesOffset: UInt64 = 0
    private var cpuSlotsOffset: UInt64 = 0
    private var keys = csession_range()
    private var guest = csession_range()
    private var sharedSize: UInt64 = 0

    /// Modules that a session can name.
    private static var modulesCapacity: UInt32 { 1024 }

    /// Probes that a session can count.
    package static var probeCapacity: Int { 16384 }

    /// Sets of counters: one for everybody, and one each for so many threads.
    private static let statisticShards = 32

    /// A builder for a machine with CPUs 0..<`cpuCount`.
    ///
    /// `probeCapacity` bounds the statistics and `perfRingSize`, a power of two, is what a PERF_EVENT_ARRAY buffers; both
    /// only take address space until used. `seed` is for hashing; nil takes a random one.
    package init(
        cpuCount: Int,
        probeCapacity: Int = SessionBuilder.probeCapacity,
        perfRingSize: UInt32 = 1 << 20,
        seed: UInt64? = nil
    ) {
        self.cpuCount = UInt32(max(cpuCount, 1))
        self.probeCapacity = probeCapacity
        self.perfRingSize = perfRingSize
        self.seed = seed ?? randomSeed()
    }

    /// Adds a map and returns its index; refuses what the kernel's `BPF_MAP_CREATE` would refuse.
    package mutating func addMap(_ map: MapParameters) throws(SessionError) -> Int {
        if isLaidOut { throw .layoutFrozen(map.name) }
        let family = try map.check()
        var layout = try MapLayout(map, family: family, cpuCount: cpuCount, perfRingSize: perfRingSize)
        layout.descriptor.shape = shapes.number(map)
        if let inner = map.inner.first { layout.descriptor.inner_shape = shapes.number(inner) }
        maps.append((map, layout))
        return maps.count - 1
    }

    /// Whether map `inner` may be inside the map of maps `outer`.
    package func takes(_ inner: Int, inside outer: Int) -> Bool {
        maps[inner].layout.descriptor.shape == maps[outer].layout.descriptor.inner_shape
    }

    /// Adds the ring that takes `bpf_trace_printk` lines and returns its index.
    package mutating func addLogRing(size: UInt32 = 64 << 10) throws(SessionError) -> Int {
        let ring = MapParameters(name: "log", type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: size)
        let index = try addMap(ring)
        logMap = UInt32(index)
        return index
    }

    /// Fixes every map's place; no map can be added afterwards.
    package mutating func layoutMaps() {
        if isLaidOut { return }
        isLaidOut = true
        rodata.offset = alignUp(
            UInt64(MemoryLayout<csession_image>.stride + maps.count * MemoryLayout<csession_map>.stride),
            to: 64
        )
        var image = rodata.offset
        var shared = alignUp(UInt64(MemoryLayout<csession_shared>.stride), to: 64)
        statisticsOffset = reserve(
            &shared,
            UInt64(Self.statisticShards * probeCapacity * MemoryLayout<csession_statistics>.stride)
        )
        modulesOffset = reserve(&shared, UInt64(Int(Self.modulesCapacity) * MemoryLayout<csession_module>.stride))
        cpuSlotsOffset = reserve(&shared, UInt64(cpuCount) * MetaSize.cpuSlot)
        for index in maps.indices {
            maps[index].layout.descriptor.meta_offset = reserve(&shared, maps[index].layout.metaSize)
            if maps[index].layout.valuesPart == .meta {
                maps[index].layout.descriptor.values_offset = reserve(
                    &shared,
                    maps[index].layout.descriptor.values_size
                )
            }
        }
        keys.offset = shared
        for index in maps.indices {
            maps[index].layout.descriptor.keys_offset = reserve(&shared, maps[index].layout.keysSize)
        }
        keys.size = shared - keys.offset
        // Pages of their own: no private byte shares a page with what programs write.
        guest.offset = alignUp(shared, to: 4096)
        shared = guest.offset
        for index in maps.indices {
            switch maps[index].layout.valuesPart {
            case .guest:
                let isKernels = maps[index].layout.descriptor.kernel != 0
                if isKernels { shared = alignUp(shared, to: 4096) }
                maps[index].layout.descriptor.values_offset = reserve(
                    &shared,
                    maps[index].layout.descriptor.values_size
                )
                if isKernels { shared = alignUp(shared, to: 4096) }
            case .image:
                maps[index].layout.descriptor.storage = CSESSION_STORAGE_IMAGE.rawValue
                maps[index].layout.descriptor.values_offset = reserve(&image, maps[index].layout.descriptor.values_size)
            case .meta:
                break
            }
        }
        guest.size = shared - guest.offset
        rodata.size = image - rodata.offset
        sharedSize = alignUp(shared, to: 4096)
    }

    /// Where byte `offset` of map `map`'s first value lies; maps are laid out by the first call.
    package mutating func valueLocation(map: Int, offset: UInt64) -> ValueLocation {
        layoutMaps()
        let descriptor = maps[map].layout.descriptor
        return ValueLocation(storage: descriptor.storage, offset: descriptor.values_offset + offset)
    }

    /// Adds a linked program and returns its index.
    package mutating func addProgram(name: String, type: ProgramType, instructions more: [LinkedInstruction]) -> Int {
        var program = csession_program()
        program.first_instruction = UInt32(instructions.count)
        program.instruction_count = UInt32(more.count)
        program.type = type.rawValue
        unsafe withUnsafeMutableBytes(of: &program.name) { unsafe storeName(name, in: $0) }
        instructions.append(contentsOf: more)
        programs.append(program)
        return programs.count - 1
    }

    /// The finished session, owned by the calling process's thread `ownerTid`.
    package mutating func finish(ownerPid: UInt32, ownerTid: UInt32, flags: UInt32 = 0) -> SessionImage {
        layoutMaps()
        var end = rodata.offset + rodata.size
        var header = csession_image()
        header.magic = CSESSION_MAGIC
        header.version = CSESSION_VERSION
        header.cpu_count = cpuCount
        header.shared_size = sharedSize
        header.map_count = UInt32(maps.count)
        header.program_count = UInt32(programs.count)
        header.instruction_count = UInt32(instructions.count)
        header.statistics_capacity = UInt32(probeCapacity)
        header.statistic_shards = UInt32(Self.statisticShards)
        header.flags = flags
        header.session_id = randomSeed() | 1
        header.task = task
        header.owner_tid = ownerTid
        header.owner_pid = ownerPid
        header.maps_offset = UInt64(MemoryLayout<csession_image>.stride)
        header.programs_offset = reserve(&end, size(of: programs))
        header.instructions_offset = reserve(&end, size(of: instructions))
        header.rodata = rodata
        header.statistics_offset = statisticsOffset
        header.modules_offset = modulesOffset
        header.modules_capacity = Self.modulesCapacity
        header.log_map = logMap
        header.guest = guest
        header.keys = keys
        header.cpu_slots_offset = cpuSlotsOffset
        header.image_size = end

        var bytes = [UInt8](repeating: 0, count: Int(end))
        place([header], at: 0, in: &bytes)
        place(descriptors(), at: header.maps_offset, in: &bytes)
        place(programs, at: header.programs_offset, in: &bytes)
        place(instructions, at: header.instructions_offset, in: &bytes)
        for map in maps where map.layout.valuesPart == .image {
            place(spread(map), at: map.layout.descriptor.values_offset, in: &bytes)
        }
        return SessionImage(
            bytes: bytes,
            sharedSize: Int(sharedSize),
            initial: initialShared(),
            identifier: header.session_id
        )
    }

    private func descriptors() -> [csession_map] {
        maps.map { map in
            var descriptor = map.layout.descriptor
            unsafe withUnsafeMutableBytes(of: &descriptor.name) { unsafe storeName(map.parameters.name, in: $0) }
            return descriptor
        }
    }

    private func initialShared() -> [(offset: UInt64, bytes: [UInt8])] {
        var header = csession_shared()
        header.magic = CSESSION_MAGIC
        header.size = sharedSize
        var parts: [(offset: UInt64, bytes: [UInt8])] = [(0, bytesOf(header))]
        for map in maps {
            let descriptor = map.layout.descriptor
            if descriptor.bucket_count != 0 {
                let mapSeed = map.parameters.flags & MapFlag.zeroSeed != 0 ? 0 : seed
                parts.append((descriptor.meta_offset + MetaOffset.seed, bytesOf(mapSeed)))
            }
            // What the kernel's map has is newer.
            if map.layout.valuesPart == .guest, map.parameters.contents != nil, descriptor.kernel == 0 {
                parts.append((descriptor.values_offset, spread(map)))
            }
        }
        return parts
    }

    /// An array's contents with each value at its stride.
    private func spread(_ map: (parameters: MapParameters, layout: MapLayout)) -> [UInt8] {
        let contents = map.parameters.contents ?? []
        let size = Int(map.parameters.valueSize)
        let stride = Int(map.layout.descriptor.value_stride)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(contents.count + stride)
        var start = 0
        while start < contents.count {
            bytes.append(contentsOf: contents[start..<min(start + size, contents.count)])
            start += size
            if start < contents.count { bytes.append(contentsOf: [UInt8](repeating: 0, count: stride - size)) }
        }
        return bytes
    }
}

/// Takes `size` bytes at the next cache line.
func reserve(_ end: inout UInt64, _ size: UInt64) -> UInt64 {
    let offset = alignUp(end, to: 64)
    end = offset + size
    return offset
}

func size<T>(of array: [T]) -> UInt64 {
    UInt64(array.count * MemoryLayout<T>.stride)
}

func place<T>(_ values: [T], at offset: UInt64, in bytes: inout [UInt8]) {
    unsafe values.withUnsafeBytes { from in
        unsafe bytes.withUnsafeMutableBytes { to in
            guard let base = to.baseAddress, let source = from.baseAddress else { return }
            unsafe base.advanced(by: Int(offset)).copyMemory(from: source, byteCount: from.count)
        }
    }
}

private func bytesOf<T: BitwiseCopyable>(_ value: T) -> [UInt8] {
    unsafe withUnsafeBytes(of: value) { unsafe [UInt8]($0) }
}

/// Stores a name cut to leave a NUL at the end of the zeroed `field`.
private func storeName(_ name: String, in field: UnsafeMutableRawBufferPointer) {
    var index = 0
    for byte in name.utf8 where index < field.count - 1 {
        unsafe field[index] = byte
        index += 1
    }
}

/// 64 random bits by getrandom(2), which no seccomp default forbids; the clock where it fails.
private func randomSeed() -> UInt64 {
    var seed: UInt64 = 0
    let number: Int64 = 318
    let got = unsafe withUnsafeMutablePointer(to: &seed) { pointer in
        cruntime_syscall(number, Int64(Int(bitPattern: pointer)), 8, 1, 0, 0, 0)
    }
    return got == 8 ? seed : cruntime_monotonic_ns() &* 0x9e37_79b9_7f4a_7c15
}
