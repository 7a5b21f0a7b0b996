package import ISA

/// The kinds of map that this runtime has; which of a kind's forms a map has, its type says (`isPerCPU`, `evicts`).
package enum MapFamily: Sendable {
    /// HASH, LRU_HASH, their per-CPU forms, HASH_OF_MAPS and TASK_STORAGE.
    case hash
    /// ARRAY and PERCPU_ARRAY.
    case array
    /// QUEUE and STACK.
    case queue
    case bloomFilter, lpmTrie, programArray, perfEventArray, stackTrace, cgroupArray
    /// RINGBUF and USER_RINGBUF.
    case ringBuffer
    /// ARRAY_OF_MAPS; a HASH_OF_MAPS is a hash (`holdsMaps`).
    case mapArray

    /// Nil for a type that only the kernel has.
    package init?(_ type: MapType) {
        switch type {
        case .hash, .perCPUHash, .lruHash, .lruPerCPUHash, .hashOfMaps, .taskStorage: self = .hash
        case .array, .perCPUArray: self = .array
        case .queue, .stack: self = .queue
        case .bloomFilter: self = .bloomFilter
        case .lpmTrie: self = .lpmTrie
        case .programArray: self = .programArray
        case .perfEventArray: self = .perfEventArray
        case .stackTrace: self = .stackTrace
        case .cgroupArray: self = .cgroupArray
        case .ringBuffer, .userRingBuffer: self = .ringBuffer
        case .arrayOfMaps: self = .mapArray
        case .unspecified, .devMap, .sockMap, .cpuMap, .xskMap, .sockHash,
            .cgroupStorage, .reusePortSockArray, .perCPUCgroupStorage, .socketStorage, .devMapHash, .structOps,
            .inodeStorage, .cgroupLocalStorage, .arena:
            return nil
        }
    }

    /// The family of a descriptor's type number (`enum bpf_map_type`); nil where a damaged image holds another.
    @_noLocks
    package init?(number: UInt32) {
        switch number {
        case 1, 5, 9, 10, 13, 29: self = .hash
        case 2, 6: self = .array
        case 22, 23: self = .queue
        case 30: self = .bloomFilter
        case 11: self = .lpmTrie
        case 3: self = .programArray
        case 4: self = .perfEventArray
        case 7: self = .stackTrace
        case 8: self = .cgroupArray
        case 27, 31: self = .ringBuffer
        case 12: self = .mapArray
        default: return nil
        }
    }
}

extension MapType {
    /// One value for each CPU.
    package var isPerCPU: Bool {
        switch self {
        case .perCPUHash, .perCPUArray, .lruPerCPUHash: true
        default: false
        }
    }

    /// Its values are maps.
    package var holdsMaps: Bool {
        switch self {
        case .arrayOfMaps, .hashOfMaps: true
        default: false
        }
    }

    /// A full map makes room.
    var isLRU: Bool {
        switch self {
        case .lruHash, .lruPerCPUHash: true
        default: false
        }
    }
}

/// `BPF_F_*` flags of map creation (include/uapi/linux/bpf.h).
enum MapFlag {
    static var noPreallocation: UInt32 { @_noLocks get { 0x1 } }
    /// `BPF_F_NO_COMMON_LRU`.
    static var noCommonLRU: UInt32 { @_noLocks get { 0x2 } }
    static var numaNode: UInt32 { @_noLocks get { 0x4 } }
    /// `BPF_F_RDONLY`, `BPF_F_WRONLY`: rights of user space.
    static var userAccess: UInt32 { @_noLocks get { 0x18 } }
    static var zeroSeed: UInt32 { @_noLocks get { 0x40 } }
    static var readOnlyProgram: UInt32 { @_noLocks get { 0x80 } }
    /// `BPF_F_RDONLY_PROG`, `BPF_F_WRONLY_PROG`.
    static var programAccess: UInt32 { @_noLocks get { 0x180 } }
    static var mmapable: UInt32 { @_noLocks get { 0x400 } }
    /// `BPF_F_INNER_MAP`: of arrays in a map of maps each may have its own number of entries.
    static var innerMap: UInt32 { @_noLocks get { 0x1000 } }
}
