internal import ISA

// One thing that is right on one path and wrong on the other goes through registers, slots, functions, callbacks, loops and atomic
// operations to where it matters.

extension ProgramWriter {
    mutating func carry() {
        code = prologue()
        if chance(12) {
            carryContext()
            return
        }
        if chance(12) {
            carryBytes()
            return
        }
        if chance(12) {
            carryLink()
            return
        }
        let good = number(1...40)
        let bad = pick([1000, 1000, 1000, good, number(0...63)])
        code += split([.mov64(.r8, good)], [.mov64(.r8, bad)]) + maybePadding()
        for _ in 0..<number(1...3) { code += transport(depth: 0) + maybePadding() }
        code += sink(bad)
        code += [.mov64(.r0, 0), .exit]
    }

    // MARK: - On the way

    /// r8 comes back as it was, through something.
    mutating func transport(depth: Int) -> [Statement] {
        switch number(0...13) {
        case 0: return [.mov64(.r6, .r8), .mov64(.r8, 0)] + maybePadding() + [.mov64(.r8, .r6)]
        case 1...2: return spill()
        case 3: return halves()
        case 4: return atomic()
        case 5: return linked()
        case 6: return depth < 3 ? callWithValue(depth) : spill()
        case 7...8: return depth < 3 ? callWithPointer(depth) : spill()
        case 9...10: return depth < 3 && !isForKernel ? callback(depth) : linked()
        case 11: return rounds(depth)
        case 12: return depth < 3 ? callThatWrites(depth) : atomic()
        default:
            let amount = number(1...5)
            return [.add64(.r8, amount)] + maybePadding() + [.sub64(.r8, amount)]
        }
    }

    /// Out to the frame and back, with something beside it.
    private mutating func spill() -> [Statement] {
        let place = slot()
        var result: [Statement] = [.store64(.r10, place, .r8)]
        if chance(50) {
            let beside = place == -8 ? -16 : place + pick([8, -8])
            result.append(pick([.store64(.r10, beside, 0), .store32(.r10, beside + 4, 1), .store8(.r10, beside, .r7)]))
        }
        if chance(50) { result.append(.mov64(.r8, 0)) }
        return result + maybePadding(70) + [.load64(.r8, .r10, place)]
    }

    private mutating func halves() -> [Statement] {
        let place = slot()
        var result: [Statement] = []
        if chance(50) { result.append(.store64(.r10, place, 0)) }
        let upper: Int32 = chance(30) ? 4 : 0
        result.append(pick([.store32(.r10, place + upper, .r8), .store64(.r10, place, .r8)]))
        if chance(40) {
            result.append(pick([.store32(.r10, place + 4 - upper, 0), .store32(.r10, place + 4 - upper, .r7)]))
        }
        if chance(30) { result += [.mov64(.r6, .r8)] }
        result += maybePadding()
        result.append(
            pick([
                .load32(.r8, .r10, place + upper), .load32(.r8, .r10, place + upper), .load16(.r8, .r10, place),
                .load64(.r8, .r10, place),
            ])
        )
        return result
    }

    private mutating func atomic() -> [Statement] {
        let place = slot()
        let store: [Statement] = [.store64(.r10, place, .r8), .mov64(.r8, 0)] + maybePadding()
        switch number(0...3) {
        case 0: return store + [.atomic(.atomicFetchAdd64, .r10, place, .r8)]
        case 1: return store + [.atomic(.atomicFetchOr64, .r10, place, .r8)]
        case 2: return store + [.atomic(.atomicExchange64, .r10, place, .r8)]
        default:
            return store + [
                .mov64(.r0, pick([0, 1000])), .atomic(.atomicCompareExchange64, .r10, place, .r9), .mov64(.r8, .r0),
            ]
        }
    }

    /// A copy, or half of one, that tells what the number is.
    private mutating func linked() -> [Statement] {
        let (out, on) = (label(), label())
        let isUnknown = chance(40)
        var result: [Statement] = isUnknown ? [.mov64(.r8, .r7)] : []
        // What is compared may be a copy, its sum, the lower half, or a slot's.
        let limit = number(8...45)
        switch number(0...5) {
        case 0: result += [.mov64(.r6, .r8)]
        case 1: result += [.mov64(.r6, .r8), .add64(.r6, pick([1, 4, -4]))]
        case 2: result += [.mov32(.r6, .r8)]
        case 3: result += [.store64(.r10, -8, .r8), .load32(.r6, .r10, -8)]
        case 4: result += [.store32(.r10, -8, .r8), .load32(.r6, .r10, -8)]
        default: result += [.store64(.r10, -8, .r8), .load64(.r6, .r10, -8)]
        }
        if chance(30) { result += [pick([.op(.and64Imm, dst: .r8, imm: 63), .add32(.r8, 1), .mov32(.r8, .r8)])] }
        result += maybePadding(30)
        result.append(
            pick([
                .jumpGreater(.r6, limit, to: out), .jumpGreater(.r6, limit, to: out),
                .jumpGreater32(.r6, limit, to: out),
            ])
        )
        return result + [.jump(to: on), .label(out), .mov64(.r0, 0), .mov64(.r8, 1), .label(on)]
    }

    /// A loop whose rounds are limited, around a transport, or that only moves.
    ///
    /// Limited are `may_goto` and numbers that are counted or that an iterator gives.
    private mutating func rounds(_ depth: Int) -> [Statement] {
        let (again, end) = (label(), label())
        if chance(50) {
            // What was set before arrives some rounds later.
            return [.mov64(.r6, .r8), .mov64(.r8, number(0...9)), .store64(.r10, -8, .r6), .label(again)]
                + maybePadding(30) + [.mayGoto(to: end), .mov64(.r8, .r6), .load64(.r6, .r10, -8)]
                + maybePadding(30) + [.jump(to: again), .label(end)]
        }
        if chance(40) {
            // The same with the numbers of an iterator, which may lie in what the transport uses too.
            let body =
                chance(50)
                ? [.mov64(.r8, .r6), .load64(.r6, .r10, -8)]
                : depth < 2 ? transport(depth: depth + 1) : [.add64(.r8, number(-1...1))]
            return [.mov64(.r6, number(0...9)), .store64(.r10, -8, .r8)]
                + iterator(-72, number(0...3), body + maybePadding(30))
        }
        let limit = number(1...4)
        return [.store64(.r10, -48, 0), .label(again)] + (depth < 2 ? transport(depth: depth + 1) : spill())
            + [
                .load64(.r6, .r10, -48), .add64(.r6, 1), .store64(.r10, -48, .r6), .jumpLess(.r6, limit, to: again),
            ]
    }

    // MARK: - Through functions

    /// A function with the number as its second argument; in the end r0 is it.
    private mutating func callWithValue(_ depth: Int) -> [Statement] {
        let name = label("value")
        let body = [.function(name), .mov64(.r8, .r2)] + prologue() + transport(depth: depth + 1) + maybePadding()
        functions.append(body + [.mov64(.r0, .r8), .exit])
        return [.mov64(.r2, .r8), .mov64(.r1, .r10), .call(name), .mov64(.r8, .r0)]
    }

    /// A function with a pointer to where the number is, which it may keep in its own frame meanwhile.
    private mutating func callWithPointer(_ depth: Int) -> [Statement] {
        let name = label("pointer")
        let place = slot()
        var body: [Statement] = [.function(name)]
        let own = slot()
        switch number(0...3) {
        case 0: body += [.mov64(.r6, .r1)] + prologue() + maybePadding() + [.load64(.r8, .r6)]
        case 1:
            body += [.store64(.r10, own, .r1)] + prologue() + maybePadding()
            body += [.load64(.r6, .r10, own), .load64(.r8, .r6)]
        case 2: body += [.load64(.r8, .r1)] + prologue()
        default:
            // One more function between.
            let inner = label("inner")
            functions.append([.function(inner), .store64(.r10, place, 0), .load64(.r0, .r1), .exit])
            body += [.store64(.r10, own, 1), .call(inner), .mov64(.r8, .r0)] + prologue()
        }
        body += chance(40) ? transport(depth: depth + 1) : maybePadding()
        functions.append(body + [.mov64(.r0, .r8), .exit])
        return [.store64(.r10, place, .r8)] + (chance(50) ? [.mov64(.r8, 0)] : []) + maybePadding() + [
            .mov64(.r1, .r10), .add64(.r1, Int64(place)), .call(name), .mov64(.r8, .r0),
        ]
    }

    /// A function that puts the number where its caller reads it.
    private mutating func callThatWrites(_ depth: Int) -> [Statement] {
        let name = label("write")
        let place = slot()
        let body: [Statement] = [.function(name), .mov64(.r6, .r1), .mov64(.r8, .r2)] + prologue()
        let store: Statement = pick([.store64(.r6, 0, .r8), .store64(.r6, 0, .r8), .store32(.r6, 0, .r8)])
        functions.append(
            body + (chance(40) ? spill() : maybePadding()) + [store] + maybePadding(30)
                + [.mov64(.r0, 0), .exit]
        )
        return [
            .store64(.r10, place, number(0...50)), .mov64(.r1, .r10), .add64(.r1, Int64(place)), .mov64(.r2, .r8),
            .call(name),
        ] + maybePadding() + [.load64(.r8, .r10, place)]
    }

    /// A callback that moves the number from one slot of its caller to the next.
    private mutating func callback(_ depth: Int) -> [Statement] {
        let name = label("back")
        let isLoop = chance(65)
        let context: Register = isLoop ? .r2 : .r4
        var body: [Statement] = [.function(name), .mov64(.r6, context), .mov64(.r8, .r1)] + prologue()
        body += maybePadding(30)
        // -24: from here, -16: by here, -8: to here.
        switch number(0...3) {
        case 0: body += [.load64(.r3, .r6, 0), .store64(.r6, 16, .r3)]
        case 1: body += [.load64(.r3, .r6, 8), .store64(.r6, 16, .r3), .load64(.r3, .r6, 0), .store64(.r6, 8, .r3)]
        case 2:
            let end = label()
            body += [.load64(.r3, .r6, 8), .jumpEqual(.r3, number(0...1), to: end), .load64(.r4, .r6, 0)]
            body += [.store64(.r6, 16, .r4), .label(end), .store64(.r6, 8, number(0...2))]
        default:
            body += [.load64(.r8, .r6, 0), .store64(.r10, -56, .r6)]
            body += chance(50) ? transport(depth: depth + 2) : maybePadding()
            body += [.load64(.r6, .r10, -56), .store64(.r6, 16, .r8)]
        }
        functions.append(body + [.mov64(.r0, chance(85) ? 0 : 1), .exit])
        var result: [Statement] = [
            .store64(.r10, -24, .r8), .store64(.r10, -16, number(0...2)), .store64(.r10, -8, number(0...9)),
        ]
        result += (chance(50) ? [.mov64(.r8, 0)] : []) + maybePadding()
        if isLoop {
            result += [.mov64(.r1, number(0...4)), .loadFunction(.r2, name), .mov64(.r3, .r10), .add64(.r3, -24)]
            result += [.mov64(.r4, 0), .call(.loop)]
        } else {
            result += [.loadMap(.r1, Int32(VerifiedMap.array.index)), .loadFunction(.r2, name), .mov64(.r3, .r10)]
            result += [.add64(.r3, -24), .mov64(.r4, 0), .call(.forEachMapElem)]
        }
        return result + maybePadding() + [.load64(.r8, .r10, chance(80) ? -8 : -24)]
    }

    // MARK: - Where it matters

    /// What goes wrong with the wrong number.
    private mutating func sink(_ bad: Int64) -> [Statement] {
        let words = UInt32(VerifiedMap.words.index)
        switch number(0...(isForKernel ? 7 : 8)) {
        case 0...1: return [.loadMapValue(.r2, words, 0), .add64(.r2, .r8), .load8(.r0, .r2)]
        case 2: return [.mov64(.r2, .r10), .add64(.r2, -64), .add64(.r2, .r8), .store8(.r2, 0, 1)]
        case 3:
            // An element that is there, without a check.
            return [
                .op(.rsh64Imm, dst: .r8, imm: 4), pick([.store32(.r10, -64, .r8), .store64(.r10, -64, .r8)]),
                .mov64(.r2, .r10), .add64(.r2, -64),
                .loadMap(.r1, Int32(VerifiedMap.array.index)), .call(.mapLookupElem), .load8(.r0, .r0),
            ]
        case 4: return [.mov64(.r1, .r10), .add64(.r1, -64), .mov64(.r2, .r8), .call(.getCurrentComm)]
        case 5:
            let again = label()
            return [.label(again), .jumpEqual(.r8, bad, to: again)]
        case 6:
            let end = label()
            return [.jumpNotEqual(.r8, bad, to: end), .mov64(.r1, 0), .load8(.r0, .r1), .label(end)]
        case 7:
            let end = label()
            return [.jumpLess(.r8, 64, to: end), .loadMapValue(.r1, words, 60), .load64(.r0, .r1), .label(end)]
        default:
            let name = label("index")
            functions.append([
                .function(name), .loadMapValue(.r3, words, 0), .add64(.r3, .r1), .load8(.r0, .r3), .mov64(.r0, 0),
                .exit,
            ])
            return [
                .mov64(.r1, .r8), .loadFunction(.r2, name), .mov64(.r3, 0), .mov64(.r4, 0), .call(.loop),
            ]
        }
    }

    // MARK: - Other things to carry

    /// Where a callback's context points to; only its second round goes far.
    private mutating func carryContext() {
        guard !isForKernel else { return carryBytes() }
        let name = label("back")
        let second = label()
        let near: [Statement] = [.store64(.r10, -8, 1), .store64(.r10, -24, 0), .mov64(.r8, .r10), .add64(.r8, -24)]
        let far: [Statement] = [.store64(.r10, -8, 0), .store64(.r10, -24, 1), .mov64(.r8, .r10), .add64(.r8, -8)]
        code += split(near, far) + maybePadding()
        var body: [Statement] = [
            .function(name), .load64(.r3, .r2), .jumpNotEqual(.r3, 0, to: second), .store64(.r2, 0, 1),
        ]
        if chance(70) { body += [.mov64(.r2, 0), .mov64(.r7, .r1), .mov64(.r1, 0), .mov64(.r9, 0)] + padding() }
        body += [.mov64(.r0, 0), .exit, .label(second), .store64(.r2, pick([16, 8, 0]), 0), .mov64(.r0, 0), .exit]
        functions.append(body)
        let rounds: Statement = chance(80) ? .mov64(.r1, number(1...3)) : .mov64(.r1, .r10)
        code += [rounds, .loadFunction(.r2, name), .mov64(.r3, .r8), .mov64(.r4, 0), .call(.loop)]
        if chance(50) { code += maybePadding() + [.load64(.r8, .r10, -8)] + sink(1000) }
        code += [.mov64(.r0, 0), .exit]
    }

    /// Two numbers that are one on one path only; what is learnt of the first is used of the second.
    private mutating func carryLink() {
        let end = label()
        let words = UInt32(VerifiedMap.words.index)
        let load: [Statement] = [.loadMapValue(.r6, words, 8), .load64(.r6, .r6)]
        let place: Int32 = -16
        let isStored = chance(40)
        let copy: [Statement] = isStored ? [.store64(.r10, place, .r8)] : [.mov64(.r6, .r8)]
        let other: [Statement] = isStored ? load + [.store64(.r10, place, .r6)] : load
        code += [.loadMapValue(.r8, words, 0), .load64(.r8, .r8)]
        if chance(40) { code.append(.op(.and64Imm, dst: .r8, imm: 255)) }
        code += split(copy, other) + padding()
        if isStored { code.append(.load64(.r6, .r10, place)) }
        code += [.jumpGreater(.r6, number(20...63), to: end)] + maybePadding(30)
        code += [.loadMapValue(.r2, words, 0), .add64(.r2, .r8), .load8(.r0, .r2)]
        code += [.label(end), .mov64(.r0, 0), .exit]
    }

    /// What the bytes of two slots are.
    private mutating func carryBytes() {
        let way = { (writer: inout Self) -> [Statement] in
            (0..<Int(writer.number(0...3))).map { _ in
                let size: Int32 = writer.pick([1, 2, 4, 4, 8])
                let place = Int32(writer.number(1...Int64(16 / size))) * -size
                let isKnown = writer.chance(60)
                let value = writer.pick([Int64(0), 0, 0, 7])
                switch size {
                case 1: return isKnown ? .store8(.r10, place, value) : .store8(.r10, place, .r7)
                case 2: return isKnown ? .store16(.r10, place, value) : .store16(.r10, place, .r7)
                case 4: return isKnown ? .store32(.r10, place, value) : .store32(.r10, place, .r7)
                default: return isKnown ? .store64(.r10, place, value) : .store64(.r10, place, .r7)
                }
            }
        }
        code += way(&self)
        let (first, second) = (way(&self), way(&self))
        code += split(first, second) + padding()
        if chance(30), let part = Optional(slot()), part >= -16 { code.append(.store8(.r10, part, 0)) }
        let place = Int32(number(0...3)) * 4 - 16
        code.append(
            pick([
                .load32(.r8, .r10, place), .load8(.r8, .r10, place), .load16(.r8, .r10, place),
                .load64(.r8, .r10, place & ~7),
            ])
        )
        code += maybePadding(30) + sink(1000) + [.mov64(.r0, 0), .exit]
    }
}
