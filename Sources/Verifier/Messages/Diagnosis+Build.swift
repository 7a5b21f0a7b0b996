import ISA

extension Diagnosis {
    /// Explains an error of `verify(subject)`.
    ///
    /// - Parameter lines: source lines by rising instruction; each goes on to the next.
    package init(_ error: VerifierError, in subject: Subject, program: String, lines: [SourceLine] = []) {
        let builder = DiagnosisBuilder(error, subject, lines)
        let text = error.rule.text
        rule = error.rule
        headline = text.headline
        category = text.category
        what = error.what
        self.program = program
        function = subject.functions.last { $0.start <= error.instruction }?.name ?? program
        primary = builder.place(error.instruction, error.what)
        secondary = builder.secondary
        causalPath = builder.causalPath
        suggestion = builder.suggestion
        kernel = builder.kernelWording
    }
}

/// What a diagnosis is made from.
struct DiagnosisBuilder {
    let error: VerifierError
    let subject: Subject
    let steps: [ValueTrace.Step]
    private let lines: [SourceLine]
    private let layout: SlotMap
    private let disassembler: Disassembler

    init(_ error: VerifierError, _ subject: Subject, _ lines: [SourceLine]) {
        self.error = error
        self.subject = subject
        self.lines = lines
        layout = SlotMap(subject.instructions)
        let names = subject.maps.map(\.name)
        disassembler = Disassembler { names.indices.contains(Int($0)) ? names[Int($0)] : nil }
        steps = error.register.map { ValueTrace(subject, path: error.path).steps(to: $0) } ?? []
    }

    /// The instruction that is refused; nil where there is none.
    var instruction: Instruction? {
        subject.instructions.indices.contains(error.instruction) ? subject.instructions[error.instruction] : nil
    }

    /// The helper that the instruction calls.
    var helper: Helper? { instruction.flatMap(helper) }

    func helper(_ instruction: Instruction) -> Helper? {
        Helper(calledBy: instruction)
    }

    func place(_ instruction: Int, _ label: String) -> Diagnosis.Place {
        Diagnosis.Place(
            instruction: instruction,
            slot: layout.slots.indices.contains(instruction) ? layout.slots[instruction] : 0,
            code: code(instruction),
            source: source(instruction),
            label: label
        )
    }

    func code(_ index: Int) -> String {
        subject.instructions.indices.contains(index) ? disassembler.text(subject.instructions[index]) : ""
    }

    func source(_ index: Int) -> SourceLine? {
        let start = subject.functions.last { $0.start <= index }?.start ?? 0
        return lines.last { $0.instruction <= index && $0.instruction >= start }
    }

    /// "line 12", or "insn 7" without source.
    func position(_ index: Int) -> String {
        source(index).map { "line \($0.line)" }
            ?? "insn \(layout.slots.indices.contains(index) ? layout.slots[index] : index)"
    }

    // MARK: - Other places

    /// Where the value was made, and where it was last computed.
    var secondary: [Diagnosis.Place] {
        var places: [Diagnosis.Place] = []
        if let origin = error.origin, origin != error.instruction {
            places.append(place(origin, "taken here"))
        }
        guard let register = error.register else { return places }
        if let change = steps.last(where: { $0.kind == .changed }) {
            places.append(place(change.instruction, "r\(change.register.rawValue) was computed here"))
        }
        if let first = steps.first, let label = originLabel(first, register) {
            places.insert(place(first.instruction, label), at: 0)
        }
        places += amount
        if let release { places.append(place(release, "given back here")) }
        if error.rule == .uninitialized, steps.isEmpty, let decision = lastDecision {
            let way = decision.taken ? "taken" : "not taken"
            places.append(
                place(decision.instruction, "where this jump is \(way), r\(register.rawValue) is never written")
            )
        }
        var seen: Set<Int> = [error.instruction]
        let here = source(error.instruction)
        return places.filter { place in
            // A place that reads like the offending one says nothing new.
            let isHere = here != nil && place.source?.line == here?.line && place.source?.column == here?.column
            return !isHere && seen.insert(place.instruction).inserted
        }
    }

    /// The call that gave back what the register pointed to: a number now, though it was made as a pointer.
    var release: Int? {
        guard error.kernelType == "scalar", let first = steps.first, first.kind == .called,
            let made = path(of: first.instruction), let maker = helper(subject.instructions[first.instruction]),
            let prototype = HelperPrototype.of(maker, for: subject.type), givesReference(prototype)
        else { return nil }
        return error.path[made...].first { index in
            helper(subject.instructions[index]).flatMap { HelperPrototype.of($0, for: subject.type) }?.releasesArgument
                ?? false
        }
    }

    private func givesReference(_ prototype: HelperPrototype) -> Bool {
        switch prototype.result {
        case .ringRecordOrNull, .dynptrMemoryOrNull, .iteratorElement, .kernelObject(_, _, isReference: true): true
        case .scalar, .range, .void, .mapValueOrNull, .mapValue, .kernelObject, .atMostSize: false
        }
    }

    /// Where an instruction is on the path, the last time.
    private func path(of instruction: Int) -> Int? { error.path.lastIndex(of: instruction) }

    /// The last condition on the path.
    private var lastDecision: (instruction: Int, taken: Bool)? {
        for index in error.path.indices.dropLast().reversed() {
            guard case .conditionalJump = subject.instructions[error.path[index]].opcode.shape else { continue }
            return (error.path[index], error.path[index + 1] != error.path[index] + 1)
        }
        return nil
    }

    /// Where the number that a pointer was moved by was made, and where it was last compared.
    private var amount: [Diagnosis.Place] {
        let change = steps.last { $0.kind == .changed }?.instruction ?? error.instruction
        guard subject.instructions.indices.contains(change),
            case .arithmetic(let op, _, .reg) = subject.instructions[change].opcode.shape, op == .add || op == .sub,
            let position = path(of: change)
        else { return [] }
        let isSource = change == error.instruction && error.register == subject.instructions[change].src
        let register = isSource ? subject.instructions[change].dst : subject.instructions[change].src
        var places: [Diagnosis.Place] = []
        let trace = ValueTrace(subject, path: Array(error.path[...position])).steps(to: register)
        if let first = trace.first, first.kind == .made || first.kind == .called {
            places.append(place(first.instruction, "the number added, r\(register.rawValue), comes from here"))
        }
        let compared = error.path[..<position].last { index in
            let instruction = subject.instructions[index]
            guard case .conditionalJump = instruction.opcode.shape else { return false }
            return instruction.dst == register
        }
        // Compilers join conditions: the line may be the one before, so the instruction is said too.
        if let compared {
            places.append(place(compared, "r\(register.rawValue) was compared here: \(code(compared))"))
        }
        return places
    }

    private func originLabel(_ step: ValueTrace.Step, _ register: Register) -> String? {
        let name = "r\(step.register.rawValue)"
        let isSame = !steps.contains { $0.kind == .changed }
        let value = isSame && release == nil ? error.value.map { ": \($0)" } ?? "" : ""
        switch step.kind {
        case .called, .made: return "\(name) was made here\(value)"
        case .lost: return "this call leaves no value in \(name); calls keep r6 to r9 only"
        case .saved: return "the value was stored here"
        case .passed: return "\(name) was passed here\(value)"
        case .moved: return "\(name) was copied here from r\(subject.instructions[step.instruction].src.rawValue)"
        case .changed, .restored: return nil
        }
    }

    // MARK: - How it came to that

    var causalPath: [String] {
        var entries: [(position: Int, text: String)] = []
        let path = error.path
        func last(_ instruction: Int) -> Int { path.lastIndex(of: instruction) ?? 0 }
        for step in steps.suffix(8) { entries.append((last(step.instruction), describe(step))) }
        if let origin = error.origin { entries.append((last(origin), "\(position(origin)): \(code(origin)) took it")) }
        let from = entries.map(\.position).max() ?? 0
        // Decisions say why the path is one of those where it goes wrong.
        var decisions: [(position: Int, text: String, count: Int)] = []
        for index in path.indices.dropLast() where index >= from || showsAllDecisions {
            guard case .conditionalJump = subject.instructions[path[index]].opcode.shape else { continue }
            let taken = path[index + 1] != path[index] + 1
            let text = "\(position(path[index])): \(code(path[index])) was \(taken ? "taken" : "not taken")"
            if let last = decisions.last, last.text == text {
                decisions[decisions.count - 1].count += 1
            } else {
                decisions.append((index, text, 1))
            }
        }
        entries += decisions.suffix(6).map { ($0.position, $0.count > 1 ? "\($0.text), again and again" : $0.text) }
        entries.sort { $0.position < $1.position }
        return entries.map(\.text)
    }

    /// Rules that are broken on some paths only, for want of an instruction elsewhere.
    private var showsAllDecisions: Bool {
        switch error.rule {
        case .uninitialized, .uninitializedStack, .unreleased, .endlessLoop: true
        default: false
        }
    }

    private func describe(_ step: ValueTrace.Step) -> String {
        let prefix = "\(position(step.instruction)): \(code(step.instruction))"
        let name = "r\(step.register.rawValue)"
        return switch step.kind {
        case .made, .called: "\(prefix) makes \(name)"
        case .lost: "\(prefix) leaves nothing in \(name)"
        case .moved: "\(prefix) copies it to \(name)"
        case .changed: "\(prefix) changes \(name)"
        case .restored: "\(prefix) loads it to \(name)"
        case .saved: "\(prefix) stores it"
        case .passed: "\(prefix) passes \(name)"
        }
    }

    // MARK: - The kernel's words

    var kernelWording: String? {
        let register = error.register.map { "R\($0.rawValue)" } ?? "R0"
        let shape = instruction?.opcode.shape
        switch (error.rule, error.detail) {
        case (.controlFlow, _):
            return error.instruction == subject.instructions.count - 1 && !isJump ? error.rule.text.kernel : nil
        case (.nullPointer, _):
            guard let type = error.kernelType, !type.hasPrefix("ptr_") else { return nil }
            guard case .arithmetic? = shape else { break }
            return "\(register) pointer arithmetic on \(type) prohibited, null-check it first"
        case (.misaligned, _):
            return switch error.kernelType {
            case "fp"?: "misaligned stack access off …"
            case "ctx"?: "misaligned context access off …"
            case "map_value"?: "misaligned value access off …"
            case "pkt"?: "misaligned packet access off …"
            default: nil
            }
        case (.corruptedPointer, _):
            switch shape {
            case .load?: return "invalid size of register fill"
            case .exit?: return "cannot return stack pointer to the caller"
            default: return nil
            }
        case (.badOperation, _):
            guard case .arithmetic? = shape else { return nil }
        case (.readOnly, _):
            guard error.kernelType == "map_value" else { return nil }
        case (.unreleased, _):
            guard case .exit? = shape else { return nil }
        case (.outOfBounds, .bounds(let offsets, _, _)) where offsets.upperBound >= 1 << 29:
            return "\(register) unbounded memory access, make sure to bounds check any such access"
        case (.outOfBounds, .bounds(let offsets, let size, let limit)):
            guard offsets.lowerBound == offsets.upperBound else {
                return offsets.lowerBound < 0
                    ? "\(register) min value is negative, either use unsigned index or do a if (index >=0) check."
                    : "\(register) max value is outside of the allowed memory range"
            }
            let isMap = error.kernelType == "map_value"
            return "invalid access to \(isMap ? "map value, value" : "memory, mem")_size=\(limit) "
                + "off=\(offsets.lowerBound) size=\(size)"
        case (.contextAccess, .context(let offset, let size, _)):
            return "invalid bpf_context access off=\(offset) size=\(size)"
        case (.packetBounds, .packet): return "\(register) offset is outside of the packet"
        case (.argumentSize, .size(.zero)): return "\(register) invalid zero-sized read"
        case (.argumentSize, .size(.unbounded)):
            return "\(register) unbounded memory access, use 'var &= const' or 'if (var < const)'"
        case (.unavailableHelper, _):
            guard subject.platform == .kernel, let helper else { return nil }
            return "program of this type cannot use helper \(helper.name)#\(helper.rawValue)"
        case (.leak, _): return instruction?.opcode == .exit ? "\(register) leaks addr as return value" : nil
        // Since 6.13 some types have a stack for each function, and nothing to complain of.
        case (.stackTooDeep, _): return nil
        case (.stackBounds, _): return "invalid \(isWrite ? "write to" : "read from") stack \(register) off=…"
        case (.mapType, _):
            switch helper {
            // Rings have no keys, and that is what is said first.
            case .mapLookupElem?, .mapUpdateElem?, .mapDeleteElem?, nil: return nil
            default: return "cannot pass map_type … into func …"
            }
        case (.argument, _): return argumentWording(register)
        case (.pointerArithmetic, _): return arithmeticWording(register)
        case (.unknownHelper, _): return instruction.map { "invalid func unknown#\($0.imm)" }
        default: break
        }
        // The kernel's task has the field.
        if instruction?.imm == Helper.poisonedField { return nil }
        guard var text = error.rule.text.kernel else { return nil }
        if text.contains("{R}") {
            guard error.register != nil else { return nil }
            text.replace("{R}", with: register)
        }
        if text.contains("{T}") {
            guard let type = error.kernelType else { return nil }
            text.replace("{T}", with: type)
        }
        text.replace("{I}", with: "\(error.slot)")
        return text
    }
    private var isJump: Bool {
        switch instruction?.opcode.shape {
        case .jump?, .conditionalJump?, .mayGoto?, .call?: true
        default: false
        }
    }

    /// The instruction, or the helper through the argument at hand, writes memory.
    private var isWrite: Bool {
        guard let instruction else { return false }
        if case .store = instruction.opcode.shape { return true }
        guard let helper, let number = error.register?.rawValue, (1...5).contains(number) else { return false }
        switch HelperPrototype.of(helper, for: subject.type)?.arguments[Int(number) - 1] {
        case .memory(isOut: true, _)?, .fixedMemory(_, isOut: true, _)?, .mapValueOut?, .updatedMemory?: return true
        default: return false
        }
    }

    private func argumentWording(_ register: String) -> String? {
        guard let helper, let type = error.kernelType, let number = error.register?.rawValue, (1...5).contains(number)
        else { return nil }
        switch HelperPrototype.of(helper, for: subject.type)?.arguments[Int(number) - 1] {
        case .allocationSize?, .constant?: return "\(register) is not a known constant"
        case .iterator(let isNew)?:
            return "expected \(isNew ? "uninitialized" : "an initialized") iter_num as arg #\(number - 1)"
        case .number?: return "\(register) is not a scalar"
        case .dynptr?, .constantString?, .spinLock?, .timer?, .kernelObject?, .unsupported?, .unused?, .anything?, nil:
            return nil
        case .map?, .mapKey?, .mapValue?, .mapValueOrNull?, .mapValueOut?, .memory?, .updatedMemory?, .fixedMemory?,
            .size?, .ringRecord?, .context?, .contextOrNull?, .callback?, .callbackContext?:
            return "\(register) type=\(type) expected=…"
        }
    }

    private func arithmeticWording(_ register: String) -> String? {
        guard let instruction, let type = error.kernelType,
            case .arithmetic(let op, let width, let operand) = instruction.opcode.shape
        else { return nil }
        if width == .w32 { return "\(register) 32-bit pointer arithmetic prohibited" }
        guard op == .add || op == .sub else {
            // `r1 *= 8`: the operator as the log writes it.
            let words = error.text.split(separator: " ")
            return words.count == 3 ? "\(register) pointer arithmetic with \(words[1]) operator prohibited" : nil
        }
        switch type {
        case "map_ptr", "pkt_end", "func": return "\(register) pointer arithmetic on \(type) prohibited"
        default: break
        }
        return operand == .reg && error.what.contains("least number")
            ? "math between \(type) pointer and register with unbounded min value is not allowed" : nil
    }
}
