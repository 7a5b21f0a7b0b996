internal import ISA

// Numbers at distances from each other, made by additions of 32 and of 64 bits; what is learnt of one is used of another. All goes
// modulo 2^32, so the writer knows the distances of low halves only, and upper halves are what they are.

extension ProgramWriter {
    /// Registers that hold numbers of the family, by how far each lies from the first.
    private typealias Family = [Register: Int32]

    mutating func linkedHalves() {
        code = prologue()
        let end = label("end")
        code += load(.r8, 0)
        if chance(20) { code.append(.op(pick([.and64Imm, .and32Imm]), dst: .r8, imm: pick([63, 255, 0xffff, -1]))) }
        if chance(20) { code.append(.jumpGreater(.r8, pick([100, 0x7fff_ffff, 0x7fff_fff0]), to: end)) }
        var family: Family = [.r8: 0]
        if !isForKernel, chance(10) {
            // What is linked in one round is used in the next. Linux takes minutes for some.
            let again = label()
            for register in [Register.r1, .r2, .r6] {
                code.append(.mov64(register, .r8))
                family[register] = 0
            }
            let before = family
            let body = steps(&family)
            family = before
            code += [.label(again), .mayGoto(to: end)] + learnAndUse(family, end) + body + [.jump(to: again)]
            code += [.label(end), .mov64(.r0, 0), .exit]
            return
        }
        var other = family
        if chance(50) {
            let first = steps(&family)
            // Another way to the same registers, or to some of them.
            let hasLabels = first.contains { if case .label = $0 { true } else { false } }
            let second = hasLabels || chance(50) ? steps(&other) : first
            code += split(first, changed(second)) + padding()
        } else {
            code += steps(&family) + maybePadding(20)
        }
        code += chance(15) ? inFunction(family) : learnAndUse(family, end)
        code += [.label(end), .mov64(.r0, 0), .exit]
    }

    private mutating func load(_ register: Register, _ word: Int64) -> [Statement] {
        [
            .loadMapValue(register, UInt32(VerifiedMap.words.index), UInt32(8 * word)),
            pick([
                .load32(register, register), .load32(register, register), .load64(register, register),
                .load64(register, register), .load8(register, register), .loadSigned32(register, register),
            ]),
        ]
    }

    // MARK: - Links

    private mutating func steps(_ family: inout Family) -> [Statement] {
        var result: [Statement] = []
        for _ in 0..<number(1...5) { result += step(&family) }
        return result
    }

    /// The same statements, but perhaps for one that is missing or is of the other width.
    private mutating func changed(_ statements: [Statement]) -> [Statement] {
        var result = statements
        guard chance(70), let index = result.indices.randomElement(using: &random) else { return result }
        guard case .instruction(var instruction) = result[index] else { return result }
        switch instruction.opcode {
        case .mov32Reg: instruction.opcode = .mov64Reg
        case .mov64Reg: instruction.opcode = .mov32Reg
        case .add32Imm: instruction.opcode = .add64Imm
        case .add64Imm: instruction.opcode = .add32Imm
        default: return result
        }
        if chance(50) { result[index] = .instruction(instruction) } else { result.remove(at: index) }
        return result
    }

    private mutating func addend() -> Int64 {
        chance(70)
            ? pick([1, -1, 2, -2, 9, -9, 64, -64, 0])
            : pick([0x7fff_ffff, -0x8000_0000, 0x7fff_fff0, -0x7fff_ffff, 0x4000_0000, -0x4000_0000])
    }

    /// One more number of the family.
    private mutating func step(_ family: inout Family) -> [Statement] {
        let members = family.keys.sorted { $0.rawValue < $1.rawValue }
        let source = pick(members)
        let target = pick([Register.r1, .r2, .r3, .r4, .r6])
        let distance = family[source] ?? 0
        let amount = addend()
        let sum = distance &+ Int32(amount)
        switch number(0...15) {
        case 0...2:
            family[target] = distance
            return [.mov32(target, source)]
        case 3...4:
            family[target] = distance
            return [.mov64(target, source)]
        case 5...7:
            // As compilers write it.
            family[target] = sum
            return [pick([.mov32(target, source), .mov64(target, source)]), .add32(target, amount)]
        case 8:
            family[target] = distance &- Int32(amount)
            return [pick([.mov32(target, source), .mov64(target, source)]), .sub32(target, amount)]
        case 9:
            family[target] = sum
            return [.mov64(target, source), .add64(target, amount)]
        case 10:
            family[source] = sum
            return [pick([.add32(source, amount), .add32(source, amount), .add64(source, amount)])]
        case 11:
            // Far away and back.
            family[source] = distance &+ Int32(number(-3...3))
            let (far, rest) = (Int32.max, (family[source] ?? 0) &- distance &- Int32.max)
            return [.add32(source, Int64(far)), .add32(source, Int64(rest))]
        case 12:
            family[source] = sum
            let constant: Statement = pick([
                .mov64(.r5, amount), .mov32(.r5, amount), .loadImm64(.r5, amount &+ 1 << 40),
            ])
            return [constant, pick([.add32(source, .r5), .add32(source, .r5), .add64(source, .r5)])]
        case 13:
            family[target] = distance
            let place = slot()
            return [
                pick([.store64(.r10, place, source), .store32(.r10, place, source)]),
                pick([.load64(target, .r10, place), .load32(target, .r10, place), .loadSigned32(target, .r10, place)]),
            ]
        case 14:
            // Two numbers found equal: another one, or the first made anew.
            family[target] = distance
            let same = label()
            let made = chance(70) ? load(target, 0) : load(target, number(0...7))
            return made + [
                pick([.add32(target, Int64(distance)), .add64(target, Int64(distance))]),
                pick([.jumpEqual(target, source, to: same), .jumpEqual32(target, source, to: same)]),
                .mov64(.r0, 0), .exit, .label(same),
            ]
        default:
            family[target] = distance
            return [.op(pick([.movsx64From32, .movsx64From8]), dst: target, src: source)]
        }
    }

    // MARK: - What is learnt

    private mutating func learnAndUse(_ family: Family, _ end: String) -> [Statement] {
        let members = family.keys.sorted { $0.rawValue < $1.rawValue }
        let (tested, used) = (pick(members), pick(members))
        return learnAndUse(tested, used, (family[tested] ?? 0) &- (family[used] ?? 0), end)
    }

    private mutating func inFunction(_ family: Family) -> [Statement] {
        let members = family.keys.sorted { $0.rawValue < $1.rawValue }
        let (tested, used) = (pick(members), pick(members))
        let (name, end) = (label("half"), label("end"))
        functions.append(
            [.function(name)] + learnAndUse(.r1, .r2, (family[tested] ?? 0) &- (family[used] ?? 0), end)
                + [.label(end), .mov64(.r0, 0), .exit]
        )
        return [.mov64(.r8, tested), .mov64(.r2, used), .mov64(.r1, .r8), .call(name)]
    }

    /// One is found to lie where the other, so far below it, is `low` to `high`; or nearly so.
    private mutating func learnAndUse(
        _ tested: Register,
        _ used: Register,
        _ distance: Int32,
        _ end: String
    ) -> [Statement] {
        let (low, high) = (number(0...3), number(20...63))
        let slip = Int32(chance(88) ? 0 : pick([-1, 1]))
        let first = distance &+ Int32(low) &+ slip
        let last = distance &+ Int32(high) &+ slip
        let (least, most) = (Int64(first), Int64(last))
        var result: [Statement]
        switch number(0...7) {
        case 0...2:
            result = [pick([.mov32(.r5, tested), .mov64(.r5, tested)]), .sub32(.r5, least)]
            result.append(pick([.jumpGreater(.r5, high - low, to: end), .jumpGreater32(.r5, high - low, to: end)]))
        case 3:
            result = [.sub32(tested, least)]
            result.append(
                pick([.jumpGreater(tested, high - low, to: end), .jumpGreater32(tested, high - low, to: end)])
            )
        case 4...5:
            result = [
                pick([.jumpLess(tested, least, to: end), .jumpLess32(tested, least, to: end)]),
                pick([.jumpGreater(tested, most, to: end), .jumpGreater32(tested, most, to: end)]),
            ]
        case 6:
            result = [
                pick([.jumpSignedLess(tested, least, to: end), .jumpSignedLess32(tested, least, to: end)]),
                pick([.jumpSignedGreater(tested, most, to: end), .jumpSignedGreater32(tested, most, to: end)]),
            ]
        default:
            result = [pick([.jumpNotEqual(tested, least, to: end), .jumpNotEqual32(tested, least, to: end)])]
        }
        result += maybePadding(25)
        if chance(15) { result += [.mov32(used, used)] }
        // The ends of what may be reached, now and then one beyond.
        let offset = Int32(pick([-low, -low, 63 - high, 63 - high, 0]) + (chance(90) ? 0 : pick([-1, 1])))
        let words = UInt32(VerifiedMap.words.index)
        switch number(0...5) {
        case 0...2: result += [.loadMapValue(.r5, words, 0), .add64(.r5, used), .load8(.r5, .r5, offset)]
        case 3...4: result += [.mov64(.r5, .r10), .add64(.r5, -64), .add64(.r5, used), .store8(.r5, offset, 1)]
        default:
            // A branch that cannot be taken any more.
            let on = label()
            result += [pick([.jumpLess(used, high + 1, to: on), .jumpLess32(used, high + 1, to: on)])]
            result += [.loadMapValue(.r5, words, 60), .load64(.r5, .r5), .label(on)]
        }
        return result
    }
}
