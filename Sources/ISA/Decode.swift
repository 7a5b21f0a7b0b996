/// The instructions of a program as it stands in an object file.
///
/// Checks every field but no jump or call target: in an object that is not linked yet, those of calls are placeholders.
/// `validateControlFlow` does that once they are final.
package func decode(_ slots: [RawInstruction]) throws(DecodeError) -> [Instruction] {
    if slots.isEmpty { throw DecodeError(.empty, slot: 0) }
    var result: [Instruction] = []
    result.reserveCapacity(slots.count)
    var index = 0
    while index < slots.count {
        let next = index + 1 < slots.count ? slots[index + 1] : nil
        let instruction = try decode(slots[index], next, slot: index)
        result.append(instruction)
        index += instruction.slots
    }
    return result
}

/// The instructions in the bytes of a section.
package func decode(_ bytes: [UInt8]) throws(DecodeError) -> [Instruction] {
    if bytes.count % 8 != 0 { throw DecodeError(.partialSlot, slot: bytes.count / 8) }
    return try decode(RawInstruction.slots(bytes))
}

/// One instruction; `next` is the slot after it, which only the two-slot ones use.
package func decode(_ raw: RawInstruction, _ next: RawInstruction?, slot: Int) throws(DecodeError) -> Instruction {
    do {
        return try decode(raw, next)
    } catch {
        throw DecodeError(error.kind, slot: slot)
    }
}

/// Where a decoder stopped, before the slot is known.
private struct Reason: Error {
    var kind: DecodeError.Kind

    init(_ kind: DecodeError.Kind) { self.kind = kind }
}

private func decode(_ raw: RawInstruction, _ next: RawInstruction?) throws(Reason) -> Instruction {
    let (opcode, encoding) = try findOpcode(raw)
    var result = Instruction(opcode)
    result.dst = try register(raw.dst, encoding.dst, .dst)
    if encoding.src != .none { result.src = try register(raw.src, encoding.src, .src) }
    switch encoding.offset {
    case .fixed: break
    case .bytes, .slots, .number: result.offset = Int32(raw.offset)
    }
    switch encoding.imm {
    case .fixed: break
    case .value: result.imm = Int64(raw.imm)
    case .slots: result.offset = raw.imm
    case .wide: result.imm = Int64(UInt32(bitPattern: raw.imm)) | Int64(try secondImm(next)) << 32
    case .wideLow:
        if try secondImm(next) != 0 { throw Reason(.reservedSecondSlot(.imm)) }
        result.imm = Int64(raw.imm)
    }
    return result
}

private func register(_ number: UInt8, _ use: RegisterUse, _ field: DecodeError.Field) throws(Reason) -> Register {
    guard let register = Register(rawValue: number) else { throw Reason(.badRegister(field, number)) }
    switch use {
    case .none where number != 0: throw Reason(.reservedField(field))
    case .write where register == .framePointer, .readWrite where register == .framePointer:
        throw Reason(.framePointerWritten)
    case .none, .read, .write, .readWrite: return register
    }
}

private func secondImm(_ next: RawInstruction?) throws(Reason) -> Int32 {
    guard let next else { throw Reason(.truncatedWideInstruction) }
    if next.code != 0 { throw Reason(.reservedSecondSlot(.code)) }
    if next.dst != 0 { throw Reason(.reservedSecondSlot(.dst)) }
    if next.src != 0 { throw Reason(.reservedSecondSlot(.src)) }
    if next.offset != 0 { throw Reason(.reservedSecondSlot(.offset)) }
    return next.imm
}

/// The opcode whose fixed fields are those of `raw`.
private func findOpcode(_ raw: RawInstruction) throws(Reason) -> (Opcode, Encoding) {
    let candidates = OpcodesByCode.table[Int(raw.code)]
    if candidates.isEmpty { throw Reason(.unknownOpcode(raw.code)) }
    var left = Candidates(list: candidates)
    try left.keep(.src, Int32(raw.src)) { $0.src == .none ? Int32($0.kind) : nil }
    try left.keep(.offset, Int32(raw.offset)) {
        if case .fixed(let value) = $0.offset { Int32(value) } else { nil }
    }
    try left.keep(.imm, raw.imm) {
        if case .fixed(let value) = $0.imm { value } else { nil }
    }
    let opcode = left.list[0]
    return (opcode, opcode.encoding)
}

/// The opcodes that a slot may still be, while its fixed fields are compared one after the other.
private struct Candidates {
    var list: [Opcode]

    /// Keeps the opcodes that accept `value` in `field`; `fixed` is what one demands there, nil for anything.
    mutating func keep(
        _ field: DecodeError.Field,
        _ value: Int32,
        _ fixed: (Encoding) -> Int32?
    ) throws(Reason) {
        var kept: [Opcode] = []
        var isReserved = true
        for opcode in list {
            let demanded = fixed(opcode.encoding)
            if demanded == nil || demanded == value { kept.append(opcode) }
            if demanded != 0 { isReserved = false }
        }
        if kept.isEmpty { throw Reason(isReserved ? .reservedField(field) : .unknownVariant(field, value)) }
        list = kept
    }
}

/// Opcodes by their code byte; several share one and differ in the src, offset or immediate field.
private enum OpcodesByCode {
    static let table: [[Opcode]] = {
        var table = [[Opcode]](repeating: [], count: 256)
        for opcode in Opcode.allCases { table[Int(opcode.encoding.code)].append(opcode) }
        return table
    }()
}
