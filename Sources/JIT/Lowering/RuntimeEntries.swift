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
    guard !isOurs || (number != 12 && number != 164 && number != 181), let helper = UInt32(exactly: number) else {
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

/// Bytes of native stack that `bpf_for_each_map_elem` needs; a multiple of 16.
let forEachRoom = (MemoryLayout<ForEachState>.size + 15) & ~15

/// What an iteration keeps on the native stack; generated code reads `key` and `value`.
struct ForEachState {
    var key: UInt64 = 0
    var value: UInt64 = 0
    /// Where an array's key is put.
    var place: UInt64 = 0
    var cursor = MapCursor()
}

/// Begins an iteration: (map, state, place, flags) → 0, or the helper's result.
let forEachStartEntry: HelperEntry = { handle, state, place, flags, _, context in
    unsafe UInt64(bitPattern: forEachStart(context, handle, state, place, flags))
}

private func forEachStart(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ handle: UInt64,
    _ state: UInt64,
    _ place: UInt64,
    _ flags: UInt64
) -> Int64 {
    guard let map = unsafe guestMap(context, handle) else { return 0 }
    guard map.isIterable else {
        unsafe raiseTrap(context, .wrongMapType, value: UInt64(map.index))
        return 0
    }
    // -EINVAL
    if flags != 0 { return -22 }
    guard let pointer = unsafe UnsafeMutablePointer<ForEachState>(bitPattern: UInt(state)) else { return 0 }
    unsafe pointer.initialize(to: ForEachState())
    unsafe pointer.pointee.place = place
    return 0
}

/// The next element: (map, state, whether it is charged) → 1, or 0 at the end.
let forEachStepEntry: HelperEntry = { handle, state, isChecked, _, _, context in
    guard let map = unsafe guestMap(context, handle),
        let pointer = unsafe UnsafeMutablePointer<ForEachState>(bitPattern: UInt(state))
    else { return 0 }
    let isElement = unsafe pointer.pointee.cursor.advance(map, slot: slot(context, for: map))
    let cursor = unsafe pointer.pointee.cursor
    if isChecked != 0, unsafe !chargeBudget(context, cursor.skipped) { return 0 }
    guard isElement else { return 0 }
    unsafe pointer.pointee.value = unsafe UInt64(UInt(bitPattern: cursor.value))
    unsafe pointer.pointee.key = unsafe UInt64(UInt(bitPattern: cursor.key))
    if unsafe pointer.pointee.key == 0 {
        let place = unsafe pointer.pointee.place
        unsafe UnsafeMutablePointer<UInt32>(bitPattern: UInt(place))?.pointee = cursor.index
        unsafe pointer.pointee.key = place
    }
    return 1
}
