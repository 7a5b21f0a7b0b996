/// Map types, with the kernel's numbers (`enum bpf_map_type`).
package enum MapType: UInt32, CaseIterable, Sendable {
    case unspecified, hash, array, programArray, perfEventArray, perCPUHash, perCPUArray, stackTrace, cgroupArray
    case lruHash, lruPerCPUHash, lpmTrie, arrayOfMaps, hashOfMaps, devMap, sockMap, cpuMap, xskMap, sockHash
    case cgroupStorage, reusePortSockArray, perCPUCgroupStorage, queue, stack, socketStorage, devMapHash, structOps
    case ringBuffer, inodeStorage, taskStorage, bloomFilter, userRingBuffer, cgroupLocalStorage, arena
}

extension MapType {
    /// Name as bpftool prints it, for instance `percpu_array`.
    package var name: String {
        switch self {
        case .unspecified: "unspec"
        case .hash: "hash"
        case .array: "array"
        case .programArray: "prog_array"
        case .perfEventArray: "perf_event_array"
        case .perCPUHash: "percpu_hash"
        case .perCPUArray: "percpu_array"
        case .stackTrace: "stack_trace"
        case .cgroupArray: "cgroup_array"
        case .lruHash: "lru_hash"
        case .lruPerCPUHash: "lru_percpu_hash"
        case .lpmTrie: "lpm_trie"
        case .arrayOfMaps: "array_of_maps"
        case .hashOfMaps: "hash_of_maps"
        case .devMap: "devmap"
        case .sockMap: "sockmap"
        case .cpuMap: "cpumap"
        case .xskMap: "xskmap"
        case .sockHash: "sockhash"
        case .cgroupStorage: "cgroup_storage"
        case .reusePortSockArray: "reuseport_sockarray"
        case .perCPUCgroupStorage: "percpu_cgroup_storage"
        case .queue: "queue"
        case .stack: "stack"
        case .socketStorage: "sk_storage"
        case .devMapHash: "devmap_hash"
        case .structOps: "struct_ops"
        case .ringBuffer: "ringbuf"
        case .inodeStorage: "inode_storage"
        case .taskStorage: "task_storage"
        case .bloomFilter: "bloom_filter"
        case .userRingBuffer: "user_ringbuf"
        case .cgroupLocalStorage: "cgrp_storage"
        case .arena: "arena"
        }
    }
}
