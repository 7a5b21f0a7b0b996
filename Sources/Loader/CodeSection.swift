internal import ISA

/// A function of the object: a range of slots of a section.
struct CodeFunction: Hashable {
    var section: Int
    var name: String
    var start: Int
    var end: Int
    var isLocal: Bool
    var isHidden = false
}

/// A section of code with its functions and relocations.
struct CodeSection {
    var name: String
    var index: Int
    var slots: [RawInstruction]
    /// By start, without overlaps.
    var functions: [CodeFunction]
    /// Relocations by slot.
    var relocations: [Int: ELFRelocation]

    init(_ section: ELFSection, _ file: ELFFile) throws(LoaderError) {
        name = section.name
        index = section.index
        guard section.size % 8 == 0 else {
            throw .badInstruction("section '\(name)'", "the code ends inside an 8-byte slot")
        }
        slots = RawInstruction.slots(section.bytes)
        functions = []
        relocations = [:]
        try readFunctions(file)
        for relocation in file.relocations[index] ?? [] {
            let place = "section '\(name)', offset \(relocation.offset)"
            guard relocation.offset % 8 == 0, relocation.offset / 8 < UInt64(slots.count) else {
                throw .badRelocation(place, "it is not at the start of an instruction")
            }
            if relocations.updateValue(relocation, forKey: Int(relocation.offset / 8)) != nil {
                throw .badRelocation(place, "it is the second one for the same instruction")
            }
        }
    }

    private mutating func readFunctions(_ file: ELFFile) throws(LoaderError) {
        for symbol in file.symbols where symbol.section == index && symbol.kind == .function {
            let place = "function '\(symbol.name)' in section '\(name)'"
            let (end, overflow) = symbol.value.addingReportingOverflow(symbol.size)
            guard !overflow, end <= UInt64(slots.count) * 8, symbol.value < UInt64(slots.count) * 8 else {
                throw .malformed(place, "it lies outside of its section")
            }
            guard symbol.value % 8 == 0, symbol.size % 8 == 0 else {
                throw .malformed(place, "it does not start and end with instructions")
            }
            functions.append(
                CodeFunction(
                    section: index,
                    name: symbol.name,
                    start: Int(symbol.value / 8),
                    end: Int(end / 8),
                    isLocal: symbol.isLocal,
                    isHidden: symbol.isHidden
                )
            )
        }
        functions.sort { ($0.start, $0.end, $0.name) < ($1.start, $1.end, $1.name) }
        for position in functions.indices {
            let next = position + 1 < functions.count ? functions[position + 1].start : slots.count
            // Assembler without `.size`.
            if functions[position].end == functions[position].start { functions[position].end = next }
            guard functions[position].end > functions[position].start, functions[position].end <= next else {
                throw .malformed(
                    "function '\(functions[position].name)' in section '\(name)'",
                    "it overlaps the next function"
                )
            }
        }
    }

    /// The function that starts at a slot.
    func function(at slot: Int) -> CodeFunction? {
        var low = 0
        var high = functions.count
        while low < high {
            let middle = (low + high) / 2
            if functions[middle].start < slot { low = middle + 1 } else { high = middle }
        }
        return low < functions.count && functions[low].start == slot ? functions[low] : nil
    }
}
