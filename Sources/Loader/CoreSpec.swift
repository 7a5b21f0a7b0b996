/// A path from a type to what a CO-RE relocation asks for (libbpf `bpf_core_spec`).
struct CoreSpec {
    /// A step: a named field, or an element of an array (the first step indexes the root as if it were one).
    struct Accessor {
        /// Struct or union for fields, element type for elements.
        var type: UInt32
        var index: Int
        /// Offset of the field's or enumerator's name; 0 for elements.
        var name: UInt32
    }

    var root: UInt32
    var accessors: [Accessor] = []
    var bitOffset = 0

    /// libbpf `BPF_CORE_SPEC_MAX_LEN`.
    static let lengthLimit = 64

    init(root: UInt32) { self.root = root }
}

/// Why a relocation is refused; the caller adds where.
enum CoreProblem: Error {
    case malformed(String)
    case ambiguous
}

// MARK: The object's side

extension CoreSpec {
    /// Follows the access string of a relocation through the object's own types (libbpf `bpf_core_parse_spec`).
    init(_ relocation: CoreRelocation, _ kind: CoreRelocation.Kind, _ btf: BTF) throws(CoreProblem) {
        self.init(root: relocation.type)
        guard btf[relocation.type] != nil else { throw .malformed("type \(relocation.type) does not exist") }
        if kind.subject == .type {
            if relocation.access != "0" { throw .malformed("access '\(relocation.access)' of a type is not '0'") }
            return
        }
        let path = try Self.parse(relocation.access)
        guard let type = btf.underlying(relocation.type) else { throw .malformed("its type does not exist") }
        if kind.subject == .enumerator {
            guard type.isEnumeration, path.count == 1, path[0] < type.count else {
                throw .malformed("there is no enumerator \(relocation.access)")
            }
            accessors = [Accessor(type: type.id, index: path[0], name: btf.enumerator(type, path[0]).name)]
            return
        }
        guard let size = btf.size(of: type.id) else { throw .malformed("its type has no size") }
        accessors = [Accessor(type: type.id, index: path[0], name: 0)]
        try add(path[0], elementSize: size)
        var id = type.id
        for index in path.dropFirst() { id = try step(index, in: id, btf) }
    }

    private mutating func step(_ index: Int, in id: UInt32, _ btf: BTF) throws(CoreProblem) -> UInt32 {
        guard let type = btf.underlying(id) else { throw .malformed("type \(id) does not exist") }
        if type.isComposite {
            guard index < type.count else { throw .malformed("'\(btf.name(type))' has no field \(index)") }
            let member = btf.member(type, index)
            bitOffset += member.bitOffset
            if member.nameOffset != 0 {
                accessors.append(Accessor(type: type.id, index: index, name: member.nameOffset))
            }
            return member.type
        }
        guard type.kind == .array else { throw .malformed("type \(id) has neither fields nor elements") }
        let array = btf.array(type)
        guard let element = btf.underlying(array.element), let size = btf.size(of: element.id) else {
            throw .malformed("the elements of type \(id) have no size")
        }
        guard index < array.count || isFlexible(array, btf) else {
            throw .malformed("array type \(id) ends before \(index)")
        }
        accessors.append(Accessor(type: element.id, index: index, name: 0))
        try add(index, elementSize: size)
        return element.id
    }

    private static func parse(_ access: String) throws(CoreProblem) -> [Int] {
        var path: [Int] = []
        for part in access.split(separator: ":", omittingEmptySubsequences: false) {
            guard let index = Int32(part), index >= 0 else { throw .malformed("access '\(access)' is no path") }
            path.append(Int(index))
        }
        guard path.count <= lengthLimit, !path.isEmpty else { throw .malformed("access '\(access)' is too long") }
        return path
    }

    /// Moves by elements of an array; sizes are below 2^40 and indices below 2^31.
    private mutating func add(_ index: Int, elementSize: Int) throws(CoreProblem) {
        let (bytes, overflow) = index.multipliedReportingOverflow(by: elementSize)
        guard !overflow, bytes < 1 << 40 else { throw .malformed("the offset is too large") }
        bitOffset += bytes * 8
    }

    /// Whether an array is the last field of a struct and has no size (libbpf `is_flex_arr`).
    private func isFlexible(_ array: BTF.ArrayInfo, _ btf: BTF) -> Bool {
        guard array.count == 0, let field = accessors.last, field.name != 0, let type = btf[field.type] else {
            return false
        }
        return field.index == type.count - 1
    }
}

extension CoreSpec {
    /// The path for people: `.cred.uid`, `[3]`, and for an enumerator `::NAME`.
    func path(_ btf: BTF) -> String {
        var text = ""
        for (position, step) in accessors.enumerated() {
            if step.name == 0 {
                if position > 0 || step.index != 0 { text += "[\(step.index)]" }
            } else {
                text += (btf[step.type]?.isEnumeration == true ? "::" : ".") + btf.string(step.name)
            }
        }
        return text
    }
}

// MARK: The target's side

extension CoreSpec {
    /// The same path in a type of the target; nil if the target has no such field, enumerator or type (libbpf
    /// `bpf_core_spec_match`).
    func match(
        _ kind: CoreRelocation.Kind,
        _ types: CoreTypes,
        target id: UInt32
    ) throws(CoreProblem) -> CoreSpec? {
        switch kind.subject {
        case .type:
            let matches =
                kind == .typeMatches ? try types.match(root, id) : try types.areCompatible(root, id)
            return matches ? CoreSpec(root: id) : nil
        case .enumerator: return matchEnumerator(types, target: id)
        case .field: return try matchField(types, target: id)
        }
    }

    private func matchEnumerator(_ types: CoreTypes, target id: UInt32) -> CoreSpec? {
        guard let type = types.target.underlying(id), type.isEnumeration, let local = accessors.first else {
            return nil
        }
        for index in 0..<type.count {
            let name = types.target.enumerator(type, index).name
            guard types.haveSameName(local.name, name) else { continue }
            var result = CoreSpec(root: id)
            result.accessors = [Accessor(type: type.id, index: index, name: name)]
            return result
        }
        return nil
    }

    private func matchField(_ types: CoreTypes, target: UInt32) throws(CoreProblem) -> CoreSpec? {
        let btf = types.target
        var result = CoreSpec(root: target)
        var id = target
        for (position, step) in accessors.enumerated() {
            guard let type = btf.underlying(id) else { throw .malformed("type \(id) of the target does not exist") }
            if step.name != 0 {
                guard let found = try types.findMember(step, in: type) else { return nil }
                result.bitOffset += found.bitOffset
                result.accessors.append(found.accessor)
                id = found.type
                continue
            }
            id = type.id
            if position > 0 {
                guard type.kind == .array else { return nil }
                let array = btf.array(type)
                guard step.index < array.count || result.isFlexible(array, btf),
                    let element = btf.underlying(array.element)
                else { return nil }
                id = element.id
            }
            guard let size = btf.size(of: id) else { throw .malformed("type \(id) of the target has no size") }
            result.accessors.append(Accessor(type: id, index: step.index, name: 0))
            try result.add(step.index, elementSize: size)
        }
        return result
    }
}
