package import ISA

/// The kinds of map that this runtime has.
package enum MapFamily: Sendable {
    case hash, array, programArray, perfEventArray, perCPUHash, perCPUArray, stackTrace, ringBuffer

    /// Nil for a type that only the kernel has.
    package init?(_ type: MapType) {
        switch type {
        case .hash: self = .hash
        case .array: self = .array
        case .programArray: self = .programArray
        case .perfEventArray: self = .perfEventArray
        case .perCPUHash: self = .perCPUHash
        case .perCPUArray: self = .perCPUArray
        case .stackTrace: self = .stackTrace
        case .ringBuffer: self = .ringBuffer
        case .unspecified, .cgroupArray, .lruHash, .lruPerCPUHash, .lpmTrie, .arrayOfMaps, .hashOfMaps, .devMap,
            .sockMap,
            .cpuMap, .xskMap, .sockHash, .cgroupStorage, .reusePortSockArray, .perCPUCgroupStorage, .queue, .stack,
            .socketStorage, .devMapHash, .structOps, .inodeStorage, .taskStorage, .bloomFilter, .userRingBuffer,
            .cgroupLocalStorage, .arena:
            return nil
        }
    }

    /// The family of a descriptor's type number (`enum bpf_map_type`); nil where a damaged image holds another.
    @_noLocks
    package init?(number: UInt32) {
        switch number {
        case 1: self = .hash
        case 2: self = .array
        case 3: self = .programArray
        case 4: self = .perfEventArray
        case 5: self = .perCPUHash
        case 6: self = .perCPUArray
        case 7: self = .stackTrace
        case 27: self = .ringBuffer
        default: return nil
        }
    }
}

/// `BPF_F_*` flags of map creation (include/uapi/linux/bpf.h).
enum MapFlag {
    static var noPreallocation: UInt32 { @_noLocks get { 0x1 } }
    static var numaNode: UInt32 { @_noLocks get { 0x4 } }
    /// `BPF_F_RDONLY`, `BPF_F_WRONLY`: rights of user space.
    static var userAccess: UInt32 { @_noLocks get { 0x18 } }
    static var zeroSeed: UInt32 { @_noLocks get { 0x40 } }
    static var readOnlyProgram: UInt32 { @_noLocks get { 0x80 } }
    /// `BPF_F_RDONLY_PROG`, `BPF_F_WRONLY_PROG`.
    static var programAccess: UInt32 { @_noLocks get { 0x180 } }
    static var mmapable: UInt32 { @_noLocks get { 0x400 } }
}
