internal import ISA

extension ProgramSpec {
    /// The program with its CO-RE relocations applied: what asks for fields, types and enumerators of the machine that
    /// the object was compiled for gets those of the target.
    ///
    /// Instructions that ask for what the target does not have are poisoned, as by libbpf: they become calls of an
    /// unknown helper, which only matters where they can be reached.
    ///
    /// - Parameters:
    ///   - local: the object's types (`ObjectSpec.btf`).
    ///   - target: the kernel's types, or `BTF.builtin`.
    ///   - modules: the kernel's types with those of each module that may have a type of a name; asked where `target`
    ///     has none.
    ///   - isInProcess: of tasks only the fields of `TaskField` are there.
    package func relocated(
        local: BTF,
        target: BTF,
        modules: (String) -> [BTF] = { _ in [] },
        isInProcess: Bool = false
    ) throws(LoaderError) -> ProgramSpec {
        try relocating(local, target, modules, isInProcess).program
    }

    /// What each relocation asks for, and what it becomes with the types of `target`.
    package func resolutions(
        local: BTF,
        target: BTF,
        modules: (String) -> [BTF] = { _ in [] },
        isInProcess: Bool = false
    ) throws(LoaderError) -> [CoreResolution] {
        try relocating(local, target, modules, isInProcess).resolutions
    }

    private func relocating(
        _ local: BTF,
        _ target: BTF,
        _ modules: (String) -> [BTF],
        _ isInProcess: Bool
    ) throws(LoaderError) -> (program: ProgramSpec, resolutions: [CoreResolution]) {
        var result = self
        var resolutions: [CoreResolution] = []
        var poison = [Int64](repeating: 0, count: instructions.count)
        for relocation in relocations {
            let place = "program '\(name)', insn \(relocation.instruction)"
            guard instructions.indices.contains(relocation.instruction) else {
                throw .badCoreRelocation(place, "there is no such instruction")
            }
            do throws(CoreProblem) {
                var relocator = CoreRelocator(CoreTypes(local: local, target: target), isInProcess)
                let question = try CoreQuestion(relocation, local)
                let answer = try relocator.answer(question, modules)
                let isPatched = try result.instructions[relocation.instruction].patch(answer, local, relocator.target)
                if !isPatched {
                    poison[relocation.instruction] = answer.isHidden ? Helper.poisonedField : Helper.poisoned
                }
                resolutions.append(
                    CoreResolution(
                        instruction: relocation.instruction,
                        kind: question.kind,
                        subject: question.subject,
                        original: answer.original.value,
                        value: isPatched ? answer.target?.value : nil
                    )
                )
            } catch {
                switch error {
                case .malformed(let why): throw .badCoreRelocation(place, why)
                case .ambiguous:
                    throw .ambiguousCoreRelocation(place, local[relocation.type].map { local.name($0) } ?? "?")
                }
            }
        }
        result.relocations = []
        result.apply(poison)
        return (result, resolutions)
    }

    /// Replaces instructions by calls of a helper that does not exist; two-slot ones by two, so that no jump moves.
    private mutating func apply(_ poison: [Int64]) {
        guard poison.contains(where: { $0 != 0 }) else { return }
        // New index of each old instruction.
        var moved: [Int] = []
        var patched: [Instruction] = []
        for (index, instruction) in instructions.enumerated() {
            moved.append(patched.count)
            if poison[index] != 0 {
                for _ in 0..<instruction.slots { patched.append(Instruction(.callHelper, imm: poison[index])) }
            } else {
                patched.append(instruction)
            }
        }
        instructions = patched
        for index in functions.indices { functions[index].start = moved[functions[index].start] }
        for index in lines.indices { lines[index].instruction = moved[lines[index].instruction] }
    }
}

/// The value of a relocation in the object and in the target.
private struct CoreAnswer: Equatable {
    var original: CoreValue
    /// Nil if the target has no such thing.
    var target: CoreValue?
    /// The target has it, but programs do not.
    var isHidden = false
}

/// A relocation read with the object's types.
private struct CoreQuestion {
    let kind: CoreRelocation.Kind
    let spec: CoreSpec
    let root: BTFType
    /// Name of the root type, and the same without `___flavour`.
    let name: String
    let essentialName: String
    /// For people: `task_struct.pid`.
    let subject: String

    init(_ relocation: CoreRelocation, _ local: BTF) throws(CoreProblem) {
        guard let kind = CoreRelocation.Kind(rawValue: relocation.kind) else {
            throw .malformed("kind \(relocation.kind) is not known")
        }
        self.kind = kind
        spec = try CoreSpec(relocation, kind, local)
        guard let root = local[relocation.type] else { throw .malformed("type \(relocation.type) does not exist") }
        self.root = root
        let name = local.range(root.nameOffset)
        self.name = local.name(root)
        let essential = name.prefix(essentialLength(local.bytes, name))
        essentialName = String(decoding: local.bytes[essential], as: UTF8.self)
        subject = self.name + spec.path(local)
    }
}

private struct CoreRelocator {
    let types: CoreTypes
    let isInProcess: Bool
    /// The types that the last answer is from: those of the kernel, or with a module's.
    private(set) var target: BTF

    init(_ types: CoreTypes, _ isInProcess: Bool) {
        self.types = types
        self.isInProcess = isInProcess
        target = types.target
    }

    /// libbpf `bpf_core_calc_relo_insn`.
    mutating func answer(_ question: CoreQuestion, _ modules: (String) -> [BTF]) throws(CoreProblem) -> CoreAnswer {
        let (kind, spec) = (question.kind, question.spec)
        let original = try spec.value(kind, types.local)
        if kind == .localTypeID { return CoreAnswer(original: original, target: original) }
        guard question.root.nameOffset != 0 else { throw .malformed("type \(question.root.id) is anonymous") }
        if isInProcess, kind.subject == .field, question.essentialName == "task_struct", !isTaskField(spec) {
            return CoreAnswer(original: original, target: CoreSpec.missing(kind), isHidden: true)
        }
        var result: (bitOffset: Int, answer: CoreAnswer)?
        for (types, id) in candidates(question, modules) {
            guard let match = try spec.match(kind, types, target: id) else { continue }
            let answer = CoreAnswer(original: original, target: try match.value(kind, types.target))
            if let known = result {
                // The types behind a field may differ as long as its place does not.
                guard match.bitOffset == known.bitOffset, answer.target?.value == known.answer.target?.value else {
                    throw .ambiguous
                }
            } else {
                result = (match.bitOffset, answer)
                target = types.target
            }
        }
        return result?.answer ?? CoreAnswer(original: original, target: CoreSpec.missing(kind))
    }

    /// The types that may be meant: the kernel's own, else those of its modules (libbpf `bpf_core_find_cands`).
    private func candidates(_ question: CoreQuestion, _ modules: (String) -> [BTF]) -> [(types: CoreTypes, id: UInt32)]
    {
        let own = candidates(question, in: types, from: 0)
        if !own.isEmpty { return own }
        return modules(question.essentialName).flatMap { module in
            candidates(question, in: CoreTypes(local: types.local, target: module), from: UInt32(types.target.count))
        }
    }

    private func candidates(
        _ question: CoreQuestion,
        in types: CoreTypes,
        from first: UInt32
    ) -> [(types: CoreTypes, id: UInt32)] {
        func suitable(_ ids: [UInt32]) -> [(types: CoreTypes, id: UInt32)] {
            ids.compactMap { id in
                guard id >= first, let candidate = types.target[id], types.haveSameKind(question.root, candidate) else {
                    return nil
                }
                return (types, id)
            }
        }
        // Kernels have no flavours. Where an object's own types are the target, a flavour is another kernel's idea of the type
        // that is there, too.
        let plain = suitable(types.target.types(named: question.essentialName))
        return plain.isEmpty ? suitable(types.target.types(essentiallyNamed: question.essentialName)) : plain
    }

    /// Whether a path leads to a field of a task that programs in a process can read.
    private func isTaskField(_ spec: CoreSpec) -> Bool {
        guard let first = spec.accessors.first(where: { $0.name != 0 }) else { return false }
        return TaskField(rawValue: types.local.string(first.name)) != nil
    }
}

extension Instruction {
    /// Puts the answer into the field that the relocation is for (libbpf `bpf_core_patch_insn`); false asks for poison.
    fileprivate mutating func patch(_ answer: CoreAnswer, _ local: BTF, _ target: BTF) throws(CoreProblem) -> Bool {
        guard let new = answer.target else { return false }
        let old = answer.original
        switch opcode.shape {
        case .arithmetic(_, _, .imm):
            try check(imm == Int64(Int32(truncatingIfNeeded: old.value)), old)
            imm = Int64(Int32(truncatingIfNeeded: new.value))
        case .wide(.value):
            try check(UInt64(bitPattern: imm) == old.value, old)
            imm = Int64(bitPattern: new.value)
        case .load, .store, .atomic:
            try check(Int64(offset) == Int64(bitPattern: old.value), old)
            guard new.value <= UInt64(Int16.max) else { throw .malformed("the offset \(new.value) is too large") }
            if old.fieldSize != new.fieldSize, !mayResize(old, new, local, target) { return false }
            offset = Int32(new.value)
            if old.fieldSize != new.fieldSize { try resize(old.fieldSize, new.fieldSize) }
        case .arithmetic(_, _, .reg), .negate, .signExtend, .byteOrder, .wide, .packet, .jump, .conditionalJump,
            .mayGoto, .call, .exit:
            throw .malformed("the instruction has nothing to relocate")
        }
        return true
    }

    private func check(_ isExpected: Bool, _ old: CoreValue) throws(CoreProblem) {
        if old.isUnambiguous, !isExpected { throw .malformed("the instruction does not hold \(old.value)") }
    }

    /// Only pointers and unsigned integers keep their meaning when another number of bytes is loaded.
    private func mayResize(_ old: CoreValue, _ new: CoreValue, _ local: BTF, _ target: BTF) -> Bool {
        guard let a = local[old.fieldType], let b = target[new.fieldType] else { return false }
        if a.kind == .pointer, b.kind == .pointer { return true }
        return a.kind == .integer && b.kind == .integer && local.encoding(a) != 1 && target.encoding(b) != 1
    }

    private mutating func resize(_ old: Int, _ new: Int) throws(CoreProblem) {
        guard let size = Size.allCases.first(where: { $0.bytes == new }) else {
            throw .malformed("no access has \(new) bytes")
        }
        let shape: Shape
        switch opcode.shape {
        case .load(let current, let signed) where current.bytes == old: shape = .load(size, signed: signed)
        case .store(let current, let operand) where current.bytes == old: shape = .store(size, operand)
        case .atomic(let operation, let current) where current.bytes == old: shape = .atomic(operation, size)
        default: throw .malformed("the access does not have the field's \(old) bytes")
        }
        guard let resized = Opcode.allCases.first(where: { $0.shape == shape }) else {
            throw .malformed("no such access has \(new) bytes")
        }
        opcode = resized
    }
}
