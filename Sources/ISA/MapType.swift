/// Map types, with the kernel's numbers (`enum bpf_map_type`).
package enum MapType: UInt32, CaseIterable, Sendable {
    case unspecified, hash, array, programArray, perfEventArray, perCPUHash, perCPUArray, stackTrace, cgroupArray
    case lruHash, lruPerCPUHash, lpmTrie, arrayOfMaps, hashOfMaps, devMap, sockMap, cpuMap, xskMap, sockHash
    case cgroupStorage, reusePortSockArray, perCPUCgroupStorage, queue, stack, socketStorage, devMapHash, structOps
    case ringBuffer, inodeStorage, taskStorage, bloomFilter, userRingBuffer, cgroupLocalStorage, arena
}
