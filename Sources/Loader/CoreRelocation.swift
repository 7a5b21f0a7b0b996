/// One CO-RE relocation record (`struct bpf_core_relo`), bound to an instruction of a linked program.
package struct CoreRelocation: Equatable, Sendable {
    /// Index into `ProgramSpec.instructions`.
    package var instruction: Int
    /// Type id in the object's own BTF.
    package var type: UInt32
    /// Access string, for instance `0:1:2`.
    package var access: String
    /// `enum bpf_core_relo_kind`.
    package var kind: UInt32
}

extension CoreRelocation {
    /// What a relocation asks about its type, with the numbers of `enum bpf_core_relo_kind`.
    enum Kind: UInt32, CaseIterable {
        case fieldByteOffset, fieldByteSize, fieldExists, fieldSigned, fieldLeftShift, fieldRightShift
        case localTypeID, targetTypeID, typeExists, typeSize
        case enumeratorExists, enumeratorValue
        case typeMatches

        enum Subject {
            case field, type, enumerator
        }

        var subject: Subject {
            switch self {
            case .fieldByteOffset, .fieldByteSize, .fieldExists, .fieldSigned, .fieldLeftShift, .fieldRightShift: .field
            case .localTypeID, .targetTypeID, .typeExists, .typeSize, .typeMatches: .type
            case .enumeratorExists, .enumeratorValue: .enumerator
            }
        }
    }
}
