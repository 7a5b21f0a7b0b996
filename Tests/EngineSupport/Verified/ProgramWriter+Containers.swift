internal import ISA

// Maps of all types with the helpers that they take, and a few that they do not.

extension ProgramWriter {
    /// r8 is a number that is right on one path; helpers fill the stack around where it lies.
    mutating func containers() {
        let end = label()
        let good = number(0...40)
        code += split([.mov64(.r8, good)], [.mov64(.r8, pick([good, good, 1000]))])
        code += [.store64(.r10, -32, .r8), .store64(.r10, -40, .r7), .store64(.r10, -48, number(0...9))]
        code += [.store64(.r10, -56, .r8), .store64(.r10, -64, .r7)] + maybePadding(40)
        for _ in 0..<number(1...3) { code += container(end) + maybePadding(30) }
        // What lies there now may be a helper's.
        let place = Int32(-8 * number(4...8))
        code.append(pick([.load64(.r8, .r10, place), .load32(.r8, .r10, place), .mov64(.r8, .r8)]))
        if chance(30) { code.append(.jumpGreater(.r8, 63, to: end)) }
        code += [
            .loadMapValue(.r2, UInt32(VerifiedMap.words.index), 0), .add64(.r2, .r8), .load8(.r0, .r2), .label(end),
        ]
    }

    private mutating func container(_ end: String) -> [Statement] {
        let map: VerifiedMap = pick([.lru, .trie, .queue, .stack, .bloom, .cpus, .hash, .array])
        let elements: [Helper] = [.mapLookupElem, .mapLookupElem, .mapLookupElem, .mapUpdateElem, .mapDeleteElem]
        let own: [Helper] =
            switch map {
            case .queue, .stack: [.mapPushElem, .mapPopElem, .mapPeekElem]
            case .bloom: [.mapPushElem, .mapPeekElem]
            case .cpus: elements + [.mapLookupPercpuElem, .mapLookupPercpuElem]
            case .words, .array, .hash, .constants, .ring, .programs, .lru, .trie, .outer: elements
            }
        let helper = chance(94) ? pick(own) : pick(elements + [.mapPushElem, .mapPopElem, .mapLookupPercpuElem])
        let isKey = own.contains(.mapLookupElem)
        var result = memory(.r2, isKey ? map.keySize : map.valueSize)
        switch helper {
        case .mapUpdateElem: result += memory(.r3, map.valueSize) + [.mov64(.r4, number(0...2))]
        case .mapLookupPercpuElem: result.append(pick([.mov64(.r3, 0), .mov64(.r3, 1), .mov64(.r3, .r7)]))
        default: result.append(pick([.mov64(.r3, 0), .mov64(.r3, 2), .mov64(.r3, .r7)]))
        }
        if isKey, chance(40) { result.append(.store32(.r10, -40, number(0...5))) }
        result += [.loadMap(.r1, Int32(map.index)), .call(helper)]
        guard helper == .mapLookupElem || helper == .mapLookupPercpuElem else { return result }
        if chance(92) { result.append(.jumpEqual(.r0, 0, to: end)) }
        let last = Int32(map.valueSize) - 8 + (chance(90) ? 0 : 1)
        if chance(30) {
            result += [.mov64(.r6, .r7), .op(.and64Imm, dst: .r6, imm: 7), .add64(.r0, .r6)]
            result.append(.load8(.r0, .r0, last))
            return result
        }
        return result + [pick([.load64(.r0, .r0, last), .store64(.r0, last, .r7), .store64(.r0, 0, .r8)])]
    }

    /// So many bytes of the stack or of a value, or one that is not there.
    private mutating func memory(_ register: Register, _ size: Int) -> [Statement] {
        let miss: Int64 = chance(94) ? 0 : 1
        switch number(0...5) {
        case 0: return [.loadMapValue(register, UInt32(VerifiedMap.words.index), UInt32(64 - Int64(size) + miss))]
        case 1: return [.mov64(register, .r10), .add64(register, -Int64(size) + miss)]
        case 2:
            let mask: Int64 = pick([3, 7])
            return [
                .mov64(register, .r7), .op(.and64Imm, dst: register, imm: mask), .add64(register, .r10),
                .add64(register, -Int64(size) - mask + miss),
            ]
        default: return [.mov64(register, .r10), .add64(register, Int64(pick([-40, -40, -48, -56, -64])))]
        }
    }
}
