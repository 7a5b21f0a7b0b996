package import ISA

/// Where the value that an instruction refers to lies in a session.
package struct SegmentOffset: Equatable, Sendable {
    /// 0: shared, 1: image (`csession_storage`).
    package var storage: Int
    /// Bytes from the start of that segment.
    package var offset: UInt64

    package init(storage: Int, offset: UInt64) {
        self.storage = storage
        self.offset = offset
    }
}

/// Makes a program ready to run; see `LinkedInstruction` for what becomes of each field.
///
/// What the interpreter does not check at run time is checked here: every jump and call ends at an instruction, the last
/// one does not go on, nothing writes r10, every map exists.
///
/// - Parameters:
///   - instructions: the program and the functions that it calls, contiguous; the entry comes first.
///   - mapCount: maps of the session; `loadMap` names one by its index.
///   - mapValue: where byte `offset` of a map's first value lies; nil where there is none.
package func link(
    _ instructions: [Instruction],
    mapCount: Int,
    mapValue: (_ map: Int, _ offset: UInt32) -> SegmentOffset?
) throws(LinkError) -> [LinkedInstruction] {
    guard let last = instructions.last else { throw LinkError(.empty, at: 0) }
    guard instructions.count <= Linker.maximumInstructions else {
        throw LinkError(.tooLong(count: instructions.count), at: 0)
    }
    switch last.flow {
    case .exit, .jump(_, conditional: false): break
    case .next, .jump(_, conditional: true), .call, .reference:
        throw LinkError(.fallsThrough, at: instructions.count - 1)
    }
    let linker = Linker(slots: SlotMap(instructions), mapCount: mapCount)
    var linked: [LinkedInstruction] = []
    linked.reserveCapacity(instructions.count)
    for (index, instruction) in instructions.enumerated() {
        linked.append(try linker.link(instruction, at: index, mapValue: mapValue))
    }
    linked[0].startsFunction = true
    for (index, instruction) in instructions.enumerated() {
        switch instruction.flow {
        case .call, .reference: linked[Int(linked[index].target)].startsFunction = true
        case .next, .jump, .exit: break
        }
    }
    return linked
}

/// What linking one instruction needs to know of the whole program.
struct Linker {
    let slots: SlotMap
    let mapCount: Int

    /// Instructions of one program (Linux `BPF_COMPLEXITY_LIMIT_INSNS`).
    static var maximumInstructions: Int { 1_000_000 }

    func link(
        _ instruction: Instruction,
        at index: Int,
        mapValue: (_ map: Int, _ offset: UInt32) -> SegmentOffset?
    ) throws(LinkError) -> LinkedInstruction {
        if instruction.writes.contains(.framePointer) { throw LinkError(.writesFramePointer, at: index) }
        var linked = LinkedInstruction(
            instruction.opcode,
            dst: instruction.dst.rawValue,
            src: instruction.src.rawValue,
            target: instruction.offset,
            imm: instruction.imm
        )
        switch instruction.flow {
        case .jump(let distance, _), .call(let distance):
            linked.target = Int32(try destination(distance, from: index))
        case .reference(let distance):
            let target = try destination(distance, from: index)
            linked.target = Int32(target)
            linked.imm = Int64(bitPattern: FunctionHandle.make(target))
        case .next, .exit: break
        }
        // Those kernel functions that we have are helpers to the engines.
        if instruction.opcode == .callKernelFunction, Helper(calledBy: instruction) != nil {
            linked.opcode = .callHelper
        }
        switch instruction.opcode.shape {
        case .wide(.map), .wide(.mapByIndex):
            linked.imm = Int64(bitPattern: MapHandle.make(try map(instruction, at: index)))
        case .wide(.mapValue), .wide(.mapValueByIndex):
            let map = try map(instruction, at: index)
            let offset = UInt32(truncatingIfNeeded: instruction.imm >> 32)
            guard let place = mapValue(map, offset) else {
                throw LinkError(.noSuchValue(map: map, offset: offset), at: index)
            }
            linked.target = Int32(place.storage)
            linked.imm = Int64(bitPattern: place.offset)
        case .wide, .arithmetic, .negate, .signExtend, .byteOrder, .packet, .load, .store, .atomic, .jump,
            .conditionalJump, .mayGoto, .call, .exit:
            break
        }
        return linked
    }

    /// The instruction that lies `distance` slots behind the slot after the instruction's first.
    private func destination(_ distance: Int, from index: Int) throws(LinkError) -> Int {
        let slot = slots.slots[index] + 1 + distance
        guard let target = slots.instruction(at: slot) else { throw LinkError(.badTarget(slot: slot), at: index) }
        return target
    }

    /// The map index in the low half of the immediate.
    private func map(_ instruction: Instruction, at index: Int) throws(LinkError) -> Int {
        let map = Int(UInt32(truncatingIfNeeded: instruction.imm))
        guard map < mapCount else { throw LinkError(.unknownMap(index: map), at: index) }
        return map
    }
}
