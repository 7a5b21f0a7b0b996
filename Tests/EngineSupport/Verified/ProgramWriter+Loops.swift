internal import ISA

// Loops that may have no end, and calls that may go too deep.

extension ProgramWriter {
    /// Jumps to and fro, with rounds that are limited and others that are not.
    mutating func loops() {
        code = prologue() + [.mov64(.r8, 0), .store64(.r10, -8, 0)]
        // Linux takes minutes for some of those with `may_goto`.
        hasIterator = !isForKernel && chance(50)
        if hasIterator { code += newIterator(-16, number(0...6)) + newIterator(-24, number(0...6)) }
        let count = Int(number(3...8))
        let names = (0..<count).map { _ in label("at") }
        for index in 0..<count {
            code.append(.label(names[index]))
            let back = names[Int(number(0...Int64(index)))]
            let on = index + 1 < count ? names[Int(number(Int64(index) + 1...Int64(count) - 1))] : back
            code += step(back: back, on: on)
        }
        if hasIterator { code += endIterator(-16) + endIterator(-24) }
        code += [.mov64(.r0, 0), .exit]
    }

    private mutating func step(back: String, on: String) -> [Statement] {
        switch number(0...(hasIterator ? 20 : 13)) {
        case 0...1: return [.mayGoto(to: on)]
        case 2: return [.mayGoto(to: back)]
        case 3: return padding()
        case 4: return [.jumpNotEqual(.r7, number(0...3), to: chance(50) ? back : on)]
        case 5: return [.jumpEqual(.r8, number(0...3), to: chance(50) ? back : on)]
        case 6: return [.add64(.r8, 1), .jumpLess(.r8, number(1...20), to: back)]
        case 7: return [.mov64(.r8, number(0...2))]
        case 8: return [.load64(.r6, .r10, -8), .jumpEqual(.r6, number(0...2), to: chance(60) ? back : on)]
        case 9: return [.store64(.r10, -8, number(0...2)), .mov64(.r6, 0)]
        case 10:
            let (name, end) = (label("limited"), label())
            functions.append([
                .function(name), .mayGoto(to: end), .mov64(.r0, number(0...1)), .exit, .label(end),
                .mov64(.r0, number(0...1)), .exit,
            ])
            return [.call(name), .jumpEqual(.r0, 0, to: chance(60) ? back : on)]
        case 11:
            guard !isForKernel else { return [.mayGoto(to: on)] }
            let name = label("round")
            functions.append([
                .function(name), pick([.store64(.r2, 0, 1), .store64(.r2, 0, .r1), .load64(.r0, .r2)]),
                .mov64(.r0, 0), .exit,
            ])
            return [
                .mov64(.r1, number(0...3)), .loadFunction(.r2, name), .mov64(.r3, .r10), .add64(.r3, -8),
                .mov64(.r4, 0), .call(.loop),
            ]
        case 12: return [.mayGoto(to: on), .jump(to: on)]
        case 13: return [.jump(to: chance(30) ? back : on)]
        case 14...15: return nextNumber(pick([-16, -24])) + [.jumpEqual(.r0, 0, to: on), .load32(.r8, .r0)]
        case 16: return nextNumber(pick([-16, -24])) + [.jumpNotEqual(.r0, 0, to: back)]
        case 17:
            let offset: Int64 = pick([-16, -24])
            return chance(50) ? endIterator(offset) + newIterator(offset, number(0...6)) : nextNumber(offset)
        default: return elsewhere(pick([-16, -24]))
        }
    }

    /// A function or a callback with rounds of its own uses an iterator, or makes it anew.
    private mutating func elsewhere(_ offset: Int64) -> [Statement] {
        let (name, again, end) = (label("elsewhere"), label(), label())
        let isCallback = chance(40)
        let use: [Statement] =
            chance(70)
            ? [
                .call(.iterNumDestroy), .mov64(.r1, .r6), .mov64(.r2, 0), .mov64(.r3, number(0...6)),
                .call(.iterNumNew),
            ] : [.call(.iterNumNext)]
        functions.append(
            [.function(name), .mov64(.r6, isCallback ? .r2 : .r1), .label(again)]
                + (chance(isCallback ? 30 : 80) ? [.mayGoto(to: end)] : [])
                + [.mov64(.r1, .r6)] + use + (chance(30) ? [.jump(to: again)] : []) + [
                    .label(end), .mov64(.r0, 0), .exit,
                ]
        )
        guard isCallback else { return [.mov64(.r1, .r10), .add64(.r1, offset), .call(name)] }
        return [
            .mov64(.r1, number(0...3)), .loadFunction(.r2, name), .mov64(.r3, .r10), .add64(.r3, offset),
            .mov64(.r4, 0), .call(.loop),
        ]
    }

    // MARK: - Iterators

    /// A loop over numbers below `count`; r0 to r5 are lost.
    mutating func iterator(_ offset: Int64, _ count: Int64, _ body: [Statement]) -> [Statement] {
        let (again, end) = (label(), label())
        return newIterator(offset, count) + [.label(again)] + nextNumber(offset) + [.jumpEqual(.r0, 0, to: end)] + body
            + [.jump(to: again), .label(end)] + endIterator(offset)
    }

    private func newIterator(_ offset: Int64, _ count: Int64) -> [Statement] {
        [.mov64(.r1, .r10), .add64(.r1, offset), .mov64(.r2, 0), .mov64(.r3, count), .call(.iterNumNew)]
    }

    private func nextNumber(_ offset: Int64) -> [Statement] {
        [.mov64(.r1, .r10), .add64(.r1, offset), .call(.iterNumNext)]
    }

    private func endIterator(_ offset: Int64) -> [Statement] {
        [.mov64(.r1, .r10), .add64(.r1, offset), .call(.iterNumDestroy)]
    }

    // MARK: - Depth

    /// Functions that call one another, themselves or through helpers, with frames of all sizes.
    mutating func calls() {
        let count = Int(number(2...9))
        let names = (0..<count).map { _ in label("f") }
        let isRecursive = chance(20)
        let size = { (writer: inout Self) -> Int64 in -8 * writer.pick([1, 1, 1, 4, 8, 20, 32, 40, 62]) }
        code = [.store64(.r10, Int32(size(&self)), 1)] + deeper(names, 0, isRecursive) + [.mov64(.r0, 0), .exit]
        for (index, name) in names.enumerated() {
            functions.append(
                [.function(name)] + (chance(60) ? [.store64(.r10, Int32(size(&self)), 1)] : [])
                    + (index + 1 < count || isRecursive ? deeper(names, index + 1, isRecursive) : [])
                    + [.mov64(.r0, 0), .exit]
            )
        }
        // What a function calls that it is given.
        functions.append([
            .function("given"), .store64(.r10, Int32(size(&self)), 1), .mov64(.r2, .r1), .mov64(.r1, 1),
            .mov64(.r3, 0), .mov64(.r4, 0), .call(.loop), .mov64(.r0, 0), .exit,
        ])
    }

    private mutating func deeper(_ names: [String], _ start: Int, _ isRecursive: Bool) -> [Statement] {
        if start >= names.count, !isRecursive { return [] }
        let first = isRecursive && chance(40) ? 0 : min(start, names.count - 1)
        let next = names[chance(75) ? first : Int(number(Int64(first)...Int64(names.count) - 1))]
        switch number(0...(isForKernel ? 5 : 9)) {
        case 0...5: return [.call(next)]
        case 6: return [.loadFunction(.r1, next), .call("given")]
        case 7...8:
            return [
                .mov64(.r1, 1), .loadFunction(.r2, next), .mov64(.r3, 0), .mov64(.r4, 0), .call(.loop),
            ]
        default:
            return [
                .loadMap(.r1, Int32(VerifiedMap.array.index)), .loadFunction(.r2, next), .mov64(.r3, 0),
                .mov64(.r4, 0), .call(.forEachMapElem),
            ]
        }
    }
}
