import ISA

// Conditional jumps: both ways, each with what the condition tells (Linux: `check_cond_jmp_op`).

extension Walk {
    /// Goes on at the next instruction, and lets the other way wait, unless the operands decide.
    mutating func branch(
        _ instruction: Instruction,
        _ comparison: Comparison,
        _ width: Width,
        _ operand: Operand
    ) throws(VerifierError) -> Int? {
        let left = try read(instruction.dst)
        let right: RegisterState
        switch operand {
        case .imm: right = .constant(UInt64(bitPattern: instruction.imm))
        case .reg: right = try read(instruction.src)
        }
        let target = Int(layout.targets[pc])
        let isSame = operand == .reg && instruction.dst == instruction.src
        try checkComparison(instruction, comparison, left, right, operand)
        if let taken = decided(comparison, width, left, right, isSame) {
            decide()
            let next = taken ? target : pc + 1
            trail.go(from: pc, to: next)
            return next
        }
        let here = trail.tip
        var other = state
        var isPossible = (taken: true, notTaken: true)
        isPossible.taken = assume(true, instruction, comparison, width, operand, left, right)
        swap(&state, &other)
        isPossible.notTaken = assume(false, instruction, comparison, width, operand, left, right)
        // Pointers are compared as they are; a number that one is compared with may be NULL.
        if operand == .reg, left.isPointer != right.isPointer { decide() }
        guard isPossible.notTaken else {
            decide()
            guard isPossible.taken else { return nil }
            swap(&state, &other)
            trail.go(from: pc, to: target)
            return target
        }
        if !isPossible.taken { decide() }
        if isPossible.taken {
            trail.go(from: pc, to: target)
            try fork(other, at: target)
            trail.tip = here
        }
        trail.go(from: pc, to: pc + 1)
        return pc + 1
    }

    /// Whether the jump is always or never taken.
    private func decided(
        _ comparison: Comparison,
        _ width: Width,
        _ left: RegisterState,
        _ right: RegisterState,
        _ isSame: Bool
    ) -> Bool? {
        if left.isScalar, right.isScalar {
            if isSame || (left.id != 0 && left.id == right.id && left.delta == right.delta && left.wraps == right.wraps)
            {
                switch comparison {
                case .equal, .greaterEqual, .lessEqual, .signedGreaterEqual, .signedLessEqual: return true
                case .notEqual, .greater, .less, .signedGreater, .signedLess: return false
                case .set: break
                }
            }
            return Verifier.decide(comparison, width, left.scalar, right.scalar)
        }
        guard width == .w64 else { return nil }
        if left.isPointer, right.isNull || right.isPointer, let taken = decidedByNull(comparison, left, right) {
            return taken
        }
        if right.isPointer, left.isNull, let taken = decidedByNull(comparison, right, left) { return taken }
        return nil
    }

    private func decidedByNull(_ comparison: Comparison, _ pointer: RegisterState, _ other: RegisterState) -> Bool? {
        guard other.isNull, pointer.isNonNull else { return nil }
        return switch comparison {
        case .equal: false
        case .notEqual: true
        case .greater, .greaterEqual, .set, .less, .lessEqual, .signedGreater, .signedGreaterEqual, .signedLess,
            .signedLessEqual:
            nil
        }
    }

    /// Comparing addresses tells something of where things are, which only some programs may know.
    private func checkComparison(
        _ instruction: Instruction,
        _ comparison: Comparison,
        _ left: RegisterState,
        _ right: RegisterState,
        _ operand: Operand
    ) throws(VerifierError) {
        guard subject.strictLeaks, left.isPointer || right.isPointer else { return }
        let isEquality = comparison == .equal || comparison == .notEqual
        if isEquality, right.isNull, left.isNullable || mayCompareWithNull(left) { return }
        if isPacketComparison(left, right) { return }
        throw fail(
            .pointerComparison,
            "r\(instruction.dst.rawValue) is \(describe(left)); comparing it tells where things are in memory",
            instruction.dst
        )
    }

    /// Pointers that the kernel knows not to be NULL, so that a comparison tells nothing.
    private func mayCompareWithNull(_ pointer: RegisterState) -> Bool {
        switch pointer.kind {
        case .mapValue, .mapKey, .map, .memory, .object: true
        case .none, .scalar, .context, .stack, .packet, .packetMeta, .packetEnd, .function, .dynptr, .iterator: false
        }
    }

    // MARK: - What a condition tells

    /// Takes a way in `state`; false where it cannot be taken.
    private mutating func assume(
        _ taken: Bool,
        _ instruction: Instruction,
        _ comparison: Comparison,
        _ width: Width,
        _ operand: Operand,
        _ left: RegisterState,
        _ right: RegisterState
    ) -> Bool {
        if left.isScalar, right.isScalar {
            guard let (a, b) = refine(comparison, width, left.scalar, right.scalar, taken: taken) else { return false }
            learn(instruction.dst, left, a)
            if operand == .reg, instruction.src != instruction.dst { learn(instruction.src, right, b) }
            // Two numbers found equal are one from here on.
            if operand == .reg, width == .w64, isEqual(comparison, taken), a.constant == nil {
                join(instruction.dst, instruction.src)
            }
            return true
        }
        guard width == .w64 else { return true }
        let isEquality = comparison == .equal || comparison == .notEqual
        if isEquality, left.isNullable, right.isNull {
            setNull(left, isNull: (comparison == .equal) == taken)
        } else if isEquality, right.isNullable, left.isNull {
            setNull(right, isNull: (comparison == .equal) == taken)
        } else if isEquality, left.isPointer, right.isPointer, (comparison == .equal) == taken {
            // Equal to something that is not NULL.
            if left.isNullable, right.isNonNull { setNull(left, isNull: false) }
            if right.isNullable, left.isNonNull { setNull(right, isNull: false) }
        } else {
            learnPacket(comparison, taken, left, right)
        }
        return true
    }

    private func isEqual(_ comparison: Comparison, _ taken: Bool) -> Bool {
        switch comparison {
        case .equal: taken
        case .notEqual: !taken
        case .greater, .greaterEqual, .set, .less, .lessEqual, .signedGreater, .signedGreaterEqual, .signedLess,
            .signedLessEqual:
            false
        }
    }

    /// A register, and whatever is linked to it, has one of these values.
    private mutating func learn(_ register: Register, _ old: RegisterState, _ scalar: Scalar) {
        guard old.scalar != scalar else { return }
        state.frames[state.depth].registers[Int(register.rawValue)].scalar = scalar
        guard old.id != 0 else { return }
        let delta = old.delta
        var linked = 0
        forEachValue { value in
            guard value.kind == .scalar, value.id == old.id else { return }
            linked += 1
            if value.delta == delta, value.wraps == old.wraps {
                value.scalar = scalar
                return
            }
            // Low halves tell nothing of upper ones.
            let isHalf = value.wraps || old.wraps
            if isHalf, value.scalar.umax > UInt64(UInt32.max) { return }
            let moved = apply(.add, isHalf ? .w32 : .w64, scalar, .constant(value.delta &- delta))
            value.scalar = value.scalar.intersect(moved) ?? moved
        }
        if linked > 1 { decide() }
    }

    private mutating func join(_ a: Register, _ b: Register) {
        let (left, right) = (state.frames[state.depth][a], state.frames[state.depth][b])
        guard left.id == 0 || right.id == 0 || left.id != right.id else { return }
        if right.id == 0, left.id != 0 {
            state.frames[state.depth].registers[Int(b.rawValue)].id = left.id
            state.frames[state.depth].registers[Int(b.rawValue)].delta = left.delta
            state.frames[state.depth].registers[Int(b.rawValue)].wraps = left.wraps
        } else if left.id == 0, right.id != 0 {
            state.frames[state.depth].registers[Int(a.rawValue)].id = right.id
            state.frames[state.depth].registers[Int(a.rawValue)].delta = right.delta
            state.frames[state.depth].registers[Int(a.rawValue)].wraps = right.wraps
        } else if left.id == 0 {
            let id = makeID()
            for register in [a, b] {
                state.frames[state.depth].registers[Int(register.rawValue)].id = id
                state.frames[state.depth].registers[Int(register.rawValue)].delta = 0
                state.frames[state.depth].registers[Int(register.rawValue)].wraps = false
            }
        }
    }

    /// All copies of a nullable pointer become NULL, or pointers that may be used.
    private mutating func setNull(_ pointer: RegisterState, isNull: Bool) {
        let id = pointer.id
        // What was not given has not to be given back; of what was made from it, that says nothing.
        if isNull, id == pointer.reference { forget(id) }
        let hasLock = pointer.kind == .mapValue && maps[Int(pointer.map)].spinLock != nil
        var inner: Int32?
        if pointer.kind == .mapValue, !isNull { inner = innerMap(pointer.map) }
        forEachValue { value in
            guard value.isNullable, value.id == id else { return }
            if isNull {
                value = .constant(0)
                return
            }
            value.isNullable = false
            if let inner {
                value.kind = .map
                value.map = inner
                // Which of the inner maps it is.
                return
            }
            if value.reference == 0, !hasLock { value.id = 0 }
        }
    }

    /// Changes every register and stored register of all frames.
    mutating func forEachValue(_ change: (inout RegisterState) -> Void) {
        for depth in state.frames.indices {
            for register in 0..<10 { change(&state.frames[depth].registers[register]) }
            for slot in state.frames[depth].stack.indices where state.frames[depth].stack[slot].spilled.kind != .none {
                change(&state.frames[depth].stack[slot].spilled)
            }
        }
    }

    // MARK: - Packets

    private func isPacketComparison(_ left: RegisterState, _ right: RegisterState) -> Bool {
        switch (left.kind, right.kind) {
        case (.packet, .packetEnd), (.packetEnd, .packet): true
        case (.packetMeta, .packet), (.packet, .packetMeta): true
        default: false
        }
    }

    /// `data + n <= data_end`: n bytes of the packet are there (Linux: `try_match_pkt_pointers`).
    private mutating func learnPacket(
        _ comparison: Comparison,
        _ taken: Bool,
        _ left: RegisterState,
        _ right: RegisterState
    ) {
        guard isPacketComparison(left, right) else { return }
        // The pointer whose range is learnt, and whether the end (or the data behind the metadata) stands on the right.
        let pointer: RegisterState
        let isRight: Bool
        switch (left.kind, right.kind) {
        case (.packet, .packetEnd), (.packetMeta, .packet): (pointer, isRight) = (left, true)
        default: (pointer, isRight) = (right, false)
        }
        if pointer.kind == .packetMeta {
            // Metadata ends where the packet begins, at its unmoved start.
            let other = isRight ? right : left
            if other.offset != 0 || other.id != 0 || other.scalar.constant != 0 { return }
        }
        // Whether `pointer <= end` is known, or even `pointer < end`.
        let strict: Bool?
        switch (comparison, taken) {
        case (.greater, true), (.lessEqual, false): strict = isRight ? nil : true
        case (.greater, false), (.lessEqual, true): strict = isRight ? false : nil
        case (.less, true), (.greaterEqual, false): strict = isRight ? true : nil
        case (.less, false), (.greaterEqual, true): strict = isRight ? nil : false
        default: strict = nil
        }
        guard let strict else { return }
        guard pointer.offset >= 0, pointer.scalar.smin >= 0 else { return }
        guard Int64(bitPattern: pointer.scalar.umax) >= 0, pointer.scalar.umax + UInt64(pointer.offset) <= 0xffff else {
            return
        }
        let reach = Int(pointer.offset) + (strict ? 1 : 0)
        guard reach <= 0xffff else { return }
        let (kind, id) = (pointer.kind, pointer.id)
        forEachValue { value in
            guard value.kind == kind, value.id == id else { return }
            value.range = max(value.range, UInt16(reach))
        }
    }
}
