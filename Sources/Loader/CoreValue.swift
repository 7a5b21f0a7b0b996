/// What a relocation puts into its instruction.
struct CoreValue: Equatable {
    var value: UInt64 = 0
    /// Size of the field that a load or store accesses, and its type; 0 where sizes do not matter.
    var fieldSize = 0
    var fieldType: UInt32 = 0
    /// Whether the compiler must have seen the same value in the object's own types.
    var isUnambiguous = true
}

extension CoreSpec {
    /// The answer to a relocation in the types that the spec was made with (libbpf `bpf_core_calc_relo`).
    func value(_ kind: CoreRelocation.Kind, _ btf: BTF) throws(CoreProblem) -> CoreValue {
        switch kind {
        case .fieldExists, .typeExists, .typeMatches, .enumeratorExists: return CoreValue(value: 1)
        case .localTypeID, .targetTypeID: return CoreValue(value: UInt64(root), isUnambiguous: false)
        case .typeSize:
            guard let size = btf.size(of: root) else { throw .malformed("type \(root) has no size") }
            return CoreValue(value: UInt64(size))
        case .enumeratorValue:
            guard let step = accessors.first, let type = btf[step.type] else { throw .malformed("no enumerator") }
            return CoreValue(value: btf.enumerator(type, step.index).value)
        case .fieldByteOffset, .fieldByteSize, .fieldSigned, .fieldLeftShift, .fieldRightShift:
            guard let step = accessors.last else { throw .malformed("no field") }
            return step.name == 0 ? try elementValue(kind, step, btf) : try fieldValue(kind, step, btf)
        }
    }

    /// The answer where the target has nothing that matches; nil to poison the instruction.
    static func missing(_ kind: CoreRelocation.Kind) -> CoreValue? {
        switch kind {
        case .fieldExists, .typeExists, .typeMatches, .enumeratorExists, .typeSize, .targetTypeID, .localTypeID:
            CoreValue(value: 0)
        case .fieldByteOffset, .fieldByteSize, .fieldSigned, .fieldLeftShift, .fieldRightShift, .enumeratorValue: nil
        }
    }

    private func elementValue(
        _ kind: CoreRelocation.Kind,
        _ step: Accessor,
        _ btf: BTF
    ) throws(CoreProblem) -> CoreValue {
        switch kind {
        case .fieldByteOffset:
            return CoreValue(
                value: UInt64(bitOffset / 8),
                fieldSize: try Self.accessSize(step.type, btf),
                fieldType: step.type
            )
        case .fieldByteSize:
            guard let size = btf.size(of: step.type) else { throw .malformed("type \(step.type) has no size") }
            return CoreValue(value: UInt64(size))
        case .fieldExists, .fieldSigned, .fieldLeftShift, .fieldRightShift, .localTypeID, .targetTypeID, .typeExists,
            .typeSize, .enumeratorExists, .enumeratorValue, .typeMatches:
            throw .malformed("an array element has no such property")
        }
    }

    private func fieldValue(
        _ kind: CoreRelocation.Kind,
        _ step: Accessor,
        _ btf: BTF
    ) throws(CoreProblem) -> CoreValue {
        guard let owner = btf[step.type], owner.isComposite, step.index < owner.count else {
            throw .malformed("no field \(step.index)")
        }
        let member = btf.member(owner, step.index)
        guard let type = btf.underlying(member.type), let size = btf.size(of: type.id) else {
            throw .malformed("field \(step.index) has no size")
        }
        let isBitfield = member.bitfieldSize > 0
        var byteSize = size
        var byteOffset = bitOffset / 8
        var bitSize = size * 8
        if isBitfield {
            guard (1...8).contains(size) else { throw .malformed("a bitfield is \(size) bytes wide") }
            bitSize = member.bitfieldSize
            byteOffset = bitOffset / 8 / byteSize * byteSize
            // The smallest load that has all bits.
            while bitOffset + bitSize - byteOffset * 8 > byteSize * 8 {
                if byteSize >= 8 { throw .malformed("a bitfield does not fit into one load") }
                byteSize *= 2
                byteOffset = bitOffset / 8 / byteSize * byteSize
            }
        }
        var result = CoreValue(isUnambiguous: !isBitfield)
        switch kind {
        case .fieldByteOffset:
            result.value = UInt64(byteOffset)
            if !isBitfield {
                result.fieldSize = try Self.accessSize(type.id, btf)
                result.fieldType = type.id
            }
        case .fieldByteSize: result.value = UInt64(byteSize)
        case .fieldSigned:
            let isSigned =
                type.isEnumeration ? type.flag : type.kind == .integer && btf.encoding(type) & 1 != 0
            result.value = isSigned ? 1 : 0
            result.isUnambiguous = true
        case .fieldLeftShift:
            result.value = UInt64(bitPattern: Int64(64 - (bitOffset + bitSize - byteOffset * 8)))
        case .fieldRightShift:
            result.value = UInt64(bitPattern: Int64(64 - bitSize))
            result.isUnambiguous = true
        case .fieldExists, .localTypeID, .targetTypeID, .typeExists, .typeSize, .enumeratorExists, .enumeratorValue,
            .typeMatches:
            throw .malformed("not a property of a field")
        }
        return result
    }

    /// Size of one access to a field: for arrays that of an element.
    private static func accessSize(_ id: UInt32, _ btf: BTF) throws(CoreProblem) -> Int {
        var id = id
        for _ in 0..<BTF.depthLimit {
            guard let type = btf.underlying(id) else { break }
            if type.kind == .array {
                id = btf.array(type).element
                continue
            }
            guard let size = btf.size(of: type.id) else { break }
            return size
        }
        throw .malformed("type \(id) has no size")
    }
}
