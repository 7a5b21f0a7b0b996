package import ISA

/// The program called `name` in an object, with the functions that it calls behind it.
///
/// - Parameter name: a function or a section with code; nil: the first section with code.
package func readProgram(_ object: [UInt8], name: [UInt8]?) throws(EmbeddingError) -> [RawInstruction] {
    var object = try ELFObject(object)
    let entry = try entry(&object, name)
    var linker = ObjectLinker(object)
    return try linker.link(entry)
}

private func entry(_ object: inout ELFObject, _ name: [UInt8]?) throws(EmbeddingError) -> Int {
    guard let name else {
        guard let section = object.sections.firstIndex(where: { $0.isCode }) else { throw .noCode }
        return object.firstFunction(section)
    }
    // Functions first: a section is hardly ever called like one.
    if let function = object.function(named: name) { return function }
    guard let section = object.codeSection(named: name) else { throw .noSuchName(name[...]) }
    return object.firstFunction(section)
}

/// Puts a function and all that it reaches one behind the other, each once, and directs the calls.
struct ObjectLinker {
    private let object: ELFObject
    private var slots: [RawInstruction] = []
    /// Functions in the order of the program.
    private var order: [Int] = []
    /// First slot of each function in the program; -1: not in it, or not yet.
    private var starts: [Int]
    private var isPlaced: [Bool]
    /// Calls whose immediate becomes the distance to a function.
    private var calls: [(slot: Int, function: Int)] = []

    private static let wideCode: UInt8 = 0x18
    private static let callCode: UInt8 = 0x85
    /// `R_BPF_64_64` and `R_BPF_64_32`.
    private static let addressType: UInt32 = 1
    private static let callType: UInt32 = 10
    /// Two for each instruction that `link` takes.
    private static let maximumSlots = 2_000_000

    init(_ object: ELFObject) {
        self.object = object
        starts = [Int](repeating: -1, count: object.functions.count)
        isPlaced = [Bool](repeating: false, count: object.functions.count)
    }

    mutating func link(_ entry: Int) throws(EmbeddingError) -> [RawInstruction] {
        place(entry)
        var next = 0
        while next < order.count {
            try append(order[next])
            next += 1
        }
        for call in calls {
            slots[call.slot].imm = Int32(truncatingIfNeeded: starts[call.function] - call.slot - 1)
        }
        return slots
    }

    private mutating func place(_ function: Int) {
        if isPlaced[function] { return }
        isPlaced[function] = true
        order.append(function)
    }

    private mutating func append(_ index: Int) throws(EmbeddingError) {
        let function = object.functions[index]
        let bytes = object.sections[function.section].bytes
        guard slots.count + function.end - function.start <= Self.maximumSlots else {
            throw .tooLong(Self.maximumSlots)
        }
        starts[index] = slots.count
        var next = object.firstRelocation(function.section, from: function.start)
        var isSecond = false
        for slot in function.start..<function.end {
            let raw = RawInstruction(
                code: bytes.u8(8 * slot),
                registers: bytes.u8(8 * slot + 1),
                offset: Int16(bitPattern: bytes.u16(8 * slot + 2)),
                imm: Int32(bitPattern: bytes.u32(8 * slot + 4))
            )
            slots.append(raw)
            let relocation = try object.relocation(function.section, slot, &next)
            if isSecond {
                isSecond = false
            } else {
                isSecond = raw.code == Self.wideCode
                if raw.code == Self.callCode, raw.src == 1 || relocation != nil {
                    try direct(raw, relocation, function, slot)
                    continue
                }
            }
            if let relocation { throw refused(relocation, function, slot) }
        }
    }

    /// Makes the call that was appended last go to its function.
    private mutating func direct(
        _ raw: RawInstruction,
        _ relocation: ELFRelocation?,
        _ function: ELFFunction,
        _ slot: Int
    ) throws(EmbeddingError) {
        var section = function.section
        // Without a relocation the assembler has resolved a call inside of the section.
        var target = slot + 1 + Int(raw.imm)
        if let relocation {
            guard relocation.type == Self.callType, let symbol = object.symbol(relocation.symbol) else {
                throw refused(relocation, function, slot)
            }
            guard symbol.section != 0, symbol.section < object.sections.count, symbol.value % 8 == 0,
                symbol.value <= UInt64(Int32.max)
            else { throw .calls(object.name(of: symbol), object.name(of: function), slot - function.start) }
            section = symbol.section
            // -1 in the immediate stands for the symbol itself.
            target = Int(symbol.value / 8) + Int(raw.imm) + 1
        }
        let at = slots.count - 1
        slots[at].registers = 1 << 4
        if section == function.section, (function.start..<function.end).contains(target) {
            slots[at].imm = Int32(truncatingIfNeeded: target - slot - 1)
            return
        }
        guard let callee = object.function(section, at: target) else {
            throw .callsNoFunction(object.name(of: function), slot - function.start)
        }
        place(callee)
        calls.append((at, callee))
    }

    private func refused(_ relocation: ELFRelocation, _ function: ELFFunction, _ slot: Int) -> EmbeddingError {
        let place = slot - function.start
        guard relocation.type == Self.addressType, let symbol = object.symbol(relocation.symbol) else {
            return .relocation(relocation.type, object.name(of: function), place)
        }
        return .takesAddress(object.name(of: symbol), object.name(of: function), place)
    }
}
