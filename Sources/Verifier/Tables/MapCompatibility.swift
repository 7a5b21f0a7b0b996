import ISA

/// Whether a helper takes a map of a type (Linux `check_map_func_compatibility`, and for `bpf_for_each_map_elem` the
/// types that can be walked).
func isCompatible(_ helper: Helper, _ map: MapType) -> Bool {
    isTaken(map, by: helper) && takes(map, helper)
}

/// Whether a program may change maps of sockets with the helpers for any map (Linux `may_update_sockmap`): where no socket
/// is locked.
func mayChangeSocketMaps(_ type: ProgramType) -> Bool {
    switch type {
    case .socketFilter, .schedCls, .schedAct, .xdp, .skReusePort, .flowDissector, .skLookup: true
    default: false
    }
}

/// Whether a program may use a map at all (Linux `check_map_prog_compatibility`).
///
/// In the kernel an interrupt may run a probe on a processor that holds a lock, so probes may not use any. In a process
/// a probe that interrupts another one of the thread does not run.
func mayUse(
    _ map: MapFacts,
    _ type: ProgramType,
    isSleepable: Bool,
    on platform: Subject.Platform = .kernel
) -> Bool {
    if map.spinLock != nil, platform == .kernel,
        type == .socketFilter || ProgramTypes.tracing.contains(ProgramTypes(type))
    {
        return false
    }
    if map.timer != nil, ProgramTypes.tracing.contains(ProgramTypes(type)) { return false }
    switch map.type {
    case .structOps, .unspecified: return false
    case .hash, .array, .perCPUHash, .perCPUArray, .lruHash, .lruPerCPUHash, .arrayOfMaps, .hashOfMaps, .ringBuffer,
        .userRingBuffer, .socketStorage, .inodeStorage, .taskStorage, .cgroupLocalStorage, .queue, .stack, .arena:
        return true
    case .programArray, .perfEventArray, .stackTrace, .cgroupArray, .lpmTrie, .devMap, .sockMap, .cpuMap, .xskMap,
        .sockHash, .cgroupStorage, .reusePortSockArray, .perCPUCgroupStorage, .devMapHash, .bloomFilter:
        return !isSleepable
    }
}

/// What helpers ask for.
private func isTaken(_ map: MapType, by helper: Helper) -> Bool {
    switch helper {
    case .tailCall: map == .programArray
    case .perfEventRead, .perfEventOutput, .perfEventReadValue, .skbOutput, .xdpOutput: map == .perfEventArray
    case .ringbufOutput, .ringbufReserve, .ringbufQuery, .ringbufReserveDynptr, .ringbufSubmitDynptr,
        .ringbufDiscardDynptr:
        map == .ringBuffer
    case .userRingbufDrain: map == .userRingBuffer
    case .getStackid: map == .stackTrace
    case .currentTaskUnderCgroup, .skbUnderCgroup: map == .cgroupArray
    case .redirectMap: map == .devMap || map == .devMapHash || map == .cpuMap || map == .xskMap
    case .skRedirectMap, .msgRedirectMap, .sockMapUpdate: map == .sockMap
    case .skRedirectHash, .msgRedirectHash, .sockHashUpdate: map == .sockHash
    case .getLocalStorage: map == .cgroupStorage || map == .perCPUCgroupStorage
    case .skSelectReuseport: map == .reusePortSockArray || map == .sockMap || map == .sockHash
    case .mapPopElem: map == .queue || map == .stack
    case .mapPeekElem, .mapPushElem: map == .queue || map == .stack || map == .bloomFilter
    case .mapLookupPercpuElem: map == .perCPUArray || map == .perCPUHash || map == .lruPerCPUHash
    case .skStorageGet, .skStorageDelete: map == .socketStorage
    case .inodeStorageGet, .inodeStorageDelete: map == .inodeStorage
    case .taskStorageGet, .taskStorageDelete: map == .taskStorage
    case .cgrpStorageGet, .cgrpStorageDelete: map == .cgroupLocalStorage
    case .forEachMapElem:
        switch map {
        case .hash, .lruHash, .perCPUHash, .lruPerCPUHash, .array, .perCPUArray: true
        default: false
        }
    default: true
    }
}

/// What types of maps allow.
private func takes(_ map: MapType, _ helper: Helper) -> Bool {
    switch map {
    case .hash, .array, .perCPUHash, .perCPUArray, .lruHash, .lruPerCPUHash, .lpmTrie, .structOps: true
    // Without keys and values; the kernel refuses what helpers would do with them.
    case .arena, .unspecified: false
    case .programArray: helper == .tailCall
    case .perfEventArray:
        switch helper {
        case .perfEventRead, .perfEventOutput, .perfEventReadValue, .skbOutput, .xdpOutput: true
        default: false
        }
    case .ringBuffer:
        switch helper {
        case .ringbufOutput, .ringbufReserve, .ringbufQuery, .ringbufReserveDynptr, .ringbufSubmitDynptr,
            .ringbufDiscardDynptr:
            true
        default: false
        }
    case .userRingBuffer: helper == .userRingbufDrain
    case .stackTrace: helper == .getStackid
    case .cgroupArray: helper == .skbUnderCgroup || helper == .currentTaskUnderCgroup
    case .cgroupStorage, .perCPUCgroupStorage: helper == .getLocalStorage
    case .devMap, .devMapHash, .xskMap: helper == .redirectMap || helper == .mapLookupElem
    case .cpuMap: helper == .redirectMap
    case .arrayOfMaps, .hashOfMaps: helper == .mapLookupElem
    case .sockMap:
        switch helper {
        case .skRedirectMap, .sockMapUpdate, .msgRedirectMap, .skSelectReuseport, .mapLookupElem, .mapDeleteElem,
            .mapUpdateElem:
            true
        default: false
        }
    case .sockHash:
        switch helper {
        case .skRedirectHash, .sockHashUpdate, .msgRedirectHash, .skSelectReuseport, .mapLookupElem, .mapDeleteElem,
            .mapUpdateElem:
            true
        default: false
        }
    case .reusePortSockArray: helper == .skSelectReuseport
    case .queue, .stack: helper == .mapPeekElem || helper == .mapPopElem || helper == .mapPushElem
    case .bloomFilter: helper == .mapPeekElem || helper == .mapPushElem
    case .socketStorage: helper == .skStorageGet || helper == .skStorageDelete || helper == .kptrXchg
    case .inodeStorage: helper == .inodeStorageGet || helper == .inodeStorageDelete || helper == .kptrXchg
    case .taskStorage: helper == .taskStorageGet || helper == .taskStorageDelete || helper == .kptrXchg
    case .cgroupLocalStorage: helper == .cgrpStorageGet || helper == .cgrpStorageDelete || helper == .kptrXchg
    }
}
