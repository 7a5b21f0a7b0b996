import CRuntime
import CSession

/// ARRAY and PERCPU_ARRAY.
extension MapView {
    /// Element `index` of `slot`, which counts in per-CPU maps only; `index` is in range.
    @_noLocks @inline(__always)
    func element(_ index: UInt32, slot: Int) -> UnsafeMutableRawPointer {
        let stride = unsafe UInt64(descriptor.pointee.value_stride)
        let block = slot == 0 ? 0 : perCPUBlock(UInt64(maxEntries), stride: stride)
        return unsafe values(UInt64(slot) &* block &+ UInt64(index) &* stride)
    }

    /// Address of the first element of an ARRAY, for code that computes the others'.
    package var elementsAddress: UInt64 { unsafe UInt64(UInt(bitPattern: values(0))) }
    /// Bytes from one slot's elements to the next one's, in per-CPU maps.
    package var elementBlock: UInt64 { perCPUBlock(UInt64(maxEntries), stride: elementStride) }
    /// Bytes from one element to the next.
    package var elementStride: UInt64 { unsafe UInt64(descriptor.pointee.value_stride) }

    @_noLocks @inline(__always)
    func arrayIndex(_ key: UnsafeRawPointer) -> UInt32 {
        unsafe UInt32(truncatingIfNeeded: cruntime_peek_tail(key, 4))
    }

    /// kernel/bpf/arraymap.c, `array_map_update_elem`; `slot` as in `hashUpdate`.
    @_noLocks
    func arrayUpdate(
        _ key: UnsafeRawPointer,
        _ value: UnsafeRawPointer,
        flags: UInt64,
        tid: UInt32,
        slot: Int
    ) -> Int64 {
        let plain = flags & ~UpdateFlag.lock
        if plain > UpdateFlag.exist { return Failure.invalid }
        let index = unsafe arrayIndex(key)
        if index >= maxEntries { return Failure.tooBig }
        if plain == UpdateFlag.noExist { return Failure.exists }
        if plain != flags {
            return unsafe lockOffset == nil ? Failure.invalid : storeLocked(element(index, slot: 0), value, tid)
        }
        if isReadOnly { return Failure.notPermitted }
        guard isPerCPU, slot < 0 else {
            unsafe storeElement(element(index, slot: isPerCPU ? slot : 0), value)
            return 0
        }
        let stride = unsafe Int(descriptor.pointee.value_stride)
        var cpu = 0
        while cpu < session.cpuCount {
            unsafe storeWords(element(index, slot: cpu), value.advanced(by: cpu &* stride), valueSize)
            cpu &+= 1
        }
        return 0
    }

    /// kernel/bpf/arraymap.c, `array_map_get_next_key`.
    @_noLocks
    func arrayNextKey(_ key: UnsafeRawPointer?, into next: UnsafeMutableRawPointer) -> Int64 {
        var following: UInt32 = 0
        if let key = unsafe key {
            let index = unsafe arrayIndex(key)
            if index < maxEntries {
                if index == maxEntries &- 1 { return Failure.noEntry }
                following = index &+ 1
            }
        }
        unsafe storeIndex(following, next)
        return 0
    }

    /// PROG_ARRAY: the word of entry `index`, a program's number plus 1 or 0; `index` is in range.
    @_noLocks
    func programEntry(_ index: UInt32) -> UnsafeMutablePointer<UInt32> {
        unsafe values(UInt64(index) &* 4).assumingMemoryBound(to: UInt32.self)
    }

    /// CGROUP_ARRAY: the control group of entry `index`, by its id, or 0; `index` is in range.
    @_noLocks
    package func cgroupEntry(_ index: UInt32) -> UnsafeMutablePointer<UInt64> {
        unsafe values(UInt64(index) &* 8).assumingMemoryBound(to: UInt64.self)
    }

    /// The program that a tail call through entry `index` reaches; -1 where there is none.
    @_noLocks
    package func tailCallTarget(_ index: UInt32) -> Int {
        guard index < maxEntries else { return -1 }
        let entry = unsafe cruntime_load32(programEntry(index))
        return entry <= (unsafe session.header.pointee.program_count) ? Int(entry) &- 1 : -1
    }
}

/// Stores a 32-bit key at any alignment.
@_noLocks
func storeIndex(_ index: UInt32, _ to: UnsafeMutableRawPointer) {
    let bytes = unsafe to.assumingMemoryBound(to: UInt8.self)
    unsafe bytes[0] = UInt8(truncatingIfNeeded: index)
    unsafe bytes[1] = UInt8(truncatingIfNeeded: index >> 8)
    unsafe bytes[2] = UInt8(truncatingIfNeeded: index >> 16)
    unsafe bytes[3] = UInt8(truncatingIfNeeded: index >> 24)
}
