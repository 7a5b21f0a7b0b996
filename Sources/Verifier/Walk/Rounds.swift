// Loops whose rounds are limited at run time: callbacks, `may_goto` and iterators. A path that comes round to a state still being walked
// ends there, though that state has no end yet, so a path that ends on what was walked may in truth go on in a circle. Each
// circle must use up a round, of a function, a helper call or an iterator that the circle does not leave: another call, and an
// iterator made anew, have rounds of their own.

/// The frames of a state, the helper calls in them, and the iterators, that are the same in another one; one bit for each.
struct Kept: Equatable {
    var frames: UInt8 = 0
    var calls: UInt8 = 0
    /// By their place among the references, as states are compared.
    var iterators: UInt64 = 0

    func intersection(_ other: Kept) -> Kept {
        Kept(frames: frames & other.frames, calls: calls & other.calls, iterators: iterators & other.iterators)
    }
}

/// A path below a checkpoint went round to this one, which was still being walked.
struct Return {
    let target: Checkpoint
    /// What of the target's frames was not left on the way.
    var kept: Kept
}

extension State {
    func kept(since old: borrowing State) -> Kept {
        var kept = Kept()
        for depth in 0..<min(frames.count, old.frames.count) {
            if frames[depth].identity == old.frames[depth].identity { kept.frames |= 1 << UInt8(depth) }
            if frames[depth].activation != 0, frames[depth].activation == old.frames[depth].activation {
                kept.calls |= 1 << UInt8(depth)
            }
        }
        for index in 0..<min(references.count, old.references.count, 64)
        where references[index].kind == .iterator && references[index].id == old.references[index].id {
            kept.iterators |= 1 << UInt64(index)
        }
        return kept
    }

    /// The path from the other state to this one went round something whose rounds are limited at run time: coming back to
    /// the same state is no endless loop then.
    func isRoundAfter(_ old: borrowing State, _ kept: Kept) -> Bool {
        for index in 0..<min(references.count, old.references.count, 64)
        where kept.iterators >> UInt64(index) & 1 != 0 && references[index].rounds > old.references[index].rounds {
            return true
        }
        // A loop around this one may live off an iterator, while this one lives off a frame that it leaves; were the iterator
        // made anew here, the two together would have no end. Frames, and iterators, end in the order that they began in.
        for index in old.references.indices where old.references[index].kind == .iterator {
            guard index < 64, kept.iterators >> UInt64(index) & 1 != 0 else { return false }
        }
        for depth in 0..<min(frames.count, old.frames.count) {
            if kept.frames >> UInt8(depth) & 1 != 0, frames[depth].gotoRounds > old.frames[depth].gotoRounds {
                return true
            }
            if kept.calls >> UInt8(depth) & 1 != 0, frames[depth].rounds > old.frames[depth].rounds { return true }
        }
        return false
    }
}

extension Checkpoint {
    /// States still being walked that paths from here come round to.
    private var openReturns: [Return] {
        var found: [Return] = []
        var work = returns
        while let next = work.popLast() {
            if let index = found.firstIndex(where: { $0.target === next.target }) {
                let both = found[index].kept.intersection(next.kept)
                if both == found[index].kept { continue }
                found[index].kept = both
            } else {
                found.append(next)
            }
            work += next.target.returns.map { Return(target: $0.target, kept: $0.kept.intersection(next.kept)) }
        }
        return found.filter { $0.target.open > 0 }
    }

    /// Where a path that ends here, with this state, comes round to; nil where it could go on in a circle without end.
    func returns(from state: borrowing State) -> [Return]? {
        if returns.isEmpty { return [] }
        var result: [Return] = []
        for var next in openReturns {
            next.kept = next.kept.intersection(state.kept(since: next.target.state))
            guard state.isRoundAfter(next.target.state, next.kept) else { return nil }
            result.append(next)
        }
        return result
    }

    /// A path below this checkpoint comes round to another one; those between learn of it.
    func note(_ found: Return) {
        var checkpoint: Checkpoint? = self
        while let current = checkpoint, current !== found.target {
            if let index = current.returns.firstIndex(where: { $0.target === found.target }) {
                let both = current.returns[index].kept.intersection(found.kept)
                if both == current.returns[index].kept { return }
                current.returns[index].kept = both
            } else {
                current.returns.append(found)
            }
            checkpoint = current.parent
        }
    }
}
