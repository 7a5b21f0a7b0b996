package import CRuntime
internal import CSession
internal import ISA
internal import Runtime

/// Helpers that change which instructions run, and are therefore the interpreter's own.
enum HelperNumber {
    static var tailCall: UInt64 { @_noLocks get { 12 } }
    static var forEachMapElem: UInt64 { @_noLocks get { 164 } }
    static var loop: UInt64 { @_noLocks get { 181 } }
    static var userRingDrain: UInt64 { @_noLocks get { 209 } }
}

/// Errors that helpers return, as registers hold them.
private enum Failure {
    static var tooBig: UInt64 { @_noLocks get { UInt64(bitPattern: -7) } }
    static var invalid: UInt64 { @_noLocks get { UInt64(bitPattern: -22) } }
}

extension Activation {
    /// Goes over to the first instruction of another program of the session.
    @_noLocks
    mutating func enter(program index: Int) {
        guard let session = unsafe SessionView(context) else { return }
        unsafe program = unsafe session.instructions(index)
        count = unsafe Int32(truncatingIfNeeded: session.program(index).pointee.instruction_count)
        unsafe context.pointee.program = UInt32(truncatingIfNeeded: index)
        unsafe context.pointee.tail_calls += 1
    }
}

/// Index of the program that a tail call goes to; -1 where it must not be taken and the program goes on.
///
/// Linux: kernel/bpf/core.c, `JMP_TAIL_CALL`.
@_noLocks @inline(never)
func tailCallTarget(_ context: UnsafeMutablePointer<cruntime_context>, map handle: UInt64, index: UInt64) -> Int {
    guard let map = unsafe guestMap(context, handle) else { return -1 }
    guard case .programArray? = map.family else {
        unsafe raiseTrap(context, .wrongMapType, value: UInt64(map.index))
        return -1
    }
    guard unsafe context.pointee.tail_calls < Interpreter.maximumTailCalls else { return -1 }
    return map.tailCallTarget(UInt32(truncatingIfNeeded: index))
}

/// `bpf_tail_call` for compiled code: the program that the run goes over to, or -1 where it goes on.
@_noLocks
package func takeTailCall(_ context: UnsafeMutablePointer<cruntime_context>, map: UInt64, index: UInt64) -> Int {
    let target = unsafe tailCallTarget(context, map: map, index: index)
    if target >= 0 {
        unsafe context.pointee.program = UInt32(truncatingIfNeeded: target)
        unsafe context.pointee.tail_calls += 1
    }
    return target
}

/// A helper that calls functions of the program: `bpf_loop`, `bpf_for_each_map_elem` or `bpf_user_ringbuf_drain`.
@_noLocks @inline(never)
func callBack(_ activation: Activation, frame: UInt64, helper: UInt64, _ r: Registers) -> UInt64 {
    helper == HelperNumber.loop
        ? callLoop(activation, frame: frame, r) : callForEach(activation, frame: frame, helper: helper, r)
}

/// `callx`: calls the function of this program or the helper that a register names.
@_noLocks @inline(never)
func callAddress(_ activation: Activation, frame: UInt64, address: UInt64, _ r: Registers) -> UInt64 {
    let context = unsafe activation.context
    if let entry = FunctionHandle.index(address) {
        return callFunction(activation, frame: frame, entry: entry, r[1], r[2], r[3], r[4], r[5])
    }
    switch address {
    case _ where unsafe context.pointee.user_helpers != nil && address < UInt64(CRUNTIME_USER_HELPERS):
        return unsafe callHelper(context, UInt32(truncatingIfNeeded: address), r[1], r[2], r[3], r[4], r[5])
    case HelperNumber.tailCall, HelperNumber.loop, HelperNumber.forEachMapElem, HelperNumber.userRingDrain:
        // The verifier of Linux knows these by their immediate; through a register there is nothing to go by.
        unsafe raiseTrap(context, .unsupported, value: address)
        return 0
    default:
        guard let number = UInt32(exactly: address) else {
            unsafe raiseTrap(context, .unknownHelper, value: address)
            return 0
        }
        return unsafe callHelper(context, number, r[1], r[2], r[3], r[4], r[5])
    }
}

/// Whether a function starts at an instruction; a trap where none does.
@_noLocks
private func mayEnter(_ activation: Activation, _ entry: Int) -> Bool {
    if entry < Int(activation.count), unsafe activation.program[entry].startsFunction { return true }
    unsafe raiseTrap(activation.context, .badJump, value: UInt64(entry))
    return false
}

/// The function that a register names for a helper to call back; nil and a trap where it names none, even if it would never run.
@_noLocks
private func callback(_ activation: Activation, _ handle: UInt64) -> Int? {
    guard let entry = FunctionHandle.index(handle) else {
        unsafe raiseTrap(activation.context, .badArgument, value: handle)
        return nil
    }
    return mayEnter(activation, entry) ? entry : nil
}

/// Takes instructions from the budget for what a helper does in place of the program; false and a trap where too few are left.
@_noLocks
package func chargeBudget(_ context: UnsafeMutablePointer<cruntime_context>, _ count: UInt64) -> Bool {
    let observer = unsafe context.pointee.observer
    let left = unsafe observer?.pointee.budget ?? context.pointee.budget
    let rest = left < count ? 0 : left &- count
    if let observer = unsafe observer {
        unsafe observer.pointee.budget = rest
    } else {
        unsafe context.pointee.budget = rest
    }
    if left >= count { return true }
    unsafe raiseTrap(context, .budget, value: 0)
    return false
}

/// Runs a function of the program in a frame of its own.
@_noLocks
private func callFunction(
    _ activation: Activation,
    frame: UInt64,
    entry: Int,
    _ r1: UInt64,
    _ r2: UInt64,
    _ r3: UInt64,
    _ r4: UInt64,
    _ r5: UInt64
) -> UInt64 {
    let context = unsafe activation.context
    guard frame + 1 < Interpreter.maximumFrames else {
        unsafe raiseTrap(context, .callDepth, value: Interpreter.maximumFrames)
        return 0
    }
    guard mayEnter(activation, entry) else { return 0 }
    return execute(activation, entry: Int32(truncatingIfNeeded: entry), frame: frame + 1, r1, r2, r3, r4, r5)
}

/// `bpf_loop(nr_loops, callback, context, flags)`: how often the callback ran (Linux kernel/bpf/bpf_iter.c).
@_noLocks
private func callLoop(_ activation: Activation, frame: UInt64, _ r: Registers) -> UInt64 {
    let context = unsafe activation.context
    let count = UInt32(truncatingIfNeeded: r[1])
    guard let entry = callback(activation, r[2]) else { return 0 }
    if r[4] != 0 { return Failure.invalid }
    if count > Interpreter.mayGotoLimit { return Failure.tooBig }
    var done: UInt32 = 0
    while done < count {
        let stop = callFunction(activation, frame: frame, entry: entry, UInt64(done), r[3], 0, 0, 0)
        done += 1
        if stop != 0 { break }
        if unsafe context.pointee.trap.kind != 0 { return 0 }
    }
    return UInt64(done)
}

/// `bpf_for_each_map_elem(map, callback, context, flags)`: elements seen (Linux kernel/bpf/hashtab.c, arraymap.c);
/// `bpf_user_ringbuf_drain`, of the same arguments: records.
@_noLocks
private func callForEach(_ activation: Activation, frame: UInt64, helper: UInt64, _ r: Registers) -> UInt64 {
    let context = unsafe activation.context
    guard let entry = callback(activation, r[2]) else { return 0 }
    let place = unsafe context.pointee.stack_high &- (frame + 2) &* Interpreter.frameSize
    var walk = CallbackWalk()
    let status = unsafe beginWalk(context, &walk, map: r[1], place: place, flags: r[4], helper: helper)
    if unsafe status != 0 || context.pointee.trap.kind != 0 { return UInt64(bitPattern: status) }
    // An array's key and a record's dynptr lie nowhere in memory: they get a frame of the stack, between the caller's and the
    // callback's.
    guard frame + 2 < Interpreter.maximumFrames else {
        unsafe raiseTrap(context, .callDepth, value: Interpreter.maximumFrames)
        return 0
    }
    let drains = helper == HelperNumber.userRingDrain
    var seen: UInt64 = 0
    var stop: UInt64 = 0
    while true {
        let found = unsafe nextOfWalk(context, &walk, map: r[1], isCharged: true, stop: stop)
        if unsafe context.pointee.trap.kind != 0 { return 0 }
        if found <= 0 { return found == 0 ? seen : UInt64(bitPattern: found) }
        let (r1, r2, r3, r4) = drains ? (place, r[3], 0, 0) : (r[1], walk.key, walk.value, r[3])
        stop = callFunction(activation, frame: frame + 1, entry: entry, r1, r2, r3, r4, 0)
        if unsafe context.pointee.trap.kind != 0 { return 0 }
        seen += 1
    }
}
