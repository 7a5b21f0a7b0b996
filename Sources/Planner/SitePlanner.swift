internal import Symbols

/// A function as the planner sees it.
package struct FunctionCode {
    package var name: String
    /// Run-time addresses of the whole function.
    package var range: Range<UInt64>
    package var text: ModuleText

    package init(name: String, range: Range<UInt64>, text: ModuleText) {
        self.name = name
        self.range = range
        self.text = text
    }
}

/// A site that is patched already, by another session.
package struct KnownSite: Equatable, Sendable {
    package var address: UInt64
    package var tactic: Tactic
    package var window: UInt32
    /// T1's, or 0.
    package var island: UInt64

    package init(address: UInt64, tactic: Tactic, window: UInt32, island: UInt64 = 0) {
        self.address = address
        self.tactic = tactic
        self.window = window
        self.island = island
    }
}

/// Plans the sites of one session: chooses tactics, and keeps sites and islands from overlapping.
///
/// Tactics in order of what a hit costs: T0 (one instruction of 5 bytes or more), T2 (several instructions under one
/// `jmp rel32`), T1 (`jmp rel8` to an island), T3 (`int3`). A plan holds what it takes to write it under running threads.
package struct SitePlanner: ~Copyable {
    private let disassembler: Disassembler
    private let prefersIsland: Bool
    private let allowsTraps: Bool
    private var plans: [UInt64: PatchPlan] = [:]
    private var occupied: [Range<UInt64>] = []
    private var known: [UInt64: KnownSite] = [:]

    static let jumpSize = 5
    static let shortJumpSize = 2
    /// What `csession_site.original` holds.
    static let originalSize = 16

    package init(prefersIsland: Bool = false, allowsTraps: Bool = false) throws(DecoderUnavailable) {
        disassembler = try Disassembler()
        self.prefersIsland = prefersIsland
        self.allowsTraps = allowsTraps
    }

    /// Takes over a site of another session: a plan for its address has the same tactic, and no other plan touches it.
    package mutating func assume(_ site: KnownSite) {
        known[site.address] = site
        occupy(site.address, site.window, site.tactic, site.island)
    }

    private mutating func occupy(_ address: UInt64, _ window: UInt32, _ tactic: Tactic, _ island: UInt64) {
        let size: Int
        switch tactic {
        case .trap: size = 1
        case .jump, .window, .island: size = max(Int(window), Self.shortJumpSize)
        }
        occupied.append(address..<address + UInt64(size))
        if island != 0 { occupied.append(island..<island + UInt64(Self.jumpSize)) }
    }

    /// Plans one site; a second probe on the same address gets the same plan.
    package mutating func plan(_ function: FunctionCode, offset: UInt64 = 0) throws(PlanRefusal) -> PatchPlan {
        let place = offset == 0 ? function.name : "\(function.name)+\(offset)"
        let site = function.range.lowerBound &+ offset
        if let known = plans[site] { return known }
        do throws(RefusalReason) {
            let plan = try make(function, site: site)
            plans[site] = plan
            if known[site] == nil { occupy(plan.address, plan.window, plan.tactic, plan.island) }
            return plan
        } catch {
            throw PlanRefusal(error, place: place)
        }
    }

    private func make(_ function: FunctionCode, site: UInt64) throws(RefusalReason) -> PatchPlan {
        guard function.range.contains(site) else {
            throw RefusalReason(
                kind: .outsideFunction,
                address: site,
                why: "the function has only \(function.range.count) bytes"
            )
        }
        let code = function.text.code(function.range)
        guard code.count == function.range.count else {
            throw RefusalReason(kind: .outsideFunction, address: site, why: "its bytes are not in the module's file")
        }
        if known[site] == nil, let other = occupied.first(where: { $0.contains(site) }) {
            throw RefusalReason(
                kind: .overlapsSite,
                address: site,
                why:
                    "another probe's jump covers 0x\(String(other.lowerBound, radix: 16))..0x\(String(other.upperBound, radix: 16))"
            )
        }
        let body = FunctionBody(disassembler.decode(code, at: function.range.lowerBound), function)
        guard let first = body.index(of: site) else {
            throw RefusalReason(
                kind: body.isComplete ? .notAnInstruction : .unknownInstruction,
                address: site,
                why: body.isComplete ? "no instruction starts there" : "it cannot be decoded up to there"
            )
        }
        if let known = known[site] { return try planAgain(body, first, known) }
        let instruction = body.instructions[first]
        if instruction.size >= Self.jumpSize {
            return try finish(body, first..<first + 1, tactic: .jump)
        }
        // Each attempt's reason is kept: the window's is the one that people can do something with.
        let windowReason: RefusalReason
        if prefersIsland, let plan = try? planIsland(body, first) { return plan }
        do throws(RefusalReason) {
            return try planWindow(body, first)
        } catch {
            windowReason = error
        }
        if !prefersIsland, let plan = try? planIsland(body, first) { return plan }
        if allowsTraps, let plan = try? finish(body, first..<first + 1, tactic: .trap) { return plan }
        throw windowReason
    }

    /// The plan of a site that another session has patched.
    private func planAgain(_ body: FunctionBody, _ first: Int, _ known: KnownSite) throws(RefusalReason) -> PatchPlan {
        let plan: PatchPlan
        switch known.tactic {
        case .jump, .trap: plan = try finish(body, first..<first + 1, tactic: known.tactic)
        case .island: plan = try finish(body, first..<first + 1, tactic: .island, island: known.island)
        case .window: plan = try planWindow(body, first)
        }
        guard plan.window == known.window else {
            throw RefusalReason(
                kind: .overlapsSite,
                address: known.address,
                why: "another session has patched \(known.window) bytes of it"
            )
        }
        return plan
    }

    /// T2: whole instructions, and dead padding behind the function's last one, up to 5 bytes.
    private func planWindow(_ body: FunctionBody, _ first: Int) throws(RefusalReason) -> PatchPlan {
        let site = body.instructions[first].address
        var last = first
        var size = 0
        var flowEnds = false
        while size < Self.jumpSize, last < body.instructions.count, !flowEnds {
            let instruction = body.instructions[last]
            size += instruction.size
            flowEnds = instruction.kind.endsFlow
            last += 1
            switch instruction.kind {
            case .call, .indirectCall:
                // Its return address would lie under the jump; at the function's end it cannot return.
                if size < Self.jumpSize, instruction.end != body.range.upperBound {
                    throw RefusalReason(
                        kind: .callInsideWindow,
                        address: instruction.address,
                        why: "a call returns into its first \(Self.jumpSize) bytes"
                    )
                }
            case .plain, .nop, .jump, .branch, .countBranch, .indirectJump, .ret, .trap, .systemCall, .privileged,
                .transaction, .unsupported:
                break
            }
        }
        var padding = 0
        if size < Self.jumpSize {
            let end = site + UInt64(size)
            guard end == body.range.upperBound || (flowEnds && body.isPadding(from: last, count: Self.jumpSize - size))
            else {
                let reason =
                    flowEnds ? "it ends after \(size) bytes and other code follows" : "an unknown instruction in it"
                throw RefusalReason(
                    kind: flowEnds ? .tooShort : .unknownInstruction,
                    address: end,
                    why: "\(body.range.count) bytes, \(reason)"
                )
            }
            padding = Self.jumpSize - size
            if end == body.range.upperBound, !isDead(end..<end + UInt64(padding), in: body.text) {
                throw RefusalReason(
                    kind: .tooShort,
                    address: end,
                    why: "\(size) bytes to the function's end, no dead padding behind it"
                )
            }
        }
        guard size + padding <= Self.originalSize else {
            throw RefusalReason(kind: .unrelocatable, address: site, why: "its first instructions are too long")
        }
        let window = site..<site + UInt64(size + padding)
        try checkInbound(body, window)
        if known[site] == nil, let other = occupied.first(where: { $0.overlaps(window) }) {
            throw RefusalReason(
                kind: .overlapsSite,
                address: other.lowerBound,
                why: "another probe is \(other.lowerBound - site) bytes behind it"
            )
        }
        return try finish(body, first..<last, tactic: .window, padding: padding)
    }

    /// Refuses a window that something else may jump into.
    private func checkInbound(_ body: FunctionBody, _ window: Range<UInt64>) throws(RefusalReason) {
        let inner = window.lowerBound + 1..<window.upperBound
        if let source = body.branch(into: inner) {
            throw RefusalReason(kind: .branchIntoWindow, address: source, why: "a jump target inside its first bytes")
        }
        if body.text.beginsCode(in: inner) {
            throw RefusalReason(
                kind: .branchIntoWindow,
                address: window.lowerBound,
                why: "another function begins inside its first bytes"
            )
        }
        if body.text.mayBranch(into: inner) {
            throw RefusalReason(
                kind: .branchIntoWindow,
                address: window.lowerBound,
                why: "a jump elsewhere in the module leads into its first bytes"
            )
        }
        if window.lowerBound != body.range.lowerBound,
            body.instructions.contains(where: \.isComputedJump) || !body.isComplete
        {
            throw RefusalReason(
                kind: .mayBeJumpTarget,
                address: window.lowerBound,
                why: "a computed jump in the function may lead there"
            )
        }
    }

    /// T1: a short jump to 5 dead bytes near by.
    private func planIsland(_ body: FunctionBody, _ first: Int) throws(RefusalReason) -> PatchPlan {
        let instruction = body.instructions[first]
        guard instruction.size >= Self.shortJumpSize else {
            throw RefusalReason(kind: .tooShort, address: instruction.address, why: "its first instruction has 1 byte")
        }
        let origin = instruction.address + UInt64(Self.shortJumpSize)
        let reach = origin - 128..<origin + 128
        let need = UInt64(Self.jumpSize)
        for gap in body.text.gaps(near: reach) {
            var start = max(gap.lowerBound, reach.lowerBound)
            while start + need <= gap.upperBound, start < reach.upperBound {
                let island = start..<start + need
                if let other = occupied.first(where: { $0.overlaps(island) }) {
                    start = other.upperBound
                    continue
                }
                guard isDead(gap.lowerBound..<island.upperBound, in: body.text) else { break }
                return try finish(body, first..<first + 1, tactic: .island, island: start)
            }
        }
        throw RefusalReason(kind: .tooShort, address: instruction.address, why: "no dead padding within reach")
    }

    /// Whether a range that starts where known code ends is padding that nothing runs into.
    private func isDead(_ range: Range<UInt64>, in text: ModuleText) -> Bool {
        guard
            text.gaps(near: range).contains(where: {
                $0.lowerBound == range.lowerBound && $0.upperBound >= range.upperBound
            })
        else { return false }
        // Nops and int3 up to the end of the range; the last may reach beyond it.
        let bytes = text.code(range.lowerBound..<range.upperBound + 16)
        var end = range.lowerBound
        for instruction in disassembler.decode(bytes, at: range.lowerBound) where end < range.upperBound {
            guard instruction.kind == .nop || (instruction.kind == .trap && instruction.size == 1) else { return false }
            end = instruction.end
        }
        guard end >= range.upperBound, let before = text.code(endingAt: range.lowerBound) else { return false }
        guard let last = disassembler.decode(text.code(before), at: before.lowerBound).last,
            last.end == range.lowerBound
        else { return false }
        switch last.kind {
        case .jump, .indirectJump, .ret, .trap: break
        // A compiler ends code with a call only when the callee does not return.
        case .call, .indirectCall: break
        case .plain, .nop, .branch, .countBranch, .systemCall, .privileged, .transaction, .unsupported: return false
        }
        return !text.mayBranch(into: range)
    }

    private func finish(
        _ body: FunctionBody,
        _ instructions: Range<Int>,
        tactic: Tactic,
        padding: Int = 0,
        island: UInt64 = 0
    ) throws(RefusalReason) -> PatchPlan {
        let site = body.instructions[instructions.lowerBound].address
        let end = body.instructions[instructions.upperBound - 1].end
        var relocator = Relocator()
        for instruction in body.instructions[instructions] {
            try relocator.append(
                instruction,
                bytes: body.text.code(instruction.address..<instruction.end),
                protected: site..<end
            )
        }
        let isLoopTarget = body.branch(into: site..<site + 1) != nil
        return PatchPlan(
            address: site,
            tactic: tactic,
            window: UInt32(end - site) + UInt32(padding),
            island: island,
            resume: end + UInt64(padding),
            code: relocator.code,
            fixups: relocator.fixups,
            original: Array(body.text.code(site..<site + UInt64(Self.originalSize))),
            isFunctionEntry: site == body.range.lowerBound && !isLoopTarget,
            isLoopTarget: isLoopTarget
        )
    }
}

/// A decoded function.
private struct FunctionBody {
    let instructions: [DecodedInstruction]
    let range: Range<UInt64>
    let text: ModuleText
    /// Every byte was decoded.
    ///
    /// Otherwise branches are looked for at every byte position.
    let isComplete: Bool

    init(_ instructions: [DecodedInstruction], _ function: FunctionCode) {
        self.instructions = instructions
        range = function.range
        text = function.text
        isComplete = instructions.last?.end == function.range.upperBound
    }

    func index(of address: UInt64) -> Int? {
        var low = 0
        var high = instructions.count
        while low < high {
            let middle = (low + high) / 2
            if instructions[middle].address < address { low = middle + 1 } else { high = middle }
        }
        return low < instructions.count && instructions[low].address == address ? low : nil
    }

    /// Address of a jump or branch of this function into the range.
    func branch(into target: Range<UInt64>) -> UInt64? {
        for instruction in instructions {
            switch instruction.kind {
            case .jump(let to), .branch(_, let to), .countBranch(_, let to):
                if target.contains(to) { return instruction.address }
            case .plain, .nop, .call, .indirectJump, .indirectCall, .ret, .trap, .systemCall, .privileged, .transaction,
                .unsupported:
                break
            }
        }
        guard !isComplete else { return nil }
        // What capstone cannot decode (newer vector instructions): any byte may begin a branch.
        let start = instructions.last?.end ?? range.lowerBound
        let rest = text.code(start..<range.upperBound)
        for index in rest.indices.dropLast() {
            let opcode = rest[index]
            guard opcode == 0xEB || opcode & 0xF0 == 0x70 || opcode & 0xFC == 0xE0 else { continue }
            let address = text.start + UInt64(index)
            let to = address &+ 2 &+ UInt64(bitPattern: Int64(Int8(bitPattern: rest[index + 1])))
            if target.contains(to) { return address }
        }
        // 32-bit ones are found by the module's own scan, but for the range of one byte that a loop check asks for.
        return text.mayJump(from: start..<range.upperBound, into: target)
    }

    /// Whether the instructions from `index` on are padding for at least `count` bytes, all inside the function.
    func isPadding(from index: Int, count: Int) -> Bool {
        var left = count
        for instruction in instructions[index...] {
            guard instruction.kind == .nop || (instruction.kind == .trap && instruction.size == 1) else { return false }
            left -= instruction.size
            if left <= 0 { return true }
        }
        return false
    }
}
