import ISA

/// One call of a function on the path.
struct Frame {
    var registers: InlineArray<11, RegisterState>
    /// Slot 0 is r10-8 to r10-1; as many as were used.
    var stack: [StackSlot] = []
    /// Index of the function.
    var function: Int
    /// The call that made this frame.
    var callSite: Int
    /// It was called by a helper, which calls it again and again.
    var isCallback = false
    /// Calls of callbacks walked from the helper call at hand.
    var rounds = 0
    /// Identity of the helper call at hand that calls back; 0 for none.
    var activation: UInt32 = 0
    /// Identity of the call that made this frame, which has a counter for its `may_goto`.
    var identity: UInt32 = 0
    /// Rounds of its `may_goto` loops.
    var gotoRounds = 0
    /// A timer calls it, some time after the program: there is no caller.
    var isAsync = false
    /// What the callback may return.
    var results: ClosedRange<Int64> = 0...1

    init(function: Int, callSite: Int) {
        registers = InlineArray(repeating: .none)
        self.function = function
        self.callSite = callSite
    }

    subscript(register: Register) -> RegisterState {
        get { registers[Int(register.rawValue)] }
        set { registers[Int(register.rawValue)] = newValue }
    }

    /// Makes room for the slot and those above it.
    mutating func grow(to slot: Int) {
        while stack.count <= slot { stack.append(StackSlot()) }
    }
}

/// Something that must be given back before the program ends.
struct Reference: Equatable {
    var id: UInt32
    /// The call that made it.
    var instruction: Int32
    var kind: Kind

    /// Ids from here on are maps: the lock in the only value of one.
    static var mapLock: UInt32 { 0x8000_0000 }

    enum Kind: UInt8 { case ringRecord, ringDynptr, object, spinLock, iterator }

    /// Numbers that an iterator gave on this path.
    var rounds = 0
    /// It has given NULL, and gives nothing else any more.
    var isDrained = false
}

/// Everything known at one point of a path.
struct State {
    var frames: [Frame]
    var references: [Reference] = []
    /// Rounds of `may_goto` loops and callbacks on this path.
    var rounds = 0

    var depth: Int { frames.count - 1 }

    /// The lock that is held.
    var lock: UInt32 {
        for reference in references where reference.kind == .spinLock { return reference.id }
        return 0
    }

    /// The same calls led to both.
    func isCalled(as other: State) -> Bool {
        guard frames.count == other.frames.count else { return false }
        return frames.indices.allSatisfy { frames[$0].callSite == other.frames[$0].callSite }
    }

    /// Makes numbers unknown that were others a round ago, so that the rounds of a loop become alike.
    ///
    /// - Parameter needs: what matters in each frame; such numbers stay, unless it is nil.
    mutating func widen(since old: State, _ needs: [Needs]?) {
        guard frames.count == old.frames.count else { return }
        for depth in frames.indices {
            let need = needs.map { $0[depth] } ?? Needs()
            for register in 0..<10 where !need.isRelevant(register) {
                frames[depth].registers[register].widen(since: old.frames[depth].registers[register])
            }
            for slot in frames[depth].stack.indices
            where slot < old.frames[depth].stack.count && need.slots >> UInt64(slot) & 1 == 0 {
                frames[depth].stack[slot].spilled.widen(since: old.frames[depth].stack[slot].spilled)
            }
        }
    }
}

extension RegisterState {
    fileprivate mutating func widen(since old: RegisterState) {
        guard kind == .scalar, old.kind == .scalar, !old.scalar.contains(scalar) else { return }
        self = .unknown
    }
}
