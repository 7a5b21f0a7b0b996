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
    ///   - isInProcess: of tasks only the fields of `TaskField` are there.
    package func relocated(local: BTF, target: BTF, isInProcess: Bool = false) throws(LoaderError) -> ProgramSpec {
        var result = self
        let relocator = CoreRelocator(types: CoreTypes(local: local, target: target), isInProcess: isInProcess)
        var poison = [Int64](repeating: 0, count: instructions.count)
        for relocation in relocations {
            let place = "program '\(name)', insn \(relocation.instruction)"
            guard instructions.indices.contains(relocation.instruction) else {
                throw .badCoreRelocation(place, "there is no such instruction")
            }
            do throws(CoreProblem) {
                let answer = try relocator.answer(relocation)
                if try !result.instructions[relocation.instruction].patch(answer, local, target) {
                    poison[relocation.instruction] = answer.isHidden ? Helper.poisonedField : Helper.poisoned
                }
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
        return result
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

private struct CoreRelocator {
    let types: CoreTypes
    let isInProcess: Bool

    init(types: CoreTypes, isInProcess: Bool) {
        self.types = types
        self.isInProcess = isInProcess
    }

    /// libbpf `bpf_core_calc_relo_insn`.
    func answer(_ relocation: CoreRelocation) throws(CoreProblem) -> CoreAnswer {
        guard let kind = CoreRelocation.Kind(rawValue: relocation.kind) else {
            throw .malformed("kind \(relocation.kind) is not known")
        }
        let spec = try CoreSpec(relocation, kind, types.local)
        let original = try spec.value(kind, types.local)
        if kind == .localTypeID { return CoreAnswer(original: original, target: original) }
        guard let root = types.local[relocation.type], root.nameOffset != 0 else {
            throw .malformed("type \(relocation.type) is anonymous")
        }
        var result: (bitOffset: Int, answer: CoreAnswer)?
        let name = types.local.range(root.nameOffset)
        let essential = name.prefix(essentialLength(types.local.bytes, name))
        let text = String(decoding: types.local.bytes[essential], as: UTF8.self)
        for id in types.target.types(essentiallyNamed: text) {
            guard let candidate = types.target[id], types.haveSameKind(root, candidate) else { continue }
            guard let match = try spec.match(kind, types, target: id) else { continue }
            let answer = CoreAnswer(original: original, target: try match.value(kind, types.target))
            if let known = result {
                // The types behind a field may differ as long as its place does not.
                guard match.bitOffset == known.bitOffset, answer.target?.value == known.answer.target?.value else {
                    throw .ambiguous
                }
            } else {
                result = (match.bitOffset, answer)
            }
        }
        if isInProcess, kind.subject == .field, text == "task_struct", !isTaskField(spec) {
            return CoreAnswer(original: original, target: CoreSpec.missing(kind), isHidden: true)
        }
        return result?.answer ?? CoreAnswer(original: original, target: CoreSpec.missing(kind))
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
