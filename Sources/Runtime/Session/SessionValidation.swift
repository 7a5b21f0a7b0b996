import CSession
import ISA

extension SessionView {
    /// Refuses segments that are not a whole session of this version; every offset that is used later is checked here.
    @_optimize(size)
    package func validate(imageSize: Int, sharedSize: Int) throws(SessionDamage) {
        guard imageSize >= MemoryLayout<csession_image>.size else {
            throw SessionDamage(.image, .tooShort, UInt64(imageSize))
        }
        let header = unsafe self.header.pointee
        guard header.magic == CSESSION_MAGIC else {
            throw SessionDamage(.image, .noMagic)
        }
        guard header.version == CSESSION_VERSION else {
            throw SessionDamage(.image, .version, UInt64(header.version))
        }
        guard header.image_size <= UInt64(imageSize) else {
            throw SessionDamage(.image, .cutOff, UInt64(imageSize), header.image_size)
        }
        guard header.shared_size <= UInt64(sharedSize), sharedSize >= MemoryLayout<csession_shared>.size else {
            throw SessionDamage(.shared, .cutOff, UInt64(sharedSize), header.shared_size)
        }
        guard unsafe sharedHeader.pointee.magic == CSESSION_MAGIC else {
            throw SessionDamage(.shared, .noMagic)
        }
        guard header.cpu_count > 0 else { throw SessionDamage(.image, .noCPUs) }
        try checkTables(header)
        for index in 0..<Int(header.map_count) { try unsafe checkMap(map(index).pointee, header) }
        for index in 0..<Int(header.program_count) {
            let it = unsafe program(index).pointee
            guard UInt64(it.first_instruction) + UInt64(it.instruction_count) <= UInt64(header.instruction_count) else {
                throw SessionDamage(.image, .program, UInt64(index))
            }
        }
    }

    @_optimize(size)
    private func checkTables(_ header: csession_image) throws(SessionDamage) {
        let image = header.image_size
        let shared = header.shared_size
        guard header.statistic_shards >= 1 else { throw SessionDamage(.image, .noStatistics) }
        let inImage: [(UInt64, UInt64, Int)] = [
            (header.maps_offset, UInt64(header.map_count), MemoryLayout<csession_map>.stride),
            (header.programs_offset, UInt64(header.program_count), MemoryLayout<csession_program>.stride),
            (header.instructions_offset, UInt64(header.instruction_count), MemoryLayout<LinkedInstruction>.stride),
            (header.rodata.offset, header.rodata.size, 1),
        ]
        for (offset, count, stride) in inImage where !fits(offset, count, UInt64(stride), in: image) {
            throw SessionDamage(.image, .table, offset, image)
        }
        let inShared: [(UInt64, UInt64, Int)] = [
            (
                header.statistics_offset, UInt64(header.statistics_capacity) * UInt64(header.statistic_shards),
                MemoryLayout<csession_statistics>.stride
            ),
            (header.modules_offset, UInt64(header.modules_capacity), MemoryLayout<csession_module>.stride),
            (header.cpu_slots_offset, UInt64(header.cpu_count), Int(MetaSize.cpuSlot)),
            (header.guest.offset, header.guest.size, 1),
            (header.keys.offset, header.keys.size, 1),
        ]
        for (offset, count, stride) in inShared where !fits(offset, count, UInt64(stride), in: shared) {
            throw SessionDamage(.shared, .table, offset, shared)
        }
    }

    @_optimize(size)
    private func checkMap(_ map: csession_map, _ header: csession_image) throws(SessionDamage) {
        guard let family = MapFamily(number: map.type) else { throw SessionDamage(.image, .mapType, UInt64(map.type)) }
        let buckets = UInt64(map.bucket_count)
        let stride = UInt64(map.value_stride)
        let sizes = MapSizes(map, family, cpuCount: header.cpu_count)
        let needsBuckets: Bool
        var keyRoom = UInt64(map.key_size)
        switch family {
        case .hash, .lpmTrie:
            needsBuckets = true
            keyRoom += MetaSize.hashNode + (map.type == 9 || map.type == 10 || map.type == taskStorageType ? 8 : 0)
            guard family == .hash || (map.key_size > 4 && map.key_size <= 4 + 256) else {
                throw SessionDamage(.image, .trieKey, UInt64(map.key_size))
            }
        case .stackTrace, .bloomFilter: needsBuckets = true
        case .ringBuffer, .perfEventArray:
            needsBuckets = false
            guard map.ring_size >= 8, map.ring_size & (map.ring_size - 1) == 0 else {
                throw SessionDamage(.image, .ringSize, map.ring_size)
            }
        case .queue:
            needsBuckets = false
            guard map.max_entries > 0 else { throw SessionDamage(.image, .emptyQueue) }
        case .array, .programArray, .mapArray, .cgroupArray: needsBuckets = false
        }
        guard
            !needsBuckets
                || (buckets > 0 && buckets & (buckets - 1) == 0 && UInt64(map.key_stride) >= keyRoom
                    && map.node_count > 0)
        else {
            throw SessionDamage(.image, .buckets, buckets)
        }
        guard map.lock == 0 || isLockPlace(map, family) else {
            throw SessionDamage(.image, .lock)
        }
        let storage = map.storage == CSESSION_STORAGE_IMAGE.rawValue ? header.image_size : header.shared_size
        guard fits(map.meta_offset, sizes.meta, 1, in: header.shared_size),
            fits(map.keys_offset, sizes.keys, 1, in: header.shared_size),
            fits(map.values_offset, sizes.values, 1, in: storage), sizes.values <= map.values_size || map.storage != 0,
            stride >= UInt64(family == .programArray || family == .mapArray ? 4 : map.value_size)
        else { throw SessionDamage(.image, .mapPlace) }
        // Its memory is put over the session's: whole pages inside of it, and no more than the values.
        let pages = map.values_size &+ 4095 & ~4095
        guard
            map.kernel == 0
                || map.type == 2 && map.storage == CSESSION_STORAGE_SHARED.rawValue && map.values_size == sizes.values
                    && map.values_size > 0 && map.values_offset % 4096 == 0 && map.values_offset >= 4096
                    && pages >= map.values_size && fits(map.values_offset, pages, 1, in: header.shared_size)
        else { throw SessionDamage(.image, .mapPlace) }
    }
}

/// Whether a map's lock lies in its values, which programs may write.
private func isLockPlace(_ map: csession_map, _ family: MapFamily) -> Bool {
    (map.type == 1 || map.type == 2) && map.storage == CSESSION_STORAGE_SHARED.rawValue && map.lock % 4 == 1
        && map.value_size >= 4 && map.lock - 1 <= map.value_size - 4
}

/// Whether `count` records of `stride` bytes at `offset` end within `size`, for any values.
func fits(_ offset: UInt64, _ count: UInt64, _ stride: UInt64, in size: UInt64) -> Bool {
    let (bytes, overflow) = count.multipliedReportingOverflow(by: stride)
    return !overflow && offset <= size && bytes <= size - offset && offset % (stride == 1 ? 1 : 8) == 0
}
