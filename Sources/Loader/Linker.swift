internal import ISA

/// What symbols of the object stand for in a linked program.
struct SymbolTable {
    var file: ELFFile
    var code: [Int: CodeSection]
    /// Declared maps by their offset in `.maps`.
    var maps: [UInt64: Int]
    var mapsSection: Int?
    /// Maps of global data by section index.
    var data: [Int: Int]
    /// Index and offsets of the `.kconfig` map.
    var configuration: Int?
    var configurationOffsets: [String: Int]
    var externs: [String: Int]
    var externSpecs: [ExternSpec]
}

/// A program with its subprograms behind it, calls and references resolved, still encoded.
struct LinkedProgram {
    var slots: [RawInstruction] = []
    /// Functions with their first slots in the program.
    var functions: [(function: CodeFunction, start: Int)] = []
    var problems: [LoaderError] = []
}

/// Puts one program and all functions that it reaches together, each function once (libbpf
/// `bpf_object__reloc_code`).
struct Linker {
    private let symbols: SymbolTable
    private var program = LinkedProgram()
    /// Positions in `program.functions`.
    private var placed: [CodeFunction: Int] = [:]
    /// Slots whose immediate becomes the distance to a function.
    private var references: [(slot: Int, function: Int)] = []

    private init(_ symbols: SymbolTable) { self.symbols = symbols }

    static func link(_ entry: CodeFunction, _ symbols: SymbolTable) throws(LoaderError) -> LinkedProgram {
        var linker = Linker(symbols)
        _ = linker.place(entry)
        var next = 0
        while next < linker.program.functions.count {
            try linker.append(next)
            next += 1
        }
        for reference in linker.references {
            let distance = linker.program.functions[reference.function].start - reference.slot - 1
            linker.program.slots[reference.slot].imm = Int32(truncatingIfNeeded: distance)
        }
        return linker.program
    }

    private mutating func place(_ function: CodeFunction) -> Int {
        if let position = placed[function] { return position }
        placed[function] = program.functions.count
        program.functions.append((function, 0))
        return program.functions.count - 1
    }

    private mutating func append(_ position: Int) throws(LoaderError) {
        let function = program.functions[position].function
        guard let section = symbols.code[function.section] else { return }
        let base = program.slots.count
        program.functions[position].start = base
        program.slots += section.slots[function.start..<function.end]
        var slot = function.start
        while slot < function.end {
            let raw = section.slots[slot]
            let at = Site(section: section, function: function, slot: slot, linked: base + slot - function.start)
            let relocation = section.relocations[slot]
            switch raw.code {
            case Code.wide:
                guard slot + 1 < function.end else {
                    throw .badInstruction(at.place, "the second slot of a 64-bit immediate is missing")
                }
                if let relocation {
                    try relocateWide(at, raw, relocation)
                } else if raw.src != 0 {
                    throw .badInstruction(at.place, "it refers to a map, function or variable without a relocation")
                }
                slot += 2
                continue
            case Code.call where raw.src == 1 || relocation != nil:
                try relocateCall(at, raw, relocation)
            default:
                if let relocation {
                    throw .unsupportedRelocation(
                        at.place,
                        "type \(relocation.type) on opcode \(raw.code)",
                        help: "compile with clang 14 or newer"
                    )
                }
            }
            slot += 1
        }
    }

    // MARK: Calls

    private mutating func relocateCall(_ at: Site, _ raw: RawInstruction, _ relocation: ELFRelocation?)
        throws(LoaderError)
    {
        guard let relocation else {
            // The assembler has resolved calls inside of a section.
            return try call(at, at.section, at.slot + 1 + Int(raw.imm))
        }
        guard relocation.type == RelocationType.call else { throw unsupported(at, relocation) }
        let symbol = symbols.file.symbols[relocation.symbol]
        if symbol.isUndefined { return try callExtern(at, symbol) }
        guard let section = symbol.section.flatMap({ symbols.code[$0] }) else {
            throw .badRelocation(at.place, "it calls '\(symbol.name)', which is no function")
        }
        guard symbol.value % 8 == 0, symbol.value / 8 < UInt64(section.slots.count) else {
            throw .badRelocation(at.place, "it calls '\(symbol.name)', which is not at the start of an instruction")
        }
        // -1 in the immediate stands for the symbol itself.
        try call(at, section, Int(symbol.value / 8) + Int(raw.imm) + 1)
    }

    private mutating func call(_ at: Site, _ section: CodeSection, _ slot: Int) throws(LoaderError) {
        guard let callee = section.function(at: slot) else {
            throw .badRelocation(
                at.place,
                "it calls slot \(slot) of section '\(section.name)', where no function starts"
            )
        }
        references.append((at.linked, place(callee)))
        program.slots[at.linked].registers = 1 << 4
    }

    private mutating func callExtern(_ at: Site, _ symbol: ELFSymbol) throws(LoaderError) {
        let index = symbols.externs[symbol.name]
        let function = index.flatMap { _ in kernelFunction(symbol.name) }
        if function == nil, index == nil || !symbol.isWeak {
            program.problems.append(
                .unresolvedSymbol(at.place, symbol.name, "a kernel function", isDeclared: index != nil)
            )
        }
        program.slots[at.linked] = RawInstruction(
            code: Code.call,
            registers: 2 << 4,
            offset: 0,
            imm: function.map { Int32($0.rawValue) } ?? -1 - Int32(truncatingIfNeeded: index ?? -1)
        )
    }

    /// The kernel function of this name that this runtime has.
    private func kernelFunction(_ name: String) -> Helper? {
        Helper.allCases.last { $0.isKernelFunction && $0.name == name }
    }

    // MARK: 64-bit immediates

    private mutating func relocateWide(_ at: Site, _ raw: RawInstruction, _ relocation: ELFRelocation)
        throws(LoaderError)
    {
        guard relocation.type == RelocationType.wide else { throw unsupported(at, relocation) }
        let symbol = symbols.file.symbols[relocation.symbol]
        if symbol.isUndefined { return wideExtern(at, symbol) }
        guard let index = symbol.section else {
            throw .badRelocation(at.place, "it refers to '\(symbol.name)', which is in no section")
        }
        let (offset, overflow) = Int64(truncatingIfNeeded: symbol.value).addingReportingOverflow(Int64(raw.imm))
        guard !overflow, offset >= 0 else {
            throw .badRelocation(at.place, "it refers to what lies in front of a section")
        }
        if index == symbols.mapsSection {
            guard let map = symbols.maps[UInt64(offset)] else {
                throw .badRelocation(at.place, "it refers to offset \(offset) of '.maps', where no map starts")
            }
            set(at, .map, map, 0)
        } else if let map = symbols.data[index] {
            let size = symbols.file.sections[index].size
            guard offset <= size else {
                throw .badRelocation(at.place, "it refers to offset \(offset) of a section of \(size) bytes")
            }
            set(at, .mapValue, map, Int(offset))
        } else if let section = symbols.code[index] {
            guard offset % 8 == 0, let function = section.function(at: Int(offset / 8)) else {
                throw .badRelocation(at.place, "it takes the address of something that is no function")
            }
            set(at, .function, 0, 0)
            references.append((at.linked, place(function)))
        } else {
            let section = symbols.file.sections[index].name
            throw .unsupportedRelocation(
                at.place,
                "it refers to section '\(section)', which is neither data, maps nor code",
                help: "put global variables into .data, .bss or .rodata"
            )
        }
    }

    private mutating func wideExtern(_ at: Site, _ symbol: ELFSymbol) {
        if let map = symbols.configuration, let offset = symbols.configurationOffsets[symbol.name] {
            return set(at, .mapValue, map, offset)
        }
        let index = symbols.externs[symbol.name]
        // Programs only ask whether a function is there (`bpf_ksym_exists`); anything but 0 says so.
        if index != nil, kernelFunction(symbol.name) != nil { return set(at, .value, 1, 0) }
        // What may be missing is NULL, as in libbpf, so that code behind the question is dead.
        if index != nil, symbol.isWeak { return set(at, .value, 0, 0) }
        let isFunction = index.map { symbols.externSpecs[$0].isFunction } ?? false
        let what = isFunction ? "a kernel function" : "a kernel variable"
        program.problems.append(.unresolvedSymbol(at.place, symbol.name, what, isDeclared: index != nil))
        set(at, .variable, index ?? -1, 0)
    }

    private mutating func set(_ at: Site, _ kind: WideKind, _ low: Int, _ high: Int) {
        program.slots[at.linked].registers = program.slots[at.linked].dst | kind.rawValue << 4
        program.slots[at.linked].imm = Int32(truncatingIfNeeded: low)
        program.slots[at.linked + 1].imm = Int32(truncatingIfNeeded: high)
    }

    private func unsupported(_ at: Site, _ relocation: ELFRelocation) -> LoaderError {
        .unsupportedRelocation(
            at.place,
            "type \(relocation.type) (\(RelocationType.name(relocation.type))) in code",
            help: "compile with clang 14 or newer"
        )
    }
}

/// An instruction that is being linked.
private struct Site {
    var section: CodeSection
    var function: CodeFunction
    /// Slot in its section.
    var slot: Int
    /// Slot in the linked program.
    var linked: Int

    var place: String { "\(function.name)+\(slot - function.start) in section '\(section.name)'" }
}

private enum Code {
    static let wide: UInt8 = 0x18
    static let call: UInt8 = 0x85
}

/// `R_BPF_*` (LLVM `ELFRelocs/BPF.def`).
enum RelocationType {
    static let wide: UInt32 = 1
    static let absolute64: UInt32 = 2
    static let call: UInt32 = 10

    static func name(_ type: UInt32) -> String {
        switch type {
        case 0: "R_BPF_NONE"
        case wide: "R_BPF_64_64"
        case absolute64: "R_BPF_64_ABS64"
        case 3: "R_BPF_64_ABS32"
        case 4: "R_BPF_64_NODYLD32"
        case call: "R_BPF_64_32"
        default: "unknown"
        }
    }
}
