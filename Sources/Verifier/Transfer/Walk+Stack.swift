import ISA

// The stack: what is stored whole is found again whole (Linux: `check_stack_read`, `check_stack_write`).

extension Walk {
    /// Offset of an access from r10 of its frame; nil where it is not the same on every run.
    private func checkStack(
        _ pointer: RegisterState,
        _ register: Register,
        _ offset: Int64,
        _ size: Int
    ) throws(VerifierError) -> ClosedRange<Int64> {
        let range = pointer.offsets
        let (first, underflow) = range.lowerBound.addingReportingOverflow(offset)
        let (last, overflow) = range.upperBound.addingReportingOverflow(offset)
        guard !underflow, !overflow, first >= Int64(-frameSize), last <= -Int64(size) else {
            let place = first == last ? "r10\(first < 0 ? "" : "+")\(first)" : "r10\(first) to r10+\(last)"
            throw fail(
                .stackBounds,
                "access of \(size) byte\(size == 1 ? "" : "s") at \(underflow || overflow ? "an unbounded offset" : place); "
                    + "the frame is r10-\(frameSize) to r10-1",
                register
            )
        }
        if subject.strictLeaks, first != last {
            throw fail(.leak, "r\(register.rawValue) points into the stack at a variable offset", register)
        }
        return first...last
    }

    /// Slots of bytes that lie `first` to `last` from r10.
    private func slots(_ first: Int64, _ last: Int64) -> ClosedRange<Int> {
        Int((-last - 1) >> 3)...Int((-first - 1) >> 3)
    }

    private func mask(_ slots: ClosedRange<Int>) -> UInt64 {
        let count = UInt64(slots.count)
        return (count == 64 ? .max : (1 << count) - 1) << UInt64(slots.lowerBound)
    }

    /// Makes room in a frame, and remembers how much its function needs.
    private mutating func grow(_ frame: Int, _ slot: Int) {
        state.frames[frame].grow(to: slot)
        let function = state.frames[frame].function
        stackSizes[function] = max(stackSizes[function], 8 * (slot + 1))
    }

    // MARK: - Reading

    mutating func loadStack(
        _ pointer: RegisterState,
        _ register: Register,
        _ offset: Int64,
        _ size: Size,
        _ signed: Bool
    ) throws(VerifierError) -> RegisterState {
        let range = try checkStack(pointer, register, offset, size.bytes)
        let frame = Int(pointer.frame)
        guard range.lowerBound == range.upperBound else {
            try readStack(frame, range.lowerBound, range.upperBound + Int64(size.bytes) - 1, register)
            let isZero = areZero(frame, range.lowerBound, range.upperBound + Int64(size.bytes) - 1)
            return isZero ? .constant(0) : .scalar(extended(.unknown, size, signed))
        }
        let first = range.lowerBound
        let slots = slots(first, first + Int64(size.bytes) - 1)
        grow(frame, slots.upperBound)
        markRead(frame, mask(slots))
        let slot = state.frames[frame].stack[slots.upperBound]
        let byte = Int(first & 7)
        if slots.count == 1, byte == 0, slot[0] == .spilled, slot.spilledSize >= size.bytes {
            var value = slot.spilled
            if size == .b64 {
                if slot.holdsRegister { return signed ? .scalar(extended(value.scalar, size, signed)) : value }
            } else if value.isScalar {
                let narrow = extended(value.scalar, size, signed)
                // The same number only if nothing was cut off.
                if narrow != value.scalar { (value.id, value.delta, value.wraps) = (0, 0, false) }
                value.scalar = narrow
                return value
            }
        }
        if slot[0] == .spilled, slot.spilled.isPointer, size != .b64 || !slot.holdsRegister {
            throw fail(
                .corruptedPointer,
                "part of \(describe(slot.spilled)), stored at r10\(first - Int64(byte)), would be read"
            )
        }
        try readStack(frame, first, first + Int64(size.bytes) - 1, register)
        if areZero(frame, first, first + Int64(size.bytes) - 1) { return .constant(0) }
        return .scalar(extended(.unknown, size, signed))
    }

    private func extended(_ scalar: Scalar, _ size: Size, _ signed: Bool) -> Scalar {
        signed ? scalar.signExtended(from: size) : scalar.zeroExtended(from: size)
    }

    /// Every byte from `first` to `last` is zero.
    private func areZero(_ frame: Int, _ first: Int64, _ last: Int64) -> Bool {
        for place in first...last {
            let slot = Int((-place - 1) >> 3)
            guard slot < state.frames[frame].stack.count else { return false }
            let value = state.frames[frame].stack[slot]
            switch value[Int(place & 7)] {
            case .zero: continue
            case .spilled where value.spilled.isNull: continue
            case .invalid, .spilled, .misc, .dynptr, .iterator: return false
            }
        }
        return true
    }

    /// Bytes that are read as numbers, by an instruction or a helper.
    mutating func readStack(_ frame: Int, _ first: Int64, _ last: Int64, _ register: Register) throws(VerifierError) {
        let slots = slots(first, last)
        grow(frame, slots.upperBound)
        markRead(frame, mask(slots))
        for place in first...last {
            let slot = state.frames[frame].stack[Int((-place - 1) >> 3)]
            switch slot[Int(place & 7)] {
            case .misc, .zero: continue
            case .spilled:
                if slot.spilled.isScalar || !subject.strictLeaks { continue }
                throw fail(.leak, "r10\(place) holds \(describe(slot.spilled)), which would be given away")
            case .invalid:
                if !subject.strictLeaks { continue }
                throw fail(.uninitializedStack, "the stack at r10\(place) was never written on this path", register)
            case .dynptr:
                throw fail(.corruptedPointer, "r10\(place) is part of a dynptr, which only helpers read", register)
            case .iterator:
                throw fail(
                    .corruptedPointer,
                    "r10\(place) is part of an iterator, which programs may not read",
                    register
                )
            }
        }
    }

    // MARK: - Writing

    mutating func storeStack(
        _ pointer: RegisterState,
        _ register: Register,
        _ offset: Int64,
        _ size: Size,
        _ value: RegisterState,
        _ source: Register?
    ) throws(VerifierError) {
        let range = try checkStack(pointer, register, offset, size.bytes)
        let frame = Int(pointer.frame)
        if value.kind == .stack, Int(value.frame) > frame {
            throw fail(.corruptedPointer, "a pointer to this function's stack would outlive the function")
        }
        guard range.lowerBound == range.upperBound else {
            let byte: StackSlot.Byte = value.isNull ? .zero : .misc
            try writeStack(frame, range.lowerBound, range.upperBound + Int64(size.bytes) - 1, byte, isCertain: false)
            return
        }
        let first = range.lowerBound
        let index = Int((-first - 1) >> 3)
        let byte = Int(first & 7)
        guard byte == 0, Int((-(first + Int64(size.bytes) - 1) - 1) >> 3) == index else {
            if value.isPointer {
                throw fail(
                    .corruptedPointer,
                    "\(describe(value)) is stored at r10\(first); pointers are stored whole, at multiples of 8",
                    source
                )
            }
            let byte: StackSlot.Byte = value.isNull ? .zero : .misc
            try writeStack(frame, first, first + Int64(size.bytes) - 1, byte, isCertain: true)
            return
        }
        grow(frame, index)
        try destroyDynptr(frame, index)
        var stored = value
        if value.isScalar, value.scalar.constant == nil, let source, isAlone(value),
            size == .b64 || value.scalar.zeroExtended(from: size) == value.scalar
        {
            stored.id = makeID()
            state.frames[state.depth].registers[Int(source.rawValue)].id = stored.id
            state.frames[state.depth].registers[Int(source.rawValue)].delta = 0
            state.frames[state.depth].registers[Int(source.rawValue)].wraps = false
            (stored.delta, stored.wraps) = (0, false)
        }
        if size == .b64 {
            state.frames[frame].stack[index].bytes = StackSlot.repeated(.spilled)
            state.frames[frame].stack[index].spilled = stored
            writes[frame] |= 1 << UInt64(index)
            return
        }
        var slot = state.frames[frame].stack[index]
        if value.isPointer { throw fail(.corruptedPointer, "only a part of \(describe(value)) would be stored") }
        if slot.holdsRegister, slot.spilled.isPointer, subject.strictLeaks {
            throw fail(.corruptedPointer, "part of the pointer stored at r10\(first) would be overwritten")
        }
        // What is left of a register that was there.
        for byte in size.bytes..<8 where slot[byte] == .spilled {
            slot[byte] = slot.spilled.isNull ? .zero : .misc
        }
        stored.scalar = stored.scalar.zeroExtended(from: size)
        if stored.scalar != value.scalar { (stored.id, stored.delta, stored.wraps) = (0, 0, false) }
        if stored.scalar.constant == 0 {
            for byte in 0..<size.bytes { slot[byte] = .zero }
            slot.spilled = .none
        } else {
            for byte in 0..<size.bytes { slot[byte] = .spilled }
            slot.spilled = stored
        }
        state.frames[frame].stack[index] = slot
    }

    /// Bytes that get something unknown, or zeroes; `isCertain`: all of them are written, not some.
    mutating func writeStack(
        _ frame: Int,
        _ first: Int64,
        _ last: Int64,
        _ kind: StackSlot.Byte,
        isCertain: Bool
    ) throws(VerifierError) {
        let slots = slots(first, last)
        grow(frame, slots.upperBound)
        for index in slots {
            try destroyDynptr(frame, index)
            var slot = state.frames[frame].stack[index]
            let low = Int64(-8 * (index + 1))
            let bytes = max(0, Int(first - low))...min(7, Int(last - low))
            if slot.bytes & StackSlot.repeated(.spilled) != 0, slot.spilled.isPointer, slot[0] == .spilled,
                subject.strictLeaks
            {
                throw fail(.corruptedPointer, "the pointer stored at r10\(low) would be overwritten in part")
            }
            let isWhole = isCertain && bytes.count == 8
            for byte in 0..<8 {
                if bytes.contains(byte) {
                    let keepsZero =
                        !isCertain && kind == .zero
                        && (slot[byte] == .zero || (slot[byte] == .spilled && slot.spilled.isNull))
                    slot[byte] = isCertain ? kind : (keepsZero ? .zero : .misc)
                } else if slot[byte] == .spilled {
                    slot[byte] = slot.spilled.isNull ? .zero : .misc
                }
            }
            slot.spilled = .none
            state.frames[frame].stack[index] = slot
            if isWhole { writes[frame] |= 1 << UInt64(index) }
        }
    }
}
