import CSession
import ISA

/// Where things lie in a map's private part, as offsets from `csession_map.meta_offset`.
///
/// Zero bytes are the right initial state of everything but the seed, so a fresh segment costs no page until it is used.
enum MetaOffset {
    // MARK: Hash maps; fields that writers share have cache lines of their own
    /// `u32`: where the search for an element to give up goes on.
    static var hand: UInt64 { @_noLocks get { 0 } }
    /// `u32`: no stripe had a free node, and none was freed since.
    static var full: UInt64 { @_noLocks get { 64 } }
    /// `u64`: hash seed, of all maps that hash; constant.
    static var seed: UInt64 { @_noLocks get { 192 } }
    /// Stripes, then buckets, then in LPM tries a bit for each length; a bloom filter's bits.
    static var stripes: UInt64 { @_noLocks get { 256 } }

    // MARK: Stack traces
    /// `u64`: tag in the upper half, node number in the lower.
    static var freeHead: UInt64 { @_noLocks get { 0 } }
    /// `u32`: nodes that were ever handed out.
    static var fresh: UInt64 { @_noLocks get { 128 } }
    /// Buckets, then nodes.
    static var buckets: UInt64 { @_noLocks get { 256 } }

    // MARK: Queues and stacks
    /// `u32`: tid of the thread inside.
    static var queueLock: UInt64 { @_noLocks get { 0 } }
    /// `u64`: the position behind the last value.
    static var queueHead: UInt64 { @_noLocks get { 24 } }
    /// `u64`: the position of the first value.
    static var queueTail: UInt64 { @_noLocks get { 32 } }
    static var queueSize: UInt64 { @_noLocks get { 64 } }

    /// `u64`: records that found no room; 0 in other maps.
    static var dropped: UInt64 { @_noLocks get { 16 } }

    // MARK: Rings
    /// `u64`: bytes ever reserved.
    static var producer: UInt64 { @_noLocks get { 0 } }
    /// `u32`: tid of the producer that reserves.
    static var ringLock: UInt64 { @_noLocks get { 8 } }
    /// `u32`, user rings: tid of the producer that reserves; `ringLock` is the consumer's there.
    static var producerLock: UInt64 { @_noLocks get { 24 } }
    /// `u64`: bytes ever consumed; written by the consumer only.
    static var consumer: UInt64 { @_noLocks get { 64 } }
    /// `u64`, user rings: where the record behind the one at hand begins.
    static var taken: UInt64 { @_noLocks get { 72 } }
    /// `u64, u64`, user rings: a consumer of another PID namespace that a drain has found, and when; 0 since another one was.
    static var drainSeen: UInt64 { @_noLocks get { 32 } }
    /// `u64, u64`, user rings: 1 + the position of a busy record of such a producer, and when.
    static var recordSeen: UInt64 { @_noLocks get { 48 } }
    static var ringSize: UInt64 { @_noLocks get { 128 } }
}

/// Sizes of the records in a map's private part.
enum MetaSize {
    /// `HashStripe`; a cache line.
    static var hashStripe: UInt64 { @_noLocks get { 64 } }
    /// `u32 head, version`.
    static var hashBucket: UInt64 { @_noLocks get { 8 } }
    /// `u32 next, mark`, before a key.
    static var hashNode: UInt64 { @_noLocks get { 8 } }
    /// `u64`: generation in the upper half, node number in the lower.
    static var stackBucket: UInt64 { @_noLocks get { 8 } }
    /// `u32 hash, frames, free next, unused`.
    static var stackNode: UInt64 { @_noLocks get { 16 } }
    /// A per-CPU slot's owner; a cache line.
    static var cpuSlot: UInt64 { @_noLocks get { 64 } }
}

/// Nodes of a STACK_TRACE beyond its buckets: updates in flight, and what dead writers leak.
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

/// Bytes that a map takes of each part of the segments.
struct MapSizes {
    var meta: UInt64 = 0
    var keys: UInt64 = 0
    var values: UInt64 = 0

    /// Of a map whose descriptor has its counts and strides.
    init(_ map: csession_map, _ family: MapFamily, cpuCount: UInt32) {
        let entries = UInt64(map.max_entries)
        let nodes = UInt64(map.node_count)
        let buckets = UInt64(map.bucket_count)
        let stride = UInt64(map.value_stride)
        // As in `MapView.isPerCPU`.
        let isPerCPU = map.type == 5 || map.type == 6 || map.type == 10
        switch family {
        case .hash, .lpmTrie:
            meta = hashBucketsOffset(map.bucket_count) + buckets * MetaSize.hashBucket
            // Zeros that a new value starts with.
            if map.type == taskStorageType { meta += stride }
            if case .lpmTrie = family { meta = alignUp(meta, to: 8) + UInt64(map.key_size / 8 + 1) * 8 }
            keys = nodes * UInt64(map.key_stride)
            values = isPerCPU ? perCPUBlock(nodes, stride: stride) * UInt64(cpuCount) : nodes * stride
        case .array:
            values = isPerCPU ? perCPUBlock(entries, stride: stride) * UInt64(cpuCount) : entries * stride
        case .queue:
            (meta, values) = (MetaOffset.queueSize, entries * stride)
        case .bloomFilter:
            meta = MetaOffset.stripes + buckets / 8
        case .stackTrace:
            meta = MetaOffset.buckets + buckets * MetaSize.stackBucket + nodes * MetaSize.stackNode
            values = nodes * stride
        case .programArray, .mapArray:
            values = entries * 4
        case .cgroupArray:
            values = entries * 8
        case .ringBuffer, .perfEventArray:
            (meta, values) = (MetaOffset.ringSize, map.ring_size * 2)
        }
    }
}

/// Where a map's parts lie.
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
        it.max_entries = map.type == .taskStorage ? taskLimit : map.maxEntries
        it.flags = map.flags
        if let lock = map.lock { it.lock = UInt32(lock + 1) }
        if let kernel = map.kernel { it.kernel = UInt32(kernel + 1) }
        it.value_stride = UInt32(alignUp(UInt64(map.valueSize), to: 8))
        it.key_stride = UInt32(alignUp(UInt64(map.keySize), to: 8))
        valuesPart = .guest
        let entries = UInt64(it.max_entries)
        switch family {
        case .hash, .lpmTrie:
            let buckets = Self.powerOfTwo(entries)
            // Values that are written in place need no spare nodes.
            let nodes = entries + (map.type.isPerCPU ? 0 : min(buckets, 64))
            if nodes >= 1 << 31 { throw .mapTooBig(map.name, nodes, 1 << 31) }
            it.bucket_count = UInt32(buckets)
            it.node_count = UInt32(nodes)
            it.key_stride += UInt32(MetaSize.hashNode)
            // The word of `usedWord`.
            if map.type.isLRU { it.key_stride += 8 }
            // The owner's token.
            if map.type == .taskStorage { it.key_stride += 8 }
            // Programs do not write which maps are inside.
            if map.type.holdsMaps { valuesPart = .meta }
        case .array:
            valuesPart = map.isFrozen ? .image : .guest
        case .queue:
            valuesPart = .meta
        case .bloomFilter:
            // kernel/bpf/bloom_filter.c: the size at which half of the bits are set, 7 / 5 being about 1 / ln 2.
            let hashes = map.extra == 0 ? 5 : map.extra
            it.bucket_count = UInt32(min(Self.powerOfTwo(max(entries * hashes * 7 / 5, 64)), 1 << 31))
            it.node_count = UInt32(hashes)
        case .stackTrace:
            let buckets = Self.powerOfTwo(entries)
            let nodes = buckets + spareNodes
            if nodes >= 1 << 31 { throw .mapTooBig(map.name, nodes, 1 << 31) }
            it.bucket_count = UInt32(buckets)
            it.node_count = UInt32(nodes)
            valuesPart = .meta
        case .programArray, .mapArray:
            it.value_stride = 4
            valuesPart = .meta
        case .cgroupArray:
            valuesPart = .meta
        case .ringBuffer, .perfEventArray:
            if family == .perfEventArray, entries == 0 { it.max_entries = cpuCount }
            it.ring_size = family == .ringBuffer ? entries : UInt64(perfRingSize)
        }
        let sizes = MapSizes(it, family, cpuCount: cpuCount)
        it.values_size = sizes.values
        metaSize = sizes.meta
        keysSize = sizes.keys
        let total = sizes.meta + sizes.keys + sizes.values
        if total > Self.limit { throw .mapTooBig(map.name, total, Self.limit) }
        descriptor = it
    }

    private static func powerOfTwo(_ value: UInt64) -> UInt64 {
        value <= 1 ? 1 : 1 << UInt64(64 - (value - 1).leadingZeroBitCount)
    }
}
