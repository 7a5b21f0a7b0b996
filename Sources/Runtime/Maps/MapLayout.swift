import CSession
import ISA

/// Where things lie in a map's private part, as offsets from `csession_map.meta_offset`.
///
/// Zero bytes are the right initial state of everything but the seed, so a fresh segment costs no page until it is used.
enum MetaOffset {
    // MARK: Node pools (hash maps, stack traces); fields that writers share have cache lines of their own
    /// `u64`: tag in the upper half, node number in the lower.
    static var freeHead: UInt64 { @_noLocks get { 0 } }
    /// `u32`: elements in the map.
    static var count: UInt64 { @_noLocks get { 64 } }
    /// `u32`: nodes that were ever handed out.
    static var fresh: UInt64 { @_noLocks get { 128 } }
    /// `u64`: hash seed; constant.
    static var seed: UInt64 { @_noLocks get { 192 } }
    /// Buckets, then nodes.
    static var buckets: UInt64 { @_noLocks get { 256 } }

    // MARK: Rings
    /// `u64`: bytes ever reserved.
    static var producer: UInt64 { @_noLocks get { 0 } }
    /// `u32`: tid of the producer that reserves.
    static var ringLock: UInt64 { @_noLocks get { 8 } }
    /// `u64`: records that found no room.
    static var dropped: UInt64 { @_noLocks get { 16 } }
    /// `u64`: bytes ever consumed; written by the consumer only.
    static var consumer: UInt64 { @_noLocks get { 64 } }
    static var ringSize: UInt64 { @_noLocks get { 128 } }
}

/// Sizes of the records in a map's private part.
enum MetaSize {
    /// `u32 head, version, lock, unused`.
    static var hashBucket: UInt64 { @_noLocks get { 16 } }
    /// `u32 next, hash, free next, unused`.
    static var hashNode: UInt64 { @_noLocks get { 16 } }
    /// `u64`: generation in the upper half, node number in the lower.
    static var stackBucket: UInt64 { @_noLocks get { 8 } }
    /// `u32 hash, frames, free next, unused`.
    static var stackNode: UInt64 { @_noLocks get { 16 } }
    /// A per-CPU slot's owner; a cache line.
    static var cpuSlot: UInt64 { @_noLocks get { 64 } }
}

/// Nodes beyond `max_entries`: updates in flight, and what dead writers leak.
let spareNodes: UInt64 = 64

/// The smallest multiple of `alignment`, a power of two, that is not below `value`.
@_noLocks
func alignUp(_ value: UInt64, to alignment: UInt64) -> UInt64 {
    (value &+ alignment &- 1) & ~(alignment &- 1)
}

/// Bytes from one CPU's values to the next one's.
@_noLocks
func perCPUBlock(_ entries: UInt64, stride: UInt64) -> UInt64 {
    alignUp(entries &* stride, to: 64)
}

/// What a map takes of each part of the segments.
struct MapLayout {
    enum ValuesPart {
        case guest, meta, image
    }

    var descriptor: csession_map
    var metaSize: UInt64
    var keysSize: UInt64
    var valuesPart: ValuesPart

    /// The most that one map may take; segments are sparse, so this bounds address space, not memory.
    private static var limit: UInt64 { 16 << 30 }

    init(_ map: MapParameters, family: MapFamily, cpuCount: UInt32, perfRingSize: UInt32) throws(SessionError) {
        var it = csession_map()
        it.type = map.type.rawValue
        it.key_size = map.keySize
        it.value_size = map.valueSize
        it.max_entries = map.maxEntries
        it.flags = map.flags
        it.value_stride = UInt32(alignUp(UInt64(map.valueSize), to: 8))
        it.key_stride = UInt32(alignUp(UInt64(map.keySize), to: 8))
        metaSize = 0
        keysSize = 0
        valuesPart = .guest
        let entries = UInt64(map.maxEntries)
        let stride = UInt64(it.value_stride)
        switch family {
        case .hash, .perCPUHash:
            let nodes = entries + spareNodes
            let buckets = Self.powerOfTwo(entries)
            if nodes >= 1 << 31 { throw .mapTooBig(map.name, nodes, 1 << 31) }
            it.bucket_count = UInt32(buckets)
            it.node_count = UInt32(nodes)
            metaSize = MetaOffset.buckets + buckets * MetaSize.hashBucket + nodes * MetaSize.hashNode
            keysSize = nodes * UInt64(it.key_stride)
            let block = family == .hash ? nodes * stride : perCPUBlock(nodes, stride: stride)
            it.values_size = family == .hash ? block : block * UInt64(cpuCount)
        case .array:
            it.values_size = entries * stride
            valuesPart = map.isFrozen ? .image : .guest
        case .perCPUArray:
            it.values_size = perCPUBlock(entries, stride: stride) * UInt64(cpuCount)
        case .stackTrace:
            let buckets = Self.powerOfTwo(entries)
            let nodes = buckets + spareNodes
            if nodes >= 1 << 31 { throw .mapTooBig(map.name, nodes, 1 << 31) }
            it.bucket_count = UInt32(buckets)
            it.node_count = UInt32(nodes)
            metaSize = MetaOffset.buckets + buckets * MetaSize.stackBucket + nodes * MetaSize.stackNode
            it.values_size = nodes * stride
            valuesPart = .meta
        case .programArray:
            it.values_size = entries * 4
            it.value_stride = 4
            valuesPart = .meta
        case .ringBuffer, .perfEventArray:
            if family == .perfEventArray, entries == 0 { it.max_entries = cpuCount }
            it.ring_size = family == .ringBuffer ? entries : UInt64(perfRingSize)
            it.values_size = it.ring_size * 2
            metaSize = MetaOffset.ringSize
        }
        let total = metaSize + keysSize + it.values_size
        if total > Self.limit { throw .mapTooBig(map.name, total, Self.limit) }
        descriptor = it
    }

    private static func powerOfTwo(_ value: UInt64) -> UInt64 {
        value <= 1 ? 1 : 1 << UInt64(64 - (value - 1).leadingZeroBitCount)
    }
}
