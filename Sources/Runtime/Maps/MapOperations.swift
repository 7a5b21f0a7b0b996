package import CRuntime
import CSession

/// What programs and the controller do with maps; one switch over the family for each operation.
extension MapView {
    /// Whether programs may look up, update and delete elements (kernel: `check_map_func_compatibility`).
    var hasElements: Bool {
        @_noLocks get {
            switch family {
            case .hash, .array, .lpmTrie: !holdsMaps && !isTaskStorage
            case .queue, .bloomFilter, .programArray, .mapArray, .cgroupArray, .perfEventArray, .stackTrace,
                .ringBuffer, nil:
                false
            }
        }
    }

    /// Whether programs may walk the elements: `bpf_for_each_map_elem`.
    package var isIterable: Bool {
        @_noLocks get {
            switch family {
            case .hash, .array: !holdsMaps && !isTaskStorage
            case .lpmTrie, .queue, .bloomFilter, .programArray, .mapArray, .cgroupArray, .perfEventArray, .stackTrace,
                .ringBuffer,
                nil:
                false
            }
        }
    }

    /// The value of `key` in per-CPU slot `slot` (ignored by other maps); nil where there is none.
    @_noLocks
    package func lookup(_ key: UnsafeRawPointer, slot: Int) -> UnsafeMutableRawPointer? {
        switch family {
        case .hash:
            let node = unsafe hashFind(key)
            if node == 0 { return nil }
            if evicts, unsafe cruntime_load32(usedWord(node)) == 0 { unsafe cruntime_store32(usedWord(node), 1) }
            return unsafe nodeValue(node, slot: isPerCPU ? slot : 0)
        case .array:
            let index = unsafe arrayIndex(key)
            return index >= maxEntries ? nil : unsafe element(index, slot: isPerCPU ? slot : 0)
        case .lpmTrie:
            return unsafe prefixLookup(key)
        case .mapArray:
            return unsafe mapEntry(key)
        case .queue, .bloomFilter, .programArray, .cgroupArray, .perfEventArray, .stackTrace, .ringBuffer, nil:
            return nil
        }
    }

    /// Sets `key`'s value; 0 or a negated errno value as the kernel gives it.
    ///
    /// In per-CPU maps `slot` is the caller's slot, or -1 where `value` holds all slots' values, each padded to 8 bytes.
    @_noLocks
    package func update(
        _ key: UnsafeRawPointer,
        _ value: UnsafeRawPointer,
        flags: UInt64,
        tid: UInt32,
        slot: Int
    ) -> Int64 {
        switch family {
        case .hash:
            // BPF_F_LOCK is refused before anybody looks at the value.
            if holdsMaps, flags & UpdateFlag.lock == 0, case let status = unsafe innerStatus(value), status != 0 {
                return status
            }
            return unsafe hashUpdate(key, value, flags: flags, tid: tid, slot: slot)
        case .array:
            return unsafe arrayUpdate(key, value, flags: flags, tid: tid, slot: slot)
        case .lpmTrie:
            return unsafe prefixUpdate(key, value, flags: flags, tid: tid)
        case .programArray:
            if flags != UpdateFlag.any { return Failure.invalid }
            let index = unsafe arrayIndex(key)
            if index >= maxEntries { return Failure.tooBig }
            let program = unsafe arrayIndex(value)
            if unsafe program >= session.header.pointee.program_count { return Failure.invalid }
            unsafe cruntime_store32(programEntry(index), program &+ 1)
            return 0
        case .mapArray:
            return unsafe mapEntryUpdate(key, value, flags: flags)
        case .queue, .bloomFilter, .cgroupArray, .perfEventArray, .stackTrace, .ringBuffer, nil:
            return Failure.invalid
        }
    }

    /// Removes `key`; 0 or a negated errno value.
    @_noLocks
    package func delete(_ key: UnsafeRawPointer, tid: UInt32) -> Int64 {
        switch family {
        case .hash:
            return unsafe hashDelete(key, tid: tid)
        case .lpmTrie:
            return unsafe prefixDelete(key, tid: tid)
        case .stackTrace:
            return unsafe stackDelete(arrayIndex(key))
        case .programArray, .mapArray:
            let index = unsafe arrayIndex(key)
            if index >= maxEntries { return Failure.tooBig }
            return unsafe cruntime_exchange32(programEntry(index), 0) == 0 ? Failure.noEntry : 0
        case .cgroupArray:
            let index = unsafe arrayIndex(key)
            if index >= maxEntries { return Failure.tooBig }
            return unsafe cruntime_exchange64(cgroupEntry(index), 0) == 0 ? Failure.noEntry : 0
        case .bloomFilter:
            return Failure.notSupported
        case .array, .queue, .perfEventArray, .ringBuffer, nil:
            return Failure.invalid
        }
    }

    /// Copies the key after `key`, or the first where `key` is nil or unknown; `ENOENT` after the last.
    @_noLocks
    package func nextKey(_ key: UnsafeRawPointer?, into next: UnsafeMutableRawPointer) -> Int64 {
        switch family {
        case .hash, .lpmTrie: unsafe hashNextKey(key, into: next)
        case .array, .programArray, .mapArray, .cgroupArray: unsafe arrayNextKey(key, into: next)
        case .stackTrace: unsafe stackNextKey(key, into: next)
        case .bloomFilter: Failure.notSupported
        case .queue, .perfEventArray, .ringBuffer, nil: Failure.invalid
        }
    }

    // MARK: Without keys

    /// Whether programs may push and peek values.
    var hasValues: Bool {
        @_noLocks get {
            switch family {
            case .queue, .bloomFilter: true
            case .hash, .array, .lpmTrie, .programArray, .mapArray, .cgroupArray, .perfEventArray, .stackTrace,
                .ringBuffer, nil:
                false
            }
        }
    }

    /// Adds a value: `bpf_map_push_elem`.
    @_noLocks
    package func push(_ value: UnsafeRawPointer, flags: UInt64, tid: UInt32) -> Int64 {
        switch family {
        case .queue: unsafe queuePush(value, flags: flags, tid: tid)
        case .bloomFilter: unsafe bloomPush(value, flags: flags)
        case .hash, .array, .lpmTrie, .programArray, .mapArray, .cgroupArray, .perfEventArray, .stackTrace, .ringBuffer,
            nil:
            Failure.notSupported
        }
    }

    /// The next value, copied; of a bloom filter whether it may hold `value`: `bpf_map_peek_elem`.
    @_noLocks
    package func peek(_ value: UnsafeMutableRawPointer, tid: UInt32) -> Int64 {
        switch family {
        case .queue: unsafe queueTake(value, tid: tid, removes: false)
        case .bloomFilter: unsafe bloomPeek(value)
        case .hash, .array, .lpmTrie, .programArray, .mapArray, .cgroupArray, .perfEventArray, .stackTrace, .ringBuffer,
            nil:
            Failure.notSupported
        }
    }

    /// Takes the next value out: `bpf_map_pop_elem`.
    @_noLocks
    package func pop(_ value: UnsafeMutableRawPointer, tid: UInt32) -> Int64 {
        guard case .queue? = family else { return Failure.notSupported }
        return unsafe queueTake(value, tid: tid, removes: true)
    }
}

/// A walk over a map's elements that ends whatever others do to the map meanwhile: `bpf_for_each_map_elem`.
///
/// The element just returned may be deleted before the next step.
@safe
package struct MapCursor {
    /// Where the key of the element lies; nil for arrays, whose key is `index`.
    package private(set) var key: UnsafeMutableRawPointer?
    /// The element's number in arrays.
    package private(set) var index: UInt32 = 0
    /// The element's value, of the given slot in per-CPU maps.
    package private(set) var value: UnsafeMutableRawPointer?
    /// Buckets that the last step left behind.
    package private(set) var skipped: UInt64 = 0
    private var bucket: UInt32 = 0
    private var node: UInt32 = 0
    private var isStarted = false
    private var steps: UInt64 = 0

    @_noLocks
    package init() {
        unsafe key = nil
        unsafe value = nil
    }

    /// Moves to the next element; false after the last.
    @_noLocks
    package mutating func advance(_ map: MapView, slot: Int) -> Bool {
        switch map.family {
        case .hash, .lpmTrie: return nextNode(map, slot)
        case .array:
            if isStarted { index &+= 1 }
            isStarted = true
            if index >= map.maxEntries { return false }
            unsafe value = unsafe map.element(index, slot: map.isPerCPU ? slot : 0)
            return true
        case .mapArray:
            while true {
                if isStarted { index &+= 1 }
                isStarted = true
                if index >= map.maxEntries { return false }
                unsafe value = unsafe UnsafeMutableRawPointer(map.programEntry(index))
                if unsafe cruntime_load32(map.programEntry(index)) != 0 { return true }
            }
        case .queue, .bloomFilter, .programArray, .cgroupArray, .perfEventArray, .stackTrace, .ringBuffer, nil:
            return false
        }
    }

    @_noLocks
    private mutating func nextNode(_ map: MapView, _ slot: Int) -> Bool {
        let buckets = unsafe map.descriptor.pointee.bucket_count
        let limit = unsafe UInt64(map.descriptor.pointee.node_count)
        skipped = 0
        if !isStarted {
            isStarted = true
            node = unsafe cruntime_load32(map.bucketWords(0))
        }
        while bucket < buckets {
            // `node` was read before the last element was handed out; by now it may belong elsewhere.
            if steps <= limit, map.isNode(node, of: bucket) {
                unsafe key = unsafe map.nodeKey(node)
                unsafe value = unsafe map.nodeValue(node, slot: map.isPerCPU ? slot : 0)
                node = unsafe cruntime_load32(map.nodeWords(node))
                steps &+= 1
                return true
            }
            bucket &+= 1
            skipped &+= 1
            if bucket < buckets { node = unsafe cruntime_load32(map.bucketWords(bucket)) }
        }
        return false
    }
}

/// The per-CPU slot of this run for `map`: taken when first needed, 0 for maps that have no such slots.
@_noLocks
package func slot(_ context: UnsafeMutablePointer<cruntime_context>, for map: MapView) -> Int {
    map.isPerCPU ? unsafe cpuSlot(context, map.session) : 0
}
