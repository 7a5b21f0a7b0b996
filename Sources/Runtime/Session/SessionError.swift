import CSession
import ISA

/// Why a session cannot be built or opened; every message of this part of the module is made here.
package struct SessionError: Error, Sendable {
    package enum Kind: Sendable {
        /// The kernel would answer `EINVAL`.
        case invalid
        /// The kernel would answer `E2BIG`.
        case tooBig
        /// A map type or flag that this runtime does not have.
        case unsupported
        /// A segment is not a session of this version.
        case damaged
    }

    package var kind: Kind
    /// What it is about: a map's or program's name, or a segment.
    package var subject: String
    /// What is wrong.
    package var message: String
    /// What to do about it.
    package var help: String

    init(_ kind: Kind, _ subject: String, _ message: String, help: String) {
        self.kind = kind
        self.subject = subject
        self.message = message
        self.help = help
    }

    static func noEntries(_ name: String) -> SessionError {
        SessionError(.invalid, name, "max_entries is 0", help: "set max_entries in the map's definition")
    }

    static func keySize(_ name: String, _ size: UInt32, _ wanted: String) -> SessionError {
        SessionError(.invalid, name, "key size is \(size), must be \(wanted)", help: "correct the map's key type")
    }

    static func valueSize(_ name: String, _ size: UInt32, _ wanted: String) -> SessionError {
        SessionError(.invalid, name, "value size is \(size), must be \(wanted)", help: "correct the map's value type")
    }

    static func elementTooBig(_ name: String, _ size: UInt64, _ limit: UInt64) -> SessionError {
        SessionError(
            .tooBig,
            name,
            "an element of \(size) bytes is over the limit of \(limit)",
            help: "make the key or value type smaller"
        )
    }

    static func mapTooBig(_ name: String, _ size: UInt64, _ limit: UInt64) -> SessionError {
        SessionError(
            .tooBig,
            name,
            "the map would take \(size) bytes, the limit is \(limit)",
            help: "lower max_entries"
        )
    }

    static func lockInType(_ name: String, _ type: MapType) -> SessionError {
        SessionError(
            .unsupported,
            name,
            "values of \(type.name) maps cannot hold a struct bpf_spin_lock",
            help: "use a hash or array map"
        )
    }

    static func lockInReadOnly(_ name: String) -> SessionError {
        SessionError(
            .invalid,
            name,
            "values that programs may not read and write cannot hold a struct bpf_spin_lock",
            help: "remove BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG, or the lock"
        )
    }

    static func lockOffset(_ name: String, _ offset: Int) -> SessionError {
        SessionError(
            .invalid,
            name,
            "a struct bpf_spin_lock at offset \(offset) does not fit into the value",
            help: "declare it as a field of the value's struct, aligned to 4 bytes"
        )
    }

    static func ringSize(_ name: String, _ size: UInt32) -> SessionError {
        SessionError(
            .invalid,
            name,
            "ring size \(size) is not a power of two and a multiple of 4096",
            help: "set max_entries to 4096, 8192, … 256 * 1024, …"
        )
    }

    static func flags(_ name: String, _ flags: UInt32) -> SessionError {
        SessionError(
            .unsupported,
            name,
            "map flags \(flags) are not supported for this type",
            help: "remove map_flags, or run the program in the kernel"
        )
    }

    static func mapType(_ name: String, _ type: MapType) -> SessionError {
        SessionError(
            .unsupported,
            name,
            "maps of type \(mapTypeName(type)) are not supported in user space: \(mapTypeReason(type))",
            help: type == .arena
                ? "use an array with BPF_F_MMAPABLE, and indices in place of pointers"
                : "use a hash, array, LPM_TRIE, QUEUE, STACK, BLOOM_FILTER, STACK_TRACE, RINGBUF, PERF_EVENT_ARRAY, PROG_ARRAY, TASK_STORAGE, CGROUP_ARRAY or a map of maps"
        )
    }

    static func noTemplate(_ name: String) -> SessionError {
        SessionError(
            .invalid,
            name,
            "nothing says what the maps inside are like",
            help: "define a template: __array(values, struct { __uint(type, …); … })"
        )
    }

    static func innerType(_ name: String, _ type: MapType) -> SessionError {
        SessionError(
            .unsupported,
            name,
            "maps of type \(mapTypeName(type)) cannot be inside another map",
            help: "the kernel refuses them, too; use another type for the template"
        )
    }

    static func extra(_ name: String, _ extra: UInt64, _ expected: String) -> SessionError {
        SessionError(.invalid, name, "map_extra is \(extra)", help: "for this type it must be \(expected)")
    }

    static func entries(_ name: String, _ entries: UInt32) -> SessionError {
        SessionError(
            .invalid,
            name,
            "max_entries is \(entries), must be 0",
            help: "leave max_entries out: there is an element for each thread"
        )
    }

    static func preallocated(_ name: String, _ type: String) -> SessionError {
        SessionError(
            .invalid,
            name,
            "\(type) without BPF_F_NO_PREALLOC",
            help: "set map_flags to BPF_F_NO_PREALLOC, as the kernel demands"
        )
    }

    static func contentsSize(_ name: String, _ size: Int, _ limit: UInt64) -> SessionError {
        SessionError(
            .invalid,
            name,
            "\(size) bytes of initial contents for values of \(limit) bytes",
            help: "contents belong to arrays and must not be larger than their values"
        )
    }

    package static func tooManyProbes(_ limit: Int) -> SessionError {
        SessionError(
            .tooBig,
            "session",
            "more than \(limit) probes",
            help: "narrow the pattern, or use several sessions"
        )
    }

    static func layoutFrozen(_ name: String) -> SessionError {
        SessionError(
            .invalid,
            name,
            "maps cannot be added after layoutMaps()",
            help: "add every map before the programs"
        )
    }

    /// What is wrong with segments, in words.
    package init(_ damage: SessionDamage) {
        let segment =
            switch damage.segment {
            case .image: "image"
            case .shared: "shared"
            case .plan: "plan"
            }
        let (first, second) = (damage.first, damage.second)
        let what =
            switch damage.flaw {
            case .tooShort: "it is \(first) bytes long"
            case .cutOff: "\(first) bytes of \(second)"
            case .noMagic: "it does not start with the magic number"
            case .version: "version \(first), this build has \(CSESSION_VERSION)"
            case .otherSession: "it belongs to another session"
            case .noCPUs: "no CPU slots"
            case .noStatistics: "no statistics"
            case .program: "program \(first) lies outside the instructions"
            case .table: "a table at \(first) ends beyond \(second)"
            case .mapType: "map type \(first)"
            case .trieKey: "an LPM trie with keys of \(first) bytes"
            case .ringSize: "a ring of \(first) bytes"
            case .emptyQueue: "a queue without entries"
            case .buckets: "a map with \(first) buckets"
            case .lock: "a lock outside of a map's values"
            case .mapPlace: "a map lies outside the segments"
            case .site: "site \(first) lies outside its tables"
            case .probe: "probe \(first) names no program or site"
            case .statistics: "its probes count beyond the statistics"
            }
        self.init(
            .damaged,
            segment,
            what,
            help: "the library and ubpfrun are of different versions, or the segment was cut short"
        )
    }
}

/// Why only the kernel has a map type.
private func mapTypeReason(_ type: MapType) -> String {
    switch type {
    case .arena:
        "an arena would have to lie at the same address in every process of a session, and its pointers are cast between address spaces"
    case .devMap, .devMapHash, .cpuMap, .xskMap, .sockMap, .sockHash, .reusePortSockArray:
        "its elements are the kernel's devices, CPUs or sockets"
    case .socketStorage, .inodeStorage: "its values belong to sockets or inodes, which only the kernel can hold still"
    case .cgroupStorage, .perCPUCgroupStorage, .cgroupLocalStorage:
        "its values belong to control groups, which only the kernel can hold still"
    case .structOps: "it holds functions that the kernel calls"
    case .unspecified, .hash, .array, .programArray, .perfEventArray, .perCPUHash, .perCPUArray, .stackTrace,
        .cgroupArray, .lruHash, .lruPerCPUHash, .lpmTrie, .arrayOfMaps, .hashOfMaps, .queue, .stack, .ringBuffer,
        .taskStorage, .bloomFilter, .userRingBuffer:
        "it is no type of map"
    }
}

/// The kernel's name of a map type, without `BPF_MAP_TYPE_`.
func mapTypeName(_ type: MapType) -> String {
    switch type {
    case .unspecified: "UNSPEC"
    case .hash: "HASH"
    case .array: "ARRAY"
    case .programArray: "PROG_ARRAY"
    case .perfEventArray: "PERF_EVENT_ARRAY"
    case .perCPUHash: "PERCPU_HASH"
    case .perCPUArray: "PERCPU_ARRAY"
    case .stackTrace: "STACK_TRACE"
    case .cgroupArray: "CGROUP_ARRAY"
    case .lruHash: "LRU_HASH"
    case .lruPerCPUHash: "LRU_PERCPU_HASH"
    case .lpmTrie: "LPM_TRIE"
    case .arrayOfMaps: "ARRAY_OF_MAPS"
    case .hashOfMaps: "HASH_OF_MAPS"
    case .devMap: "DEVMAP"
    case .sockMap: "SOCKMAP"
    case .cpuMap: "CPUMAP"
    case .xskMap: "XSKMAP"
    case .sockHash: "SOCKHASH"
    case .cgroupStorage: "CGROUP_STORAGE"
    case .reusePortSockArray: "REUSEPORT_SOCKARRAY"
    case .perCPUCgroupStorage: "PERCPU_CGROUP_STORAGE"
    case .queue: "QUEUE"
    case .stack: "STACK"
    case .socketStorage: "SK_STORAGE"
    case .devMapHash: "DEVMAP_HASH"
    case .structOps: "STRUCT_OPS"
    case .ringBuffer: "RINGBUF"
    case .inodeStorage: "INODE_STORAGE"
    case .taskStorage: "TASK_STORAGE"
    case .bloomFilter: "BLOOM_FILTER"
    case .userRingBuffer: "USER_RINGBUF"
    case .cgroupLocalStorage: "CGRP_STORAGE"
    case .arena: "ARENA"
    }
}
