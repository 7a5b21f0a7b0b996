package import CRuntime

/// A helper as engines call it: r1 to r5 where C has its first five arguments, then the context.
package typealias HelperEntry =
    @convention(c) (
        UInt64, UInt64, UInt64, UInt64, UInt64, UnsafeMutablePointer<cruntime_context>
    ) -> UInt64

/// The helpers that this runtime has, by number (`enum bpf_func_id`, see `Helper`): the one table of them.
///
/// Nil for those that there are not, and for those that run programs. Each row only passes on its arguments, as closures
/// are not looked at where code is proved not to lock.
@_noLocks
package func helperEntry(_ number: UInt32) -> HelperEntry? {
    switch number {
    case 1: { unsafe r0(mapLookup($5, $0, $1)) }
    case 2: { unsafe r0(mapUpdate($5, $0, $1, $2, $3)) }
    case 3: { unsafe r0(mapDelete($5, $0, $1)) }
    // probe_read, probe_read_kernel; probe_read_user, copy_from_user: one address space, the process's own.
    case 4, 113: { unsafe r0(probeReadKernel($5, $0, $1, $2)) }
    case 112, 148: { unsafe r0(probeRead($5, $0, $1, $2)) }
    case 5: { _, _, _, _, _, _ in cruntime_monotonic_ns() }
    case 6: { unsafe r0(tracePrint($5, $0, $1, $2, $3, $4)) }
    case 7: { unsafe r0(random($5)) }
    case 8: { _, _, _, _, _, _ in UInt64(cruntime_cpu()) }
    case 14: { unsafe $5.pointee.pid_tgid }
    case 15: { unsafe $5.pointee.uid_gid }
    case 16: { unsafe r0(currentComm($5, $0, $1)) }
    case 25: { unsafe r0(perfEventOutput($5, $1, $2, $3, $4)) }
    case 27: { unsafe r0(getStackID($5, $1, $2)) }
    // get_current_task, get_current_task_btf
    case 35, 158: { unsafe r0(currentTask($5)) }
    case 36: { unsafe r0(probeWrite($5, $0, $1, $2)) }
    case 37: { unsafe r0(underCgroup($5, $0, $1)) }
    case 42: { _, _, _, _, _, _ in UInt64(cruntime_numa_node()) }
    // probe_read_str, probe_read_kernel_str; probe_read_user_str
    case 45, 115: { unsafe r0(probeReadKernelString($5, $0, $1, $2)) }
    case 114: { unsafe r0(probeReadString($5, $0, $1, $2)) }
    case 58: { unsafe r0(overrideReturn($5, $0, $1)) }
    case 67: { unsafe r0(getStack($5, $1, $2, $3)) }
    case 80: { unsafe r0(currentCgroup($5)) }
    case 87: { unsafe r0(mapPush($5, $0, $1, $2)) }
    case 88: { unsafe r0(mapTake($5, $0, $1, removes: true)) }
    case 89: { unsafe r0(mapTake($5, $0, $1, removes: false)) }
    case 93: { unsafe r0(spinLock($5, $0)) }
    case 94: { unsafe r0(spinUnlock($5, $0)) }
    case 105: { unsafe r0(parseNumber($5, $0, $1, $2, $3, isSigned: true)) }
    case 106: { unsafe r0(parseNumber($5, $0, $1, $2, $3, isSigned: false)) }
    case 109: { unsafe r0(sendSignal($5, $0, toThread: false)) }
    case 117: { unsafe r0(sendSignal($5, $0, toThread: true)) }
    // Four milliseconds each, as Debian's kernels count them; from the clock's start, not from five minutes before it.
    case 118: { _, _, _, _, _, _ in cruntime_coarse_ns() / 4_000_000 }
    case 120: { unsafe r0(namespacePidTgid($5, $0, $1, $2, $3)) }
    case 123: { unsafe r0(ancestorCgroup($5, $0)) }
    case 125: { _, _, _, _, _, _ in cruntime_boottime_ns() }
    case 130: { unsafe r0(ringBufferOutput($5, $0, $1, $2, $3)) }
    case 131: { unsafe r0(ringBufferReserve($5, $0, $1, $2)) }
    case 132: { unsafe r0(ringBufferFinish($5, $0, $1, discards: false)) }
    case 133: { unsafe r0(ringBufferFinish($5, $0, $1, discards: true)) }
    case 134: { unsafe r0(ringBufferQuery($5, $0, $1)) }
    // get_task_stack, and copy_from_user_task below: of the calling thread, the only task that programs have.
    case 141: { unsafe r0(getStack($5, $1, $2, $3)) }
    case 156: { unsafe r0(taskStorageGet($5, $0, $1, $2, $3)) }
    case 157: { unsafe r0(taskStorageDelete($5, $0, $1)) }
    case 160: { _, _, _, _, _, _ in cruntime_coarse_ns() }
    case 165: { unsafe r0(printText($5, $0, $1, $2, $3, $4)) }
    case 173: { unsafe $5.pointee.function_ip }
    case 174: { unsafe $5.pointee.cookie }
    case 177: { unsafe r0(tracePrintList($5, $0, $1, $2, $3)) }
    case 182: { unsafe r0(compareStrings($5, $0, $1, $2)) }
    case 191: { unsafe r0($4 == 0 ? probeRead($5, $0, $1, $2) : Failure.invalid) }
    case 195: { unsafe r0(mapLookupSlot($5, $0, $1, $2)) }
    case 197: { unsafe r0(dynptrFromMemory($5, $0, $1, $2, $3)) }
    case 198: { unsafe r0(ringBufferReserveDynptr($5, $0, $1, $2, $3)) }
    case 199: { unsafe r0(ringBufferFinishDynptr($5, $0, $1, discards: false)) }
    case 200: { unsafe r0(ringBufferFinishDynptr($5, $0, $1, discards: true)) }
    case 201: { unsafe r0(dynptrRead($5, $0, $1, $2, $3, $4)) }
    case 202: { unsafe r0(dynptrWrite($5, $0, $1, $2, $3, $4)) }
    case 203: { unsafe r0(dynptrData($5, $0, $1, $2)) }
    case 208: { _, _, _, _, _, _ in cruntime_tai_ns() }
    // Kernel functions.
    case 212:
        {
            unsafe r0(numberIteratorNew($5, $0, Int32(truncatingIfNeeded: $1), Int32(truncatingIfNeeded: $2)))
        }
    case 213: { unsafe r0(numberIteratorNext($5, $0)) }
    case 214: { unsafe r0(numberIteratorDestroy($5, $0)) }
    default: nil
    }
}

/// A helper's result as the register holds it.
@_noLocks @inline(__always)
private func r0(_ result: Int64) -> UInt64 { UInt64(bitPattern: result) }
