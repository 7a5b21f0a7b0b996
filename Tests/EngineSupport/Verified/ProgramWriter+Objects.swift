internal import ISA
internal import Verifier

// Tail calls, ring records, constant data, global functions.

extension ProgramWriter {
    mutating func objects() {
        code = [.mov64(.r6, .r1)] + prologue()
        switch number(0...5) {
        case 4...5: containers()
        case 0: if isForKernel { mapOfMaps() } else { tailCall() }
        case 1: record()
        case 2: if isForKernel { dynptr() } else { constants() }
        default: if isForKernel { dynptr() } else { global() }
        }
        code += [.mov64(.r0, 0), .exit]
    }

    /// A function that may end in another program; what it returns is a number that somebody relies on.
    private mutating func tailCall() {
        let name = label("tail")
        let skip = label()
        var body: [Statement] = [.function(name)]
        if chance(60) {
            body += [.load64(.r4, .r1, 8 * Int32(number(0...3))), .mov64(.r3, 0)]
            body += [.mov64(.r8, .r1)] + prologue() + [.mov64(.r1, .r8), .jumpGreater(.r7, number(0...3), to: skip)]
        }
        body += [.loadMap(.r2, Int32(VerifiedMap.programs.index)), .mov64(.r3, number(0...1)), .call(.tailCall)]
        body += [.label(skip), .mov64(.r0, number(0...40)), .exit]
        functions.append(body)
        var target = name
        if chance(30) {
            target = label("outer")
            functions.append([.function(target), .call(name), .exit])
        }
        if chance(25) {
            // In each round of a callback, whose index is a number that nobody relies on.
            let back = label("back")
            functions.append([
                .function(back), .mov64(.r6, .r1), .load64(.r1, .r2), .call(target), .mov64(.r8, .r0),
                .loadMapValue(.r2, UInt32(VerifiedMap.words.index), 0),
                .add64(.r2, chance(20) ? .r0 : .r6), .load8(.r0, .r2), chance(80) ? .mov64(.r0, 0) : .mov64(.r0, .r8),
                .exit,
            ])
            code += [
                .store64(.r10, -8, .r6), .mov64(.r1, number(1...4)), .loadFunction(.r2, back), .mov64(.r3, .r10),
                .add64(.r3, -8), .mov64(.r4, 0), .call(.loop),
            ]
            return
        }
        code += maybePadding() + [.mov64(.r1, .r6), .call(target)] + maybePadding(30)
        let end = label()
        if chance(40) { code.append(.jumpGreater(.r0, number(30...70), to: end)) }
        code += [
            .loadMapValue(.r2, UInt32(VerifiedMap.words.index), 0), .add64(.r2, .r0), .load8(.r0, .r2), .label(end),
        ]
    }

    /// A record of a ring: NULL or not, its size, given back on all paths or not.
    private mutating func record() {
        let (end, size) = (label(), 8 * number(1...8))
        code += [
            .loadMap(.r1, Int32(VerifiedMap.ring.index)), .mov64(.r2, size), .mov64(.r3, 0), .call(.ringbufReserve),
            .mov64(.r8, .r0),
        ]
        code += maybePadding(30)
        if chance(25) { code += [.store64(.r10, -8, .r8)] + maybePadding() + [.load64(.r8, .r10, -8)] }
        if chance(92) { code.append(.jumpEqual(pick([.r0, .r8, .r8]), 0, to: end)) }
        let index: [Statement] = [
            .loadMapValue(.r3, UInt32(VerifiedMap.words.index), 8), .load64(.r3, .r3),
            .op(.and64Imm, dst: .r3, imm: pick([1, 3, 7])), .mov64(.r2, .r8), .add64(.r2, .r3),
        ]
        let mask = size - 8 + pick([0, 0, 0, 1])
        code += index + [.store8(.r2, Int32(max(mask, 0)), 1)]
        let writes: [Statement] = [.store64(.r8, Int32(size) - 8, .r7), .load64(.r3, .r8, 0)]
        if chance(50) { code += writes }
        let give: (inout Self) -> [Statement] = { writer in
            [
                .mov64(.r1, .r8), .mov64(.r2, 0),
                .call(writer.pick([Helper.ringbufSubmit, .ringbufSubmit, .ringbufDiscard])),
            ]
        }
        if chance(60) {
            code += split(give(&self), give(&self))
        } else if chance(30) {
            code += split(give(&self), []) + maybePadding()
        } else {
            let name = label("give")
            let body = give(&self)
            functions.append([.function(name), .mov64(.r8, .r1)] + body + [.mov64(.r0, 0), .exit])
            code += [.mov64(.r1, .r8), .call(name)]
        }
        if chance(12) { code.append(.load8(.r0, .r8)) }
        code.append(.label(end))
    }

    /// Constants of frozen data decide branches and offsets.
    private mutating func constants() {
        let map = UInt32(VerifiedMap.constants.index)
        let (dead, end) = (label(), label())
        let size: Int64 = pick([1, 2, 4, 8])
        let place = number(0...Int64(VerifiedMap.constantBytes.count) / size - 1) * size
        code += [.loadMapValue(.r2, map, UInt32(chance(50) ? place : 0))]
        let offset: Int32 = code.last.map { Self.isAt($0, place) } ?? false ? 0 : Int32(place)
        switch size {
        case 1: code.append(pick([.load8(.r8, .r2, offset), .loadSigned8(.r8, .r2, offset)]))
        case 2: code.append(pick([.load16(.r8, .r2, offset), .loadSigned16(.r8, .r2, offset)]))
        case 4: code.append(pick([.load32(.r8, .r2, offset), .loadSigned32(.r8, .r2, offset)]))
        default: code.append(.load64(.r8, .r2, offset))
        }
        code += maybePadding(40)
        if chance(20) { code += [.op(.and64Imm, dst: .r7, imm: 15), .add64(.r2, .r7), .load8(.r8, .r2)] }
        if chance(8) { code.append(.store8(.r2, 0, 1)) }
        code += [.jumpGreater(.r8, number(0...63), to: dead)] + maybePadding(40)
        code += [.loadMapValue(.r3, UInt32(VerifiedMap.words.index), 0), .add64(.r3, .r8), .load8(.r0, .r3)]
        code += [.jump(to: end), .label(dead)]
        // Never reached where the constant is small.
        if chance(60) { code += [.mov64(.r1, 0), .load8(.r0, .r1)] }
        code.append(.label(end))
    }

    private static func isAt(_ statement: Statement, _ place: Int64) -> Bool {
        if case .instruction(let instruction) = statement { return instruction.imm >> 32 == place }
        return false
    }

    /// A function that is verified for any memory of a size; its caller may have known what is there.
    private mutating func global() {
        let name = label("global")
        let size: Int = pick([8, 8, 16, 24, 4])
        let isNullable = chance(50)
        contracts[name] = FunctionFacts.Contract(parameters: [.memory(size: size, isNullable: isNullable), .scalar])
        let end = label()
        var body: [Statement] = [.function(name), .mov64(.r6, .r1), .mov64(.r8, .r2)] + prologue()
        if chance(isNullable ? 85 : 20) { body.append(.jumpEqual(.r6, 0, to: end)) }
        if chance(50) { body += [.op(.and64Imm, dst: .r8, imm: pick([1, 3, 7])), .add64(.r6, .r8), .load8(.r0, .r6)] }
        body.append(
            pick([
                .store64(.r6, Int32(size) - 8, .r7), .store32(.r6, Int32(size) - 4, .r7),
                .store8(.r6, Int32(size) - 1, .r7),
                .load8(.r0, .r6, Int32(size)), .load64(.r0, .r6, 0), .store64(.r6, 0, .r7),
            ])
        )
        functions.append(body + [.label(end), .mov64(.r0, chance(50) ? .r8 : .r7), .exit])
        let place: Int64 = -8 * number(1...4)
        code += [.store64(.r10, -8, 1), .store64(.r10, -16, 2), .store64(.r10, -24, 3), .store64(.r10, -32, 4)]
        code += maybePadding(40)
        var call: [Statement]
        switch number(0...5) {
        case 0...2: call = [.mov64(.r1, .r10), .add64(.r1, place)]
        case 3: call = [.loadMapValue(.r1, UInt32(VerifiedMap.words.index), UInt32(8 * number(4...7)))]
        case 4: call = [.mov64(.r1, 0)]
        default: call = split([.mov64(.r1, 0)], [.mov64(.r1, .r10), .add64(.r1, place)])
        }
        call += [.mov64(.r2, pick([Register.r7, .r9])), .call(name)]
        if chance(25) {
            // For some numbers, which may lie in the memory that is given away.
            call = iterator(chance(80) ? -72 : place, number(0...3), call)
        } else if chance(15) {
            let (again, end) = (label(), label())
            call = [.label(again), .mayGoto(to: end)] + call + [.jump(to: again), .label(end)]
        }
        code += call + maybePadding(40)
        if chance(50) { code.append(.mov64(.r0, .r7)) }
        // Through a slot that it may have written, or with what it returned.
        if chance(70) { code.append(.load64(.r0, .r10, Int32(place))) }
        let last = label()
        if chance(40) { code.append(.jumpGreater(.r0, 60, to: last)) }
        code += [
            .loadMapValue(.r2, UInt32(VerifiedMap.words.index), 0), .add64(.r2, .r0), .load8(.r0, .r2), .label(last),
        ]
    }
}
