internal import CRuntime
internal import ISA
internal import Runtime
internal import UBPFVM

// Functions of ours that generated code calls, with the program's r1 to r5 and the context.

/// The address of such a function.
func address(of entry: HelperEntry) -> UInt64 {
    unsafe UInt64(UInt(bitPattern: unsafeBitCast(entry, to: UnsafeRawPointer.self)))
}

/// `bpf_tail_call(ctx, map, index)`: the program to go over to, or -1.
let tailCallEntry: HelperEntry = { _, map, index, _, _, context in
    let target = unsafe takeTailCall(context, map: map, index: index)
    return UInt64(bitPattern: Int64(target))
}

/// `callx` of a helper, whose number is in the context's scratch.
let callAddressEntry: HelperEntry = { r1, r2, r3, r4, r5, context in
    let number = unsafe context.pointee.machine_scratch
    // As in `callAddress`; an embedder's helpers are just called.
    let isOurs = unsafe context.pointee.user_helpers == nil
    guard !isOurs || (number != 12 && number != 164 && number != 181 && number != 209),
        let helper = UInt32(exactly: number)
    else {
        unsafe raiseTrap(context, number <= 181 ? .unsupported : .unknownHelper, value: number)
        return 0
    }
    return unsafe callHelper(context, helper, r1, r2, r3, r4, r5)
}

/// The run's per-CPU slot, taken now; only asked for by programs of a session.
let cpuSlotEntry: HelperEntry = { _, _, _, _, _, context in
    guard let session = unsafe SessionView(context) else { return 0 }
    return unsafe UInt64(takeCPUSlot(context, session))
}

/// Bytes of native stack that a walk needs; a multiple of 16.
let walkRoom = (MemoryLayout<CallbackWalk>.size + 15) & ~15

/// Begins a walk: (map, walk, place, flags, helper) → 0, or the helper's result.
let beginWalkEntry: HelperEntry = { map, walk, place, flags, helper, context in
    guard let walk = unsafe UnsafeMutablePointer<CallbackWalk>(bitPattern: UInt(walk)) else { return 0 }
    return unsafe UInt64(
        bitPattern: beginWalk(context, walk, map: map, place: place, flags: flags, helper: helper)
    )
}

/// What comes next: (map, walk, whether it is charged, -, the function's last result) → 1, 0 at the end, or an error.
let nextOfWalkEntry: HelperEntry = { map, walk, isCharged, _, stop, context in
    guard let walk = unsafe UnsafeMutablePointer<CallbackWalk>(bitPattern: UInt(walk)) else { return 0 }
    return unsafe UInt64(bitPattern: nextOfWalk(context, walk, map: map, isCharged: isCharged != 0, stop: stop))
}
