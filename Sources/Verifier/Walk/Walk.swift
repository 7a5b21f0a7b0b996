import ISA

/// Walks every path of a program, with what is known of registers, stack and references.
///
/// A path ends at an exit, or where everything that matters was walked already with at least as much freedom. This is
/// the method of the Linux verifier (kernel/bpf/verifier.c, `do_check`); what differs is how it finds out which numbers
/// matter, see `NeedsAnalysis`.
struct Walk {
    let subject: Subject
    let layout: Layout
    private(set) var needs: NeedsAnalysis
    /// What is not forgotten from round to round of an iterator; nil without iterators.
    ///
    /// Only code that was walked needs something, and only what that found out decides.
    private var found: NeedsAnalysis?
    let shapes: [Shape]
    let context: ContextModel
    let returnRange: ClosedRange<Int64>?
    /// Maps of the program, then those found inside maps of maps.
    var maps: [MapFacts]

    var state = State(frames: [])
    var pc = 0
    var statistics = Statistics()
    /// Bytes of stack that each function uses.
    var stackSizes: [Int]
    /// Global functions, which are walked on their own.
    var function = 0
    /// Functions that helpers call, and whose frame is below theirs.
    var callbacks: Set<CallGraph.Callback> = []

    /// Paths not yet walked.
    private var pending: [Pending] = []
    private var explored: [[Checkpoint]]
    private let isCheckpoint: [Bool]
    private var parent: Checkpoint?
    /// Stack slots written since `parent`, for each frame.
    var writes = InlineArray<8, UInt64>(repeating: 0)
    private var lastID: UInt32 = 0
    private var (jumps, jumpsAtCheckpoint, processedAtCheckpoint) = (0, 0, 0)
    var trail = Trail()
    var matcher = Matcher()
    var recorder: Recorder?
    /// Takes what the walk does, for people.
    var log: WalkLog?

    /// A path that waits.
    private struct Pending {
        var state: State
        var pc: Int
        var parent: Checkpoint?
        var writes: InlineArray<8, UInt64>
        var trail: Int32
    }

    init(_ subject: Subject, _ layout: Layout) throws(VerifierError) {
        guard let context = ContextModel.of(subject.type, attachType: subject.attachType) else {
            throw layout.error(.programType, at: 0, "programs of type \(subject.type.name) cannot be verified here")
        }
        self.subject = subject
        self.layout = layout
        self.context = context
        returnRange = Verifier.returnRange(subject.type, attachType: subject.attachType)
        let returnMatters = returnRange != nil || subject.strictLeaks
        // A round that ends on one still being walked is done before everything is known that may follow it; so nothing is
        // left for the walk to find out.
        needs = NeedsAnalysis(
            layout,
            subject,
            returnMatters: returnMatters,
            decidesAll: layout.instructions.contains(where: hasRounds)
        )
        if layout.instructions.contains(where: isTakingNumber) {
            found = NeedsAnalysis(
                layout,
                subject,
                returnMatters: returnMatters,
                decidesAll: false,
                onlyWalked: true
            )
        }
        matcher.isStrict = subject.strictLeaks
        shapes = layout.instructions.map(\.opcode.shape)
        maps = subject.maps
        stackSizes = Array(repeating: 0, count: layout.functions.count)
        explored = Array(repeating: [], count: layout.instructions.count)
        isCheckpoint = layout.checkpoints
    }

    // MARK: - Paths

    /// Walks a function with these arguments.
    mutating func run(function: Int, arguments: [RegisterState]) throws(VerifierError) {
        self.function = function
        for index in layout.range(function) { explored[index] = [] }
        parent = nil
        trail.begin()
        state = State(frames: [Frame(function: function, callSite: -1)])
        state.frames[0][.framePointer] = stackPointer(0)
        for (index, argument) in arguments.enumerated() { state.frames[0].registers[index + 1] = argument }
        writes = InlineArray(repeating: 0)
        pc = layout.functions[function]
        repeat { try walkPath() } while resume()
    }

    private mutating func walkPath() throws(VerifierError) {
        while true {
            log?.arrive(self)
            if isCheckpoint[pc], try isCovered() {
                log?.end("what follows was walked already with at least as much freedom")
                return
            }
            statistics.processed += 1
            if statistics.processed > subject.limit { throw tooComplex() }
            if let recorder { recorder.add(state, needs.needs, at: pc) }
            found?.arrive(pc)
            guard let next = try step() else {
                log?.end("the path ends")
                return
            }
            pc = next
        }
    }

    /// Goes over to a path that waits; false when all are done.
    private mutating func resume() -> Bool {
        finish(parent)
        guard let next = pending.popLast() else { return false }
        state = next.state
        pc = next.pc
        parent = next.parent
        writes = next.writes
        trail.tip = next.trail
        return true
    }

    /// A path below a checkpoint has ended.
    private func finish(_ checkpoint: Checkpoint?) {
        var checkpoint = checkpoint
        while let current = checkpoint {
            current.open -= 1
            if current.open > 0 { return }
            checkpoint = current.parent
        }
    }

    /// Lets another path wait that goes on at `pc`.
    mutating func fork(_ state: State, at pc: Int, writes: InlineArray<8, UInt64>? = nil) throws(VerifierError) {
        if pending.count >= maximumPending { throw tooComplex() }
        parent?.open += 1
        pending.append(
            Pending(state: state, pc: pc, parent: parent, writes: writes ?? self.writes, trail: trail.tip)
        )
    }

    /// Lets a path wait that has nothing to do with this one: until everything else was walked, so that what is set again and
    /// again is covered by then.
    mutating func forkAsync(_ frame: Frame) throws(VerifierError) {
        if pending.count >= maximumPending { throw tooComplex() }
        let start = layout.functions[frame.function]
        let tip = trail.tip
        trail.go(from: pc, to: start)
        pending.insert(
            Pending(
                state: State(frames: [frame]),
                pc: start,
                parent: nil,
                writes: InlineArray(repeating: .max),
                trail: trail.tip
            ),
            at: 0
        )
        trail.tip = tip
    }

    mutating func countJump() { jumps += 1 }

    private func tooComplex() -> VerifierError {
        fail(.tooComplex, "the walk over all paths takes more than \(subject.limit) instructions")
    }

    // MARK: - Checkpoints

    /// Whether everything that matters here was walked already; keeps the state for later if it was not.
    private mutating func isCovered() throws(VerifierError) -> Bool {
        let isRound = isRoundPoint(pc)
        if shapes[pc] == .call(.helper), isRound, state.frames[state.depth].rounds == 0 {
            state.frames[state.depth].activation = makeID()
        }
        var keep = isRound || (jumps - jumpsAtCheckpoint >= 2 && statistics.processed - processedAtCheckpoint >= 8)
        if isRound, state.rounds > exactRounds, let last = explored[pc].last(where: { $0.open > 0 }) {
            state.widen(since: last.state, state.rounds > maximumRounds ? nil : frameNeeds(needs))
        }
        // The newest states are the likeliest to match, and those of a loop being walked lie one behind the other.
        var open = 0
        var index = explored[pc].count
        // The more rounds were kept, the fewer are.
        let sparsity = 1 + index / 512
        while index > 0, open < maximumOpen {
            index -= 1
            let old = explored[pc][index]
            guard old.open == 0 else {
                open += 1
                if isRound || open <= maximumCompared, try isLoop(old, isRound, compares: open <= maximumCompared) {
                    return true
                }
                // States of many rounds are of little use.
                if !isRound, jumps - jumpsAtCheckpoint < 8 * sparsity,
                    statistics.processed - processedAtCheckpoint < 40 * sparsity
                {
                    keep = false
                }
                continue
            }
            if subject.prunes, covers(old, allSlots: false), let returns = old.returns(from: state) {
                for found in returns { parent?.note(found) }
                old.hits += 1
                for frame in 0...state.depth { markRead(frame, old.reads[frame]) }
                return true
            }
            // A state that is not helped by a new one beside it stays: it is of the first rounds of a loop, or of the last.
            if keep { old.misses += 1 }
            if old.misses > old.hits * 3 + 3 {
                explored[pc].remove(at: index)
                statistics.states -= 1
            }
        }
        if keep || parent == nil { addCheckpoint() }
        return false
    }

    /// Whether the path goes round a loop whose rounds are covered by one still being walked; refuses one that never ends.
    private mutating func isLoop(
        _ old: Checkpoint,
        _ isRound: Bool,
        compares: Bool
    ) throws(VerifierError) -> Bool {
        guard old.state.frames.count == state.frames.count else { return false }
        let kept = state.kept(since: old.state)
        let isRoundAfter = state.isRoundAfter(old.state, kept)
        if isRound, isRoundAfter, covers(old, allSlots: true) {
            parent?.note(Return(target: old, kept: kept))
            for frame in 0...state.depth { markRead(frame, .max) }
            return true
        }
        if compares, !isRoundAfter, matcher.isRepeated(state, old.state, at: pc, needs.needs) {
            throw fail(.endlessLoop, "the loop comes back with everything as it was, and would never end")
        }
        return false
    }

    private mutating func addCheckpoint() {
        forgetSingleIDs()
        let checkpoint = Checkpoint(state, pc, parent: parent, writes: writes)
        explored[pc].append(checkpoint)
        parent = checkpoint
        writes = InlineArray(repeating: 0)
        (jumpsAtCheckpoint, processedAtCheckpoint) = (jumps, statistics.processed)
        statistics.states += 1
        statistics.peakStates = max(statistics.peakStates, explored[pc].count)
    }

    /// Where the walk goes round without being an endless loop: `may_goto`, callbacks and iterators.
    private func isRoundPoint(_ pc: Int) -> Bool {
        switch shapes[pc] {
        case .mayGoto, .call(.helper), .call(.kernelFunction): hasRounds(layout.instructions[pc])
        case .arithmetic, .negate, .signExtend, .byteOrder, .wide, .packet, .load, .store, .atomic, .jump,
            .conditionalJump, .call, .exit:
            false
        }
    }

    /// What is needed in each frame.
    private func frameNeeds(_ analysis: NeedsAnalysis) -> [Needs] {
        state.frames.indices.map { depth in
            analysis.needs[depth == state.depth ? pc : state.frames[depth + 1].callSite]
        }
    }

    /// Makes numbers of `next`, where an iterator has given another number, unknown that were others when the path came here
    /// before and that decide nothing (Linux `widen_imprecise_scalars`).
    func forgetRound(_ next: inout State) {
        guard let found, let here = parent else { return }
        var checkpoint = here.parent
        while let last = checkpoint {
            if last.pc == pc, last.state.isCalled(as: next) {
                next.widen(since: last.state, frameNeeds(found))
                return
            }
            checkpoint = last.parent
        }
    }

    private mutating func covers(_ old: Checkpoint, allSlots: Bool) -> Bool {
        matcher.isCovered(state, by: old, at: pc, needs.needs, allSlots: allSlots)
    }

    /// Something on the path reads these slots of a frame.
    mutating func markRead(_ frame: Int, _ slots: UInt64) {
        var slots = slots & ~writes[frame]
        var checkpoint = parent
        while slots != 0, let current = checkpoint {
            slots &= ~current.reads[frame]
            if slots == 0 { return }
            current.reads[frame] |= slots
            slots &= ~current.writes[frame]
            checkpoint = current.parent
        }
    }

    /// What was seen at the present instruction makes more numbers matter, see `NeedsAnalysis`.
    mutating func decide() {
        needs.decide(pc)
        found?.decide(pc)
    }

    /// A pointer is moved at the present instruction, see `NeedsAnalysis`.
    mutating func decideMove() {
        needs.move(pc)
        found?.move(pc)
    }

    // MARK: - Identities

    mutating func makeID() -> UInt32 {
        lastID += 1
        return lastID
    }

    /// Takes ids from scalars that share them with nothing, so that they do not keep states apart.
    private mutating func forgetSingleIDs() {
        matcher.count(state)
        for depth in state.frames.indices {
            for register in 0..<10 where matcher.isSingle(state.frames[depth].registers[register]) {
                state.frames[depth].registers[register].id = 0
                state.frames[depth].registers[register].delta = 0
                state.frames[depth].registers[register].wraps = false
            }
            for slot in state.frames[depth].stack.indices
            where matcher.isSingle(state.frames[depth].stack[slot].spilled) {
                state.frames[depth].stack[slot].spilled.id = 0
                state.frames[depth].stack[slot].spilled.delta = 0
                state.frames[depth].stack[slot].spilled.wraps = false
            }
        }
    }

    // MARK: - Errors

    /// An error at the present instruction.
    func fail(
        _ rule: Rule,
        _ what: String,
        _ register: Register? = nil,
        _ detail: VerifierError.Detail = .none
    ) -> VerifierError {
        var error = layout.error(rule, at: pc, what)
        error.path = trail.path(from: layout.functions[function], to: pc, layout)
        error.register = register
        if let register {
            let value = state.frames[state.depth][register]
            (error.value, error.kernelType) = (describe(value), value.kernelType)
        }
        if let held = state.references.last, rule == .unreleased || rule == .lock {
            error.origin = Int(held.instruction)
        }
        error.detail = detail
        return error
    }
}

/// Paths that wait (Linux `BPF_COMPLEXITY_LIMIT_JMP_SEQ`).
private let maximumPending = 8192

/// States of loops being walked that are looked at, and those that are compared to find that a loop never ends; one that
/// is not found this way ends at the limit of instructions.
private let (maximumOpen, maximumCompared) = (24, 4)

/// Rounds of callbacks and `may_goto` loops that are walked one by one, before numbers that differ between them are
/// forgotten: those that do not matter, then all.
private let (exactRounds, maximumRounds) = (16, 4096)

/// A state that later paths are compared with.
final class Checkpoint {
    let state: State
    let pc: Int
    let parent: Checkpoint?
    /// Slots written between the parent and this.
    let writes: InlineArray<8, UInt64>
    /// Slots that some path from here reads before it writes them; complete when `open` is 0.
    var reads = InlineArray<8, UInt64>(repeating: 0)
    /// Paths below that have not ended.
    var open = 1
    var (hits, misses) = (0, 0)
    /// States that were still being walked when paths from here came round to them.
    var returns: [Return] = []

    init(_ state: State, _ pc: Int, parent: Checkpoint?, writes: InlineArray<8, UInt64>) {
        self.state = state
        self.pc = pc
        self.parent = parent
        self.writes = writes
    }
}

extension Layout {
    /// Instructions where paths meet.
    fileprivate var checkpoints: [Bool] {
        var result = [Bool](repeating: false, count: instructions.count)
        for function in functions { result[function] = true }
        for (index, instruction) in instructions.enumerated() {
            switch instruction.opcode.shape {
            case .conditionalJump, .mayGoto:
                result[index] = true
                result[Int(targets[index])] = true
            case .jump: result[Int(targets[index])] = true
            case .call(.local): if index + 1 < instructions.count { result[index + 1] = true }
            case .call(.helper), .call(.kernelFunction): if hasRounds(instruction) { result[index] = true }
            case .arithmetic, .negate, .signExtend, .byteOrder, .wide, .packet, .load, .store, .atomic, .call, .exit:
                break
            }
        }
        return result
    }
}

/// Comes round as often as something says that is known at run time only.
func hasRounds(_ instruction: Instruction) -> Bool {
    switch instruction.opcode {
    case .mayGoto: true
    case .callHelper: isCallingBack(instruction)
    default: isTakingNumber(instruction)
    }
}

/// A call of `bpf_iter_num_next`.
private func isTakingNumber(_ instruction: Instruction) -> Bool { Helper(calledBy: instruction) == .iterNumNext }

/// The helper calls functions of the program.
func isCallingBack(_ instruction: Instruction) -> Bool {
    switch Helper(rawValue: UInt32(truncatingIfNeeded: instruction.imm)) {
    case .loop?, .forEachMapElem?, .userRingbufDrain?, .findVma?: true
    default: false
    }
}
