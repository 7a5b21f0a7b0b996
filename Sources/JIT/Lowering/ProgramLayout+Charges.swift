internal import ISA

// What checked code takes from the budget, and where.
//
// A charge pays for the shortest way to the next one, so nothing is charged that is not executed: a run that ends in the interpreter is
// never stopped by its budget. A way that is much longer than another gets a charge of its own.

/// Instructions up to the next charge or the function's end, on the shortest way and on the longest.
private struct Ways {
    var shortest: Int32 = 0
    var longest: Int32 = 0
}

extension ProgramLayout {
    /// Finds what is charged before each instruction; 0 before most.
    ///
    /// Something is wherever functions and loops begin, so that nothing runs forever.
    mutating func findCharges(_ code: UnsafeBufferPointer<LinkedInstruction>, _ flows: [Flow]) {
        var isCharged = loops
        isCharged.append(false)
        for function in functions { isCharged[function.start] = true }
        // What follows a tail call runs only where that was not taken.
        for index in 0..<code.count where unsafe code[index].opcode == .callHelper && code[index].imm == 12 {
            isCharged[index + 1] = true
        }
        charges = [Int32](repeating: 0, count: code.count + 1)
        var longest = charges
        // A new charge makes the ways of those that come there shorter, which may ask for others; mostly for none.
        var tries = 0
        while unsafe findWays(code, flows, &isCharged, &longest) {
            tries += 1
            // Whoever made such a program is charged for each block.
            if tries == 8 { for index in 0..<code.count where beginsBlock(index, flows) { isCharged[index] = true } }
        }
        for index in 0..<code.count where !isCharged[index] { charges[index] = 0 }
    }

    private func beginsBlock(_ index: Int, _ flows: [Flow]) -> Bool {
        index == 0 || labels[index] != nil || flows[index - 1] != .next
    }

    /// Finds the ways from the first instruction of each block, with the shortest in `charges`; true where charges were added.
    private mutating func findWays(
        _ code: UnsafeBufferPointer<LinkedInstruction>,
        _ flows: [Flow],
        _ isCharged: inout [Bool],
        _ longest: inout [Int32]
    ) -> Bool {
        var isChanged = false
        // The last instruction of the block that is looked at.
        var last = 0
        for index in stride(from: code.count - 1, through: 0, by: -1) {
            if flows[index] != .next || isCharged[index + 1] || labels[index + 1] != nil { last = index }
            guard isCharged[index] || beginsBlock(index, flows) else { continue }
            let target = unsafe flows[last].jumps ? Int(code[last].target) : last + 1
            let next = flows[last].falls ? last + 1 : target
            while true {
                var (there, here) = (Ways(), Ways())
                if flows[last] != .end {
                    if !isCharged[target] { there = Ways(shortest: charges[target], longest: longest[target]) }
                    if !isCharged[next] { here = Ways(shortest: charges[next], longest: longest[next]) }
                }
                let length = Int32(truncatingIfNeeded: last - index + 1)
                charges[index] = length + min(there.shortest, here.shortest)
                longest[index] = length + max(there.longest, here.longest)
                // One charge will do for both if they are much alike.
                if longest[index] <= 2 * charges[index] + 8 { break }
                isCharged[there.longest > here.longest ? target : next] = true
                isChanged = true
            }
        }
        return isChanged
    }
}
