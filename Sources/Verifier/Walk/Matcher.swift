import ISA

/// Compares states: whether a path that was walked covers another one.
///
/// Linux: kernel/bpf/verifier.c, `states_equal`, `regsafe`, `stacksafe`, `refsafe`.
struct Matcher {
    /// Ids of the old state and what stands for them in the new one.
    private var pairs: [(old: UInt32, new: UInt32)] = []
    private var counts: [(id: UInt32, count: Int)] = []
    private var lastTemporaryID = UInt32.max
    /// Reading what was never written is a mistake.
    var isStrict = false

    /// Everything that can happen from `new` can happen from `old`.
    mutating func isCovered(
        _ new: borrowing State,
        by checkpoint: Checkpoint,
        at pc: Int,
        _ needs: [Needs],
        allSlots: Bool
    ) -> Bool {
        isCovered(new, by: checkpoint.state, checkpoint.reads, at: pc, needs, allSlots: allSlots)
    }

    private mutating func isCovered(
        _ new: borrowing State,
        by old: borrowing State,
        _ reads: InlineArray<8, UInt64>,
        at pc: Int,
        _ needs: [Needs],
        allSlots: Bool
    ) -> Bool {
        guard new.frames.count == old.frames.count, new.references.count == old.references.count else { return false }
        // The frame above which nothing reads the stack of frames below.
        var reach = new.depth
        while reach > 0, !reachesCallers(new, reach, at: pc, needs) { reach -= 1 }
        pairs.removeAll(keepingCapacity: true)
        lastTemporaryID = .max
        guard new.frames[0].isAsync == old.frames[0].isAsync else { return false }
        for depth in new.frames.indices {
            if depth > 0 {
                guard new.frames[depth].callSite == old.frames[depth].callSite,
                    new.frames[depth].isCallback == old.frames[depth].isCallback
                else { return false }
            }
            // Fewer rounds walked mean more to come.
            guard old.frames[depth].rounds <= new.frames[depth].rounds else { return false }
            var need: Needs
            if depth == new.depth {
                need = needs[pc]
            } else {
                // What is reached through pointers may matter. r0 to r5 are the callee's, but a helper calls its callback
                // again with the arguments that it was given.
                need = needs[returnPoint(new.frames[depth + 1])]
                if !new.frames[depth + 1].isCallback { need.live &= 0b11_1100_0000 }
                // What is reached through pointers from frames above, see `NeedsAnalysis.call`.
                if depth < reach { need.slots = .max }
            }
            for register in 0..<10 where need.isLive(register) {
                guard
                    isCovered(
                        new.frames[depth].registers[register],
                        by: old.frames[depth].registers[register],
                        isRelevant: need.isRelevant(register)
                    )
                else { return false }
            }
            let read = allSlots ? UInt64.max : reads[depth]
            guard isStackCovered(new.frames[depth].stack, by: old.frames[depth].stack, read, need.slots) else {
                return false
            }
        }
        for index in new.references.indices {
            // Locks of global data are named by their map, not by an id.
            if max(new.references[index].id, old.references[index].id) >= Reference.mapLock {
                guard new.references[index].id == old.references[index].id else { return false }
                continue
            }
            guard new.references[index].kind == old.references[index].kind,
                new.references[index].isDrained == old.references[index].isDrained,
                match(old.references[index].id, new.references[index].id)
            else { return false }
        }
        return true
    }

    /// The states are the same in everything that may be read.
    func isRepeated(_ new: borrowing State, _ old: borrowing State, at pc: Int, _ needs: [Needs]) -> Bool {
        for depth in new.frames.indices {
            guard new.frames[depth].callSite == old.frames[depth].callSite else { return false }
            var live: UInt16 = 0b11_1100_0000
            if depth == new.frames.count - 1 { live = needs[pc].live }
            for register in 0..<10 where live >> UInt16(register) & 1 != 0 {
                if new.frames[depth].registers[register] != old.frames[depth].registers[register] { return false }
            }
            if new.frames[depth].stack != old.frames[depth].stack { return false }
        }
        return new.references == old.references
    }

    private func reachesCallers(_ state: borrowing State, _ depth: Int, at pc: Int, _ needs: [Needs]) -> Bool {
        needs[depth == state.depth ? pc : returnPoint(state.frames[depth + 1])].reachesCallers
    }

    /// Where the caller of a frame goes on; a callback's helper is called again.
    private func returnPoint(_ frame: Frame) -> Int { frame.isCallback ? frame.callSite : frame.callSite + 1 }

    private mutating func isStackCovered(
        _ new: [StackSlot],
        by old: [StackSlot],
        _ read: UInt64,
        _ relevant: UInt64
    ) -> Bool {
        for index in 0..<max(old.count, new.count) where read >> UInt64(index) & 1 != 0 {
            let before = index < old.count ? old[index] : StackSlot()
            let now = index < new.count ? new[index] : StackSlot()
            let isRelevant = relevant >> UInt64(index) & 1 != 0
            if isStrict, (0..<8).contains(where: { before[$0] != .invalid && now[$0] == .invalid }) { return false }
            // Numbers, however they were written.
            if let (wide, narrow) = before.scalar.flatMap({ wide in now.scalar.map { (wide, $0) } }) {
                guard isCovered(narrow, by: wide, isRelevant: isRelevant) else { return false }
                // Some bytes may be known to be zero where the whole is not.
                if isRelevant, !narrow.isNull, before.hasZero(notIn: now) { return false }
                continue
            }
            for byte in 0..<8 {
                switch before[byte] {
                case .invalid, .misc:
                    // Memory that was not written may be read, as something unknown; pointers are not such.
                    if now[byte] == .dynptr || now[byte] == .iterator { return false }
                    if now[byte] == .spilled, !now.spilled.isScalar { return false }
                case .zero: guard now[byte] == .zero else { return false }
                case .spilled, .dynptr, .iterator: guard now[byte] == before[byte] else { return false }
                }
            }
            switch before[0] {
            case .invalid, .misc, .zero: break
            case .spilled, .dynptr, .iterator:
                if before.spilled.kind == .none { break }
                guard isCovered(now.spilled, by: before.spilled, isRelevant: isRelevant) else { return false }
            }
        }
        return true
    }

    private mutating func isCovered(_ new: RegisterState, by old: RegisterState, isRelevant: Bool) -> Bool {
        if old.kind == .none { return true }
        guard new.kind == old.kind else { return false }
        switch old.kind {
        case .none: return true
        case .scalar:
            if !isRelevant { return true }
            guard old.scalar.contains(new.scalar) else { return false }
            // What is learnt of one number tells nothing of a constant; a number alone is as good as any link.
            if old.id == 0 || old.scalar.constant != nil { return true }
            if new.id != 0, new.delta != old.delta || new.wraps != old.wraps { return false }
            return match(old.id, new.id != 0 ? new.id : makeTemporaryID())
        case .context, .map, .mapValue, .mapKey, .stack, .packet, .packetMeta, .packetEnd, .memory, .function, .object,
            .dynptr, .iterator:
            return new.isNullable == old.isNullable && new.isReadOnly == old.isReadOnly && new.frame == old.frame
                && new.map == old.map && new.offset == old.offset && new.size == old.size && new.range >= old.range
                && old.scalar.contains(new.scalar) && match(old.id, new.id) && match(old.reference, new.reference)
        }
    }

    /// What is one thing in the old state must be one thing in the new one, and the other way round.
    private mutating func match(_ old: UInt32, _ new: UInt32) -> Bool {
        if old == 0 || new == 0 { return old == new }
        for pair in pairs where pair.old == old || pair.new == new { return pair.old == old && pair.new == new }
        pairs.append((old, new))
        return true
    }

    /// Stands for a number that is linked to nothing.
    private mutating func makeTemporaryID() -> UInt32 {
        lastTemporaryID -= 1
        return lastTemporaryID
    }

    // MARK: - Ids in use

    /// Counts how often scalars of the state have each id.
    mutating func count(_ state: borrowing State) {
        counts.removeAll(keepingCapacity: true)
        for depth in state.frames.indices {
            for register in 0..<10 { add(state.frames[depth].registers[register]) }
            for slot in state.frames[depth].stack.indices { add(state.frames[depth].stack[slot].spilled) }
        }
    }

    private mutating func add(_ register: RegisterState) {
        guard register.isScalar, register.id != 0 else { return }
        if let index = counts.firstIndex(where: { $0.id == register.id }) {
            counts[index].count += 1
        } else {
            counts.append((register.id, 1))
        }
    }

    /// A scalar whose id nothing else has.
    func isSingle(_ register: RegisterState) -> Bool {
        register.isScalar && register.id != 0
            && !counts.contains { $0.id == register.id && $0.count > 1 }
    }
}
