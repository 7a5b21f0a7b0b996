/// Slot and instruction numbers of a program, which differ behind two-slot instructions.
package struct SlotMap: Sendable {
    /// Slot of each instruction, and the slot count at the end.
    package private(set) var slots: [Int]
    private var indices: [Int32]

    package init(_ instructions: [Instruction]) {
        slots = []
        slots.reserveCapacity(instructions.count + 1)
        indices = []
        for (index, instruction) in instructions.enumerated() {
            slots.append(indices.count)
            indices.append(Int32(index))
            if instruction.slots == 2 { indices.append(-1) }
        }
        slots.append(indices.count)
    }

    package var slotCount: Int { indices.count }

    /// The instruction that starts at a slot; nil outside the program and inside a two-slot instruction.
    package func instruction(at slot: Int) -> Int? {
        guard indices.indices.contains(slot), indices[slot] >= 0 else { return nil }
        return Int(indices[slot])
    }
}

/// How an instruction continues.
package enum Flow: Equatable, Sendable {
    /// With the next instruction.
    case next
    /// At a target given in slots from the next one; `conditional` ones may also go on.
    case jump(slots: Int, conditional: Bool)
    /// With a function `slots` away, then with the next instruction.
    case call(slots: Int)
    /// With the next instruction, having taken the address of the function `slots` away.
    case reference(slots: Int)
    case exit
}

extension Instruction {
    /// How the instruction continues; every distance counts from the slot after the instruction's first one.
    package var flow: Flow {
        switch opcode.shape {
        case .jump: .jump(slots: Int(offset), conditional: false)
        case .conditionalJump, .mayGoto: .jump(slots: Int(offset), conditional: true)
        case .call(.local): .call(slots: Int(imm))
        case .wide(.function): .reference(slots: Int(imm))
        case .exit: .exit
        case .arithmetic, .negate, .signExtend, .byteOrder, .wide, .packet, .load, .store, .atomic: .next
        case .call(.helper), .call(.kernelFunction), .call(.register): .next
        }
    }
}

/// Checks that every jump, call and function reference of a linked program goes to an instruction, and that no function
/// runs past its end.
///
/// - Parameter functions: index of the first instruction of each function; empty where they are not known, which leaves
///   out the checks that jumps stay inside one and calls go to the start of one.
package func validateControlFlow(_ instructions: [Instruction], functions: [Int] = []) throws(DecodeError) {
    if instructions.isEmpty { throw DecodeError(.empty, slot: 0) }
    let map = SlotMap(instructions)
    var starts = [Bool](repeating: false, count: instructions.count)
    for start in functions where instructions.indices.contains(start) { starts[start] = true }
    // Function number of each instruction.
    var owner: [Int] = []
    var current = 0
    for start in starts {
        if start { current += 1 }
        owner.append(current)
    }
    for (index, instruction) in instructions.enumerated() {
        let slot = map.slots[index]
        var mayGoOn = true
        switch instruction.flow {
        case .next: break
        case .exit: mayGoOn = false
        case .jump(let distance, let conditional):
            let target = slot + 1 + distance
            guard target >= 0, target < map.slotCount else {
                throw DecodeError(.jumpOutOfProgram(target: target), slot: slot)
            }
            guard let destination = map.instruction(at: target) else {
                throw DecodeError(.jumpIntoWideInstruction(target: target), slot: slot)
            }
            if owner[destination] != owner[index] {
                throw DecodeError(.jumpIntoOtherFunction(target: target), slot: slot)
            }
            mayGoOn = conditional
        case .call(let distance), .reference(let distance):
            let target = slot + 1 + distance
            guard target >= 0, target < map.slotCount else {
                throw DecodeError(.callOutOfProgram(target: target), slot: slot)
            }
            guard let destination = map.instruction(at: target) else {
                throw DecodeError(.callIntoWideInstruction(target: target), slot: slot)
            }
            if !functions.isEmpty, !starts[destination] {
                throw DecodeError(.callIntoFunction(target: target), slot: slot)
            }
        }
        let isLast = index + 1 == instructions.count || starts[index + 1]
        if isLast, mayGoOn { throw DecodeError(.fallsThrough, slot: slot) }
    }
}
