/// Compares types of the object with types of the target (libbpf `relo_core.c`).
struct CoreTypes {
    var local: BTF
    var target: BTF

    /// A field of the target, perhaps inside of anonymous structs and unions.
    struct FoundMember {
        var accessor: CoreSpec.Accessor
        var type: UInt32
        var bitOffset: Int
    }

    /// libbpf allows 32 (`BPF_CORE_…` recursion limits).
    private static let depthLimit = 32

    // MARK: Names

    /// Whether two names are equal without their `___flavour`.
    func haveSameName(_ local: UInt32, _ target: UInt32) -> Bool {
        let ours = self.local.range(local)
        let theirs = self.target.range(target)
        let length = essentialLength(self.local.bytes, ours)
        guard length == essentialLength(self.target.bytes, theirs) else { return false }
        for index in 0..<length
        where self.local.bytes[ours.lowerBound + index] != self.target.bytes[theirs.lowerBound + index] {
            return false
        }
        return true
    }

    func haveSameKind(_ local: BTFType, _ target: BTFType) -> Bool {
        local.kind == target.kind || local.isEnumeration && target.isEnumeration
    }

    // MARK: Fields

    /// The field of `type` with the name that `step` has in the object, if their types agree.
    func findMember(_ step: CoreSpec.Accessor, in type: BTFType) throws(CoreProblem) -> FoundMember? {
        guard let owner = local[step.type], owner.isComposite, step.index < owner.count else {
            throw .malformed("type \(step.type) has no field \(step.index)")
        }
        var budget = 100_000
        return try findMember(local.member(owner, step.index), in: type, depth: Self.depthLimit, &budget)
    }

    private func findMember(
        _ wanted: BTF.Member,
        in type: BTFType,
        depth: Int,
        _ budget: inout Int
    ) throws(CoreProblem) -> FoundMember? {
        guard type.isComposite else { return nil }
        guard depth > 0 else { throw .malformed("structs of the target nest too deeply") }
        let name = local.range(wanted.nameOffset)
        for index in 0..<type.count {
            budget -= 1
            guard budget > 0 else { throw .malformed("structs of the target are too large") }
            let member = target.member(type, index)
            if member.nameOffset == 0 {
                guard let nested = target.underlying(member.type) else { continue }
                guard var found = try findMember(wanted, in: nested, depth: depth - 1, &budget) else { continue }
                found.bitOffset += member.bitOffset
                return found
            }
            // Fields have no flavours.
            let other = target.range(member.nameOffset)
            guard name.count == other.count, local.bytes[name] == target.bytes[other] else { continue }
            guard areFieldsCompatible(wanted.type, member.type) else { return nil }
            return FoundMember(
                accessor: CoreSpec.Accessor(type: type.id, index: index, name: member.nameOffset),
                type: member.type,
                bitOffset: member.bitOffset
            )
        }
        return nil
    }

    /// libbpf `bpf_core_fields_are_compat`.
    private func areFieldsCompatible(_ local: UInt32, _ target: UInt32) -> Bool {
        var local = local
        var target = target
        for _ in 0..<Self.depthLimit {
            guard let ours = self.local.underlying(local), let theirs = self.target.underlying(target) else {
                return false
            }
            if ours.isComposite, theirs.isComposite { return true }
            guard haveSameKind(ours, theirs) else { return false }
            switch ours.kind {
            case .pointer, .float: return true
            case .forward, .enumeration, .enum64:
                return ours.nameOffset == 0 || theirs.nameOffset == 0
                    || haveSameName(ours.nameOffset, theirs.nameOffset)
            case .integer: return self.local.integerOffset(ours) == 0 && self.target.integerOffset(theirs) == 0
            case .array:
                local = self.local.array(ours).element
                target = self.target.array(theirs).element
            case .void, .structure, .union, .typedef, .volatile, .const, .restrict, .function, .functionPrototype,
                .variable, .dataSection, .declTag, .typeTag:
                return false
            }
        }
        return false
    }

    // MARK: Whole types

    /// Whether types agree as far as `bpf_core_type_exists` cares (libbpf `bpf_core_types_are_compat`).
    func areCompatible(_ local: UInt32, _ target: UInt32) throws(CoreProblem) -> Bool {
        guard let ours = self.local[local], let theirs = self.target[target], haveSameKind(ours, theirs) else {
            return false
        }
        var budget = 10_000
        return try areCompatible(local, target, depth: Self.depthLimit, &budget)
    }

    private func areCompatible(
        _ local: UInt32,
        _ target: UInt32,
        depth: Int,
        _ budget: inout Int
    ) throws(CoreProblem) -> Bool {
        budget -= 1
        guard depth > 0, budget > 0, let ours = self.local.underlying(local),
            let theirs = self.target.underlying(target)
        else { throw .malformed("types nest too deeply to be compared") }
        guard haveSameKind(ours, theirs) else { return false }
        switch ours.kind {
        case .void, .structure, .union, .enumeration, .forward, .enum64: return true
        case .integer: return self.local.integerOffset(ours) == 0 && self.target.integerOffset(theirs) == 0
        case .pointer: return try areCompatible(ours.target, theirs.target, depth: depth - 1, &budget)
        case .array:
            let (a, b) = (self.local.array(ours).element, self.target.array(theirs).element)
            return try areCompatible(a, b, depth: depth - 1, &budget)
        case .functionPrototype:
            guard ours.count == theirs.count else { return false }
            for index in 0..<ours.count {
                let (a, b) = (self.local.parameter(ours, index), self.target.parameter(theirs, index))
                guard try areCompatible(a, b, depth: depth - 1, &budget) else { return false }
            }
            return try areCompatible(ours.target, theirs.target, depth: depth - 1, &budget)
        case .typedef, .volatile, .const, .restrict, .function, .variable, .dataSection, .float, .declTag, .typeTag:
            return false
        }
    }

    /// Whether the target's type has all that the object's has (libbpf `bpf_core_types_match`).
    func match(_ local: UInt32, _ target: UInt32) throws(CoreProblem) -> Bool {
        var budget = 1_000_000
        return try match(local, target, behindPointer: false, depth: Self.depthLimit, &budget)
    }

    private func match(
        _ local: UInt32,
        _ target: UInt32,
        behindPointer: Bool,
        depth: Int,
        _ budget: inout Int
    ) throws(CoreProblem) -> Bool {
        budget -= 1
        guard depth > 0, budget > 0, let ours = self.local.underlying(local),
            let theirs = self.target.underlying(target)
        else { throw .malformed("types nest too deeply to be compared") }
        guard haveSameName(ours.nameOffset, theirs.nameOffset) else { return false }
        let isSameKind = ours.kind == theirs.kind
        switch ours.kind {
        case .void: return isSameKind
        case .forward:
            if isSameKind { return ours.flag == theirs.flag }
            return behindPointer && theirs.kind == (ours.flag ? .union : .structure)
        case .enumeration, .enum64: return theirs.isEnumeration && matchEnumerators(ours, theirs)
        case .structure, .union:
            if behindPointer {
                return isSameKind || theirs.kind == .forward && (ours.kind == .union) == theirs.flag
            }
            guard isSameKind else { return false }
            return try matchMembers(ours, theirs, depth: depth, &budget)
        case .integer:
            return isSameKind && ours.size == theirs.size
                && self.local.encoding(ours) & 1 == self.target.encoding(theirs) & 1
        case .pointer:
            guard isSameKind else { return false }
            return try match(ours.target, theirs.target, behindPointer: true, depth: depth - 1, &budget)
        case .array:
            let (a, b) = (self.local.array(ours), self.target.array(theirs))
            guard isSameKind, a.count == b.count else { return false }
            return try match(a.element, b.element, behindPointer: behindPointer, depth: depth - 1, &budget)
        case .functionPrototype:
            guard isSameKind, ours.count == theirs.count else { return false }
            for index in 0..<ours.count {
                let (a, b) = (self.local.parameter(ours, index), self.target.parameter(theirs, index))
                guard try match(a, b, behindPointer: behindPointer, depth: depth - 1, &budget) else { return false }
            }
            return try match(
                ours.target,
                theirs.target,
                behindPointer: behindPointer,
                depth: depth - 1,
                &budget
            )
        case .typedef, .volatile, .const, .restrict, .function, .variable, .dataSection, .float, .declTag, .typeTag:
            return false
        }
    }

    private func matchEnumerators(_ ours: BTFType, _ theirs: BTFType) -> Bool {
        guard ours.size == theirs.size, ours.count <= theirs.count else { return false }
        return (0..<ours.count).allSatisfy { index in
            let name = local.enumerator(ours, index).name
            return (0..<theirs.count).contains { haveSameName(name, target.enumerator(theirs, $0).name) }
        }
    }

    private func matchMembers(
        _ ours: BTFType,
        _ theirs: BTFType,
        depth: Int,
        _ budget: inout Int
    ) throws(CoreProblem) -> Bool {
        guard ours.count <= theirs.count else { return false }
        for index in 0..<ours.count {
            let member = local.member(ours, index)
            var isFound = false
            for position in 0..<theirs.count where !isFound {
                let other = target.member(theirs, position)
                budget -= 1
                guard haveSameName(member.nameOffset, other.nameOffset) else { continue }
                isFound = try match(member.type, other.type, behindPointer: false, depth: depth - 1, &budget)
            }
            if !isFound { return false }
        }
        return true
    }
}
