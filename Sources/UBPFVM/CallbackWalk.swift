package import CRuntime
internal import Runtime

/// How far a helper has come that calls a function for each element of a map, or for each record of a user ring.
package struct CallbackWalk {
    /// What the function is given; generated code reads these two.
    package var key: UInt64 = 0
    package var value: UInt64 = 0
    /// Memory for what lies nowhere: an array's key, a record's dynptr.
    private var place: UInt64 = 0
    private var cursor = MapCursor()
    private var samples: UInt32 = 0

    @_noLocks
    package init() {}

    @_noLocks
    fileprivate init(place: UInt64) { self.place = place }

    /// 1 where there is an element.
    @_noLocks
    fileprivate mutating func advance(
        _ context: UnsafeMutablePointer<cruntime_context>,
        _ map: MapView,
        isCharged: Bool
    ) -> Int64 {
        let isElement = cursor.advance(map, slot: unsafe slot(context, for: map))
        if isCharged, unsafe !chargeBudget(context, cursor.skipped) { return 0 }
        guard isElement else { return 0 }
        value = unsafe UInt64(UInt(bitPattern: cursor.value))
        key = unsafe UInt64(UInt(bitPattern: cursor.key))
        if key == 0 {
            unsafe UnsafeMutablePointer<UInt32>(bitPattern: UInt(place))?.pointee = cursor.index
            key = place
        }
        return 1
    }

    @_noLocks
    fileprivate mutating func drain(_ context: UnsafeMutablePointer<cruntime_context>, _ map: MapView, isDone: Bool)
        -> Int64
    {
        var found: Int64 = 0
        if isDone {
            map.giveBackSample()
        } else if let place = unsafe UnsafeMutableRawPointer(bitPattern: UInt(place)) {
            found = unsafe map.nextSample(place, &samples)
        }
        if found <= 0 { unsafe endDrain(context) }
        return found
    }
}

/// Begins a walk: 0, or the helper's result; a trap where the map is none to walk.
@_noLocks @inline(never)
package func beginWalk(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ walk: UnsafeMutablePointer<CallbackWalk>,
    map handle: UInt64,
    place: UInt64,
    flags: UInt64,
    helper: UInt64
) -> Int64 {
    guard let map = unsafe guestMap(context, handle) else { return 0 }
    unsafe walk.initialize(to: CallbackWalk(place: place))
    let drains = helper == HelperNumber.userRingDrain
    guard drains ? map.isUserRing : map.isIterable else {
        unsafe raiseTrap(context, .wrongMapType, value: UInt64(map.index))
        return 0
    }
    if drains { return unsafe map.beginDrain(context, flags: flags) }
    // -EINVAL
    return flags != 0 ? -22 : 0
}

/// Goes to the next thing: 1, 0 at the end or a negated errno value.
///
/// - Parameter stop: what the function returned last; not 0 is the end.
@_noLocks @inline(never)
package func nextOfWalk(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ walk: UnsafeMutablePointer<CallbackWalk>,
    map handle: UInt64,
    isCharged: Bool,
    stop: UInt64
) -> Int64 {
    guard let map = unsafe guestMap(context, handle) else { return 0 }
    if map.isUserRing { return unsafe walk.pointee.drain(context, map, isDone: stop != 0) }
    return unsafe stop != 0 ? 0 : walk.pointee.advance(context, map, isCharged: isCharged)
}
