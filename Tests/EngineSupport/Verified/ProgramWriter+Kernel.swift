internal import ISA

// What processes have none of, so that only the kernel's verdict tells: packets that move, dynptrs, maps of maps.

extension ProgramWriter {
    // MARK: - Packets

    /// Bytes behind a place in the packet that was compared with its end; r6 is the context.
    mutating func packets() {
        type = .xdp
        let end = label()
        code = [.mov64(.r6, .r1)] + prologue() + [.load32(.r2, .r6, 0), .load32(.r3, .r6, 4)]
        let first = number(0...20)
        code += [.mov64(.r8, .r2)]
        let isVariable = chance(60)
        var mask: Int64 = 0
        if isVariable {
            mask = pick([1, 3, 7, 15])
            code += [.mov64(.r4, .r7), .op(.and64Imm, dst: .r4, imm: mask), .add64(.r8, .r4)]
        }
        if chance(40) { code += [.add64(.r8, first)] }
        let size = number(1...30)
        code += [.mov64(.r5, .r8), .add64(.r5, size)]
        code.append(
            pick([
                .jumpGreater(.r5, .r3, to: end), .jumpGreater(.r5, .r3, to: end), .jumpGreaterEqual(.r5, .r3, to: end),
                .jumpLess(.r3, .r5, to: end), .jumpLessEqual(.r3, .r5, to: end),
            ])
        )
        if chance(30) {
            code += [.store64(.r10, -8, .r8)] + maybePadding() + [.load64(.r8, .r10, -8)]
        } else {
            code += maybePadding(30)
        }
        for _ in 0..<Int(number(1...3)) { code += packetUse(size) }
        code += [.label(end), .mov64(.r0, 2), .exit]
    }

    private mutating func packetUse(_ size: Int64) -> [Statement] {
        let slack: Int64 = pick([0, 0, 0, 1, 2, -1])
        let wide = size >= 4 && chance(30)
        let offset = Int32(size - (wide ? 4 : 1) - slack)
        switch number(0...7) {
        case 0...2: return [wide ? .load32(.r0, .r8, offset) : .load8(.r0, .r8, offset)]
        case 3: return [wide ? .store32(.r8, offset, .r7) : .store8(.r8, offset, 1)]
        case 4:
            // By a function, which may compare once more.
            let (name, end) = (label("packet"), label())
            var body: [Statement] = [.function(name)]
            if chance(50) {
                body += [.mov64(.r3, .r1), .add64(.r3, number(1...16)), .jumpGreater(.r3, .r2, to: end)]
            }
            body += [.load8(.r0, .r1, Int32(number(0...16))), .label(end), .mov64(.r0, 0), .exit]
            functions.append(body)
            return [.load32(.r2, .r6, 4), .mov64(.r1, .r8), .call(name)]
        case 5:
            let before: Int64 = pick([0, 0, 1, number(0...14)])
            return [.load8(.r0, .r8, Int32(-before))]
        case 6:
            // As a helper's memory.
            return [
                .mov64(.r2, .r8), .loadMap(.r1, Int32(VerifiedMap.array.index)), .call(.mapLookupElem),
            ]
        default:
            guard isForKernel else { return padding() }
            // The packet moves: what pointed to it points nowhere.
            if chance(50) { return [.mov64(.r1, .r6), .mov64(.r2, 0), .call(.xdpAdjustTail)] }
            let name = label("move")
            let body: [Statement] =
                chance(70)
                ? [.mov64(.r2, 0), .call(.xdpAdjustHead)]
                : [.loadMap(.r2, Int32(VerifiedMap.programs.index)), .mov64(.r3, 0), .call(.tailCall)]
            functions.append([.function(name)] + body + [.mov64(.r0, 0), .exit])
            return [.mov64(.r1, .r6), .call(name)]
        }
    }

    // MARK: - Dynptrs

    /// A record of a ring that is reached through a dynptr only.
    mutating func dynptr() {
        let (none, end) = (label(), label())
        let size = 8 * number(1...6)
        let place: Int64 = chance(85) ? -16 : pick([-24, -12, -8])
        let pointer = { (register: Register) -> [Statement] in [.mov64(register, .r10), .add64(register, place)] }
        code += [.loadMap(.r1, Int32(VerifiedMap.ring.index)), .mov64(.r2, size), .mov64(.r3, 0)] + pointer(.r4)
        code += [.call(.ringbufReserveDynptr)] + maybePadding(30)
        let length = size - pick([0, 0, 1, -8])
        if chance(80) {
            code +=
                pointer(.r1) + [
                    .mov64(.r2, chance(70) ? 0 : 8), .mov64(.r3, length), .call(.dynptrData), .mov64(.r8, .r0),
                ]
            if chance(90) { code.append(.jumpEqual(.r8, 0, to: none)) }
            code.append(.store8(.r8, Int32(length - 1 + pick([0, 0, 0, 1])), 1))
            if chance(15) { code += [.mov64(.r1, .r8), .mov64(.r2, 0), .call(.ringbufSubmit)] }
        } else {
            code.append(.mov64(.r8, 0))
        }
        code.append(.label(none))
        if chance(20) { code.append(.store64(.r10, pick([-16, -8, -24]), 0)) }
        if chance(25) { code += [.load64(.r3, .r10, pick([-16, -8])), .add64(.r9, .r3)] }
        if chance(30) {
            code += [.store64(.r10, -40, .r7), .mov64(.r1, .r10), .add64(.r1, -40), .mov64(.r2, 8)] + pointer(.r3)
            code += [.mov64(.r4, 0), .mov64(.r5, 0), .call(.dynptrRead)]
        }
        code += maybePadding(40)
        let give: [Statement] =
            pointer(.r1) + [.mov64(.r2, 0), .call(pick([Helper.ringbufSubmitDynptr, .ringbufDiscardDynptr]))]
        switch number(0...5) {
        case 0: code += split(give, give)
        case 1: code += split(give, []) + maybePadding()
        case 2:
            let name = label("give")
            functions.append([.function(name), .mov64(.r2, 0), .call(.ringbufSubmitDynptr), .mov64(.r0, 0), .exit])
            code += pointer(.r1) + [.call(name)]
        default: code += give
        }
        if chance(20) { code += [.jumpEqual(.r8, 0, to: end), .load8(.r0, .r8)] }
        if chance(10) { code += give }
        code.append(.label(end))
    }

    // MARK: - Maps of maps

    /// A map that was looked up, and a value of it.
    mutating func mapOfMaps() {
        let end = label()
        code += [.store32(.r10, -4, number(0...3)), .mov64(.r2, .r10), .add64(.r2, -4)]
        code += [.loadMap(.r1, Int32(VerifiedMap.outer.index)), .call(.mapLookupElem)]
        if chance(90) { code.append(.jumpEqual(.r0, 0, to: end)) }
        code += [.mov64(.r8, .r0)] + maybePadding()
        if chance(15) { code.append(chance(50) ? .load64(.r3, .r8) : .store64(.r8, 0, 1)) }
        if chance(15) { code.append(.add64(.r8, 8)) }
        if chance(20) { code += [.store64(.r10, -16, .r8)] + maybePadding() + [.load64(.r8, .r10, -16)] }
        code += [.store32(.r10, -4, number(0...3)), .mov64(.r2, .r10), .add64(.r2, -4), .mov64(.r1, .r8)]
        if chance(20) {
            code += [.mov64(.r3, .r10), .add64(.r3, -64), .mov64(.r4, 0), .call(.mapUpdateElem)]
        } else {
            code.append(.call(.mapLookupElem))
            if chance(85) { code.append(.jumpEqual(.r0, 0, to: end)) }
            code.append(pick([.load8(.r0, .r0, 47), .store8(.r0, 47, 1), .load64(.r0, .r0, 40), .load8(.r0, .r0, 48)]))
        }
        code.append(.label(end))
    }
}
