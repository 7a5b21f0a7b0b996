import ISA

// Helpers with rules of their own: locks, timers, dynptrs, tail calls, memory on the stack.

extension Walk {
    /// The map and the helper fit (Linux: `check_map_func_compatibility`).
    func checkMap(_ call: inout HelperCall) throws(VerifierError) {
        guard call.map >= 0 else { return }
        let map = maps[Int(call.map)]
        guard isCompatible(call.helper, map.type) else {
            throw fail(.mapType, "\(call.helper.name) does not work on '\(map.name)', \(article(map.type.name)) map")
        }
        switch call.helper {
        case .mapUpdateElem, .mapDeleteElem, .mapPushElem, .mapPopElem:
            if map.isReadOnly {
                throw fail(.readOnly, "\(call.helper.name) would change '\(map.name)', which is read-only")
            }
            if map.holdsSockets, !mayChangeSocketMaps(subject.type) {
                throw fail(.mapType, "\(subject.type.name) programs may not change '\(map.name)', which holds sockets")
            }
        default: break
        }
    }

    mutating func checkSpecial(_ call: inout HelperCall) throws(VerifierError) {
        let registers = state.frames[state.depth].registers
        switch call.helper {
        case .tailCall:
            guard state.references.isEmpty else {
                throw fail(.unreleased, "a tail call does not come back, but \(held())")
            }
            // What another program returns becomes the result of this function.
            if state.depth > 0 {
                let saved = (state, writes, trail.tip)
                write(.r0, .unknown)
                forgetPackets()
                if let next = try leave() { try fork(state, at: next) }
                (state, writes, trail.tip) = saved
            }
        case .loop, .forEachMapElem, .userRingbufDrain, .findVma:
            let flags = call.helper == .findVma ? registers[5] : registers[4]
            guard flags.isScalar else { throw fail(.argument, "the flags of \(call.helper.name) must be a number") }
        case .spinLock:
            guard state.lock == 0 else { throw fail(.lock, "a lock is held already; one at a time") }
            let lock = registers[1]
            state.references.append(Reference(id: lockID(lock), instruction: Int32(pc), kind: .spinLock))
        case .spinUnlock:
            let id = lockID(registers[1])
            guard state.lock != 0 else { throw fail(.lock, "no lock is held here") }
            guard state.lock == id else { throw fail(.lock, "another lock is held than the one given back") }
            state.references.removeAll { $0.kind == .spinLock }
        case .dynptrFromMem:
            guard registers[1].kind == .mapValue else {
                throw fail(
                    .argument,
                    "a dynptr is made from a map value only, but r1 is \(describe(registers[1]))",
                    .r1
                )
            }
        case .timerInit:
            guard registers[2].map == registers[1].map else {
                throw fail(.argument, "a timer belongs to the map that it lies in")
            }
        default: break
        }
    }

    /// Which lock: values of one lookup are one, those of others are others.
    private func lockID(_ pointer: RegisterState) -> UInt32 {
        pointer.id != 0 ? pointer.id : UInt32(bitPattern: pointer.map) | Reference.mapLock
    }

    mutating func checkSpecialField(
        _ call: HelperCall,
        _ index: Int,
        _ value: RegisterState,
        _ field: Int?,
        _ name: String
    ) throws(VerifierError) {
        guard value.kind == .mapValue, !value.isNullable, let field, value.constantOffset == Int64(field) else {
            throw fail(
                .argument,
                "argument \(index + 1) of \(call.helper.name) must point to the \(name) of a map value, but r\(index + 1) is \(describe(value))",
                Register(rawValue: UInt8(index + 1))
            )
        }
    }

    // MARK: - Memory on the stack

    /// A helper reads or fills `size` bytes of a frame.
    mutating func accessStack(
        _ pointer: RegisterState,
        _ register: Register,
        _ size: Int,
        isOut: Bool,
        isUpdate: Bool,
        isExact: Bool
    ) throws(VerifierError) {
        let range = pointer.offsets
        guard range.lowerBound >= Int64(-frameSize), range.upperBound <= 0, range.upperBound + Int64(size) <= 0 else {
            throw fail(
                .stackBounds,
                "r\(register.rawValue) points to r10\(range.lowerBound < 0 ? "" : "+")\(range.lowerBound), "
                    + "from where \(size) bytes go beyond the frame, which is r10-\(frameSize) to r10-1",
                register
            )
        }
        let frame = Int(pointer.frame)
        let (first, last) = (range.lowerBound, range.upperBound + Int64(size) - 1)
        if subject.strictLeaks, range.lowerBound != range.upperBound {
            throw fail(.leak, "r\(register.rawValue) points into the stack at a variable offset", register)
        }
        if isOut || isUpdate {
            if isUpdate { try readStack(frame, first, last, register) }
            try writeStack(frame, first, last, .misc, isCertain: isExact && range.lowerBound == range.upperBound)
        } else {
            try readStack(frame, first, last, register)
        }
    }

    // MARK: - Dynptrs: 16 bytes on the stack, two slots that name each other

    mutating func checkDynptr(
        _ call: inout HelperCall,
        _ index: Int,
        _ value: RegisterState,
        _ use: HelperPrototype.DynptrUse
    ) throws(VerifierError) {
        let text =
            "argument \(index + 1) of \(call.helper.name) must be a pointer to \(use == .uninitialized ? "a new" : "an initialised") dynptr "
            + "on the stack, but r\(index + 1) is \(describe(value))"
        if value.kind == .dynptr, case .any = use {
            call.dynptr = value
            return
        }
        guard value.kind == .stack, let offset = value.constantOffset, offset & 7 == 0, offset >= Int64(-frameSize),
            offset <= -16
        else { throw fail(.argument, text, Register(rawValue: UInt8(index + 1))) }
        let frame = Int(value.frame)
        let (low, high) = (Int((-offset - 1) >> 3), Int((-offset - 1) >> 3) - 1)
        guard case .uninitialized = use else {
            guard low < state.frames[frame].stack.count, state.frames[frame].stack[low].isAll(.dynptr),
                state.frames[frame].stack[high].isAll(.dynptr), state.frames[frame].stack[low].spilled.offset == 0,
                state.frames[frame].stack[low].spilled.id == state.frames[frame].stack[high].spilled.id
            else { throw fail(.argument, text, Register(rawValue: UInt8(index + 1))) }
            markRead(frame, 3 << UInt64(high))
            let dynptr = state.frames[frame].stack[low].spilled
            if case .ring = use, dynptr.reference == 0 {
                throw fail(.argument, "\(call.helper.name) works on dynptrs of ring buffers")
            }
            call.dynptr = dynptr
            return
        }
        try writeStack(frame, offset, offset + 15, .misc, isCertain: true)
        var dynptr = RegisterState(.dynptr)
        dynptr.id = makeID()
        if call.helper == .ringbufReserveDynptr { dynptr.reference = hold(.ringDynptr) }
        if call.helper == .dynptrFromMem { dynptr.isReadOnly = state.frames[state.depth].registers[1].isReadOnly }
        for (slot, part) in [(low, Int32(0)), (high, Int32(8))] {
            state.frames[frame].stack[slot].fill(.dynptr)
            dynptr.offset = part
            state.frames[frame].stack[slot].spilled = dynptr
        }
    }

    /// A slot is about to be written: the dynptr that it is part of is gone, with everything made from it.
    mutating func destroyDynptr(_ frame: Int, _ index: Int) throws(VerifierError) {
        let slot = state.frames[frame].stack[index]
        if slot[0] == .iterator {
            throw fail(.corruptedPointer, "the iterator at r10-\(8 * (index + 1)) would be overwritten")
        }
        guard slot[0] == .dynptr else { return }
        if slot.spilled.reference != 0 {
            throw fail(.corruptedPointer, "a dynptr that was not submitted or discarded would be overwritten")
        }
        let id = Int32(bitPattern: slot.spilled.id)
        forEachValue { value in
            if value.kind == .memory, value.map == id { value = .unknown }
        }
        let other = slot.spilled.offset == 0 ? index - 1 : index + 1
        for part in [index, other] where state.frames[frame].stack.indices.contains(part) {
            state.frames[frame].stack[part].fill(.misc)
        }
    }

    /// The dynptr that the callback of a frame was given is void when that returns, wherever pointers to it were stored.
    mutating func forgetDynptr(_ depth: UInt8) {
        let rest: RegisterState = subject.strictLeaks ? .none : .unknown
        forEachValue { value in
            if value.kind == .dynptr, value.frame == depth { value = rest }
        }
    }

    /// Dynptrs and the iterator of a reference that was given back.
    mutating func forgetSlots(_ reference: UInt32) {
        for frame in state.frames.indices {
            for slot in state.frames[frame].stack.indices {
                let value = state.frames[frame].stack[slot]
                guard value[0] == .dynptr || value[0] == .iterator else { continue }
                if value.spilled.kind == .none || value.spilled.reference == reference {
                    state.frames[frame].stack[slot].fill(.invalid)
                }
            }
        }
    }
}
