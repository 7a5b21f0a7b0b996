/// What a CO-RE relocation asks for, and what it becomes on a kernel.
package struct CoreResolution: Equatable, Sendable {
    /// Index into `ProgramSpec.instructions`.
    package var instruction: Int
    package var kind: CoreRelocation.Kind
    /// What is asked for, with the object's names: `task_struct.pid`.
    package var subject: String
    /// The value in the object's own types.
    package var original: UInt64
    /// Nil where the kernel has no such thing and the instruction is poisoned.
    package var value: UInt64?
}

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
    package enum Kind: UInt32, CaseIterable, Sendable {
        case fieldByteOffset, fieldByteSize, fieldExists, fieldSigned, fieldLeftShift, fieldRightShift
        case localTypeID, targetTypeID, typeExists, typeSize
        case enumeratorExists, enumeratorValue
        case typeMatches

        enum Subject {
            case field, type, enumerator
        }

        /// As libbpf's log has it (`core_relo_kind_str`).
        package var name: String {
            switch self {
            case .fieldByteOffset: "byte_off"
            case .fieldByteSize: "byte_sz"
            case .fieldExists: "field_exists"
            case .fieldSigned: "signed"
            case .fieldLeftShift: "lshift_u64"
            case .fieldRightShift: "rshift_u64"
            case .localTypeID: "local_type_id"
            case .targetTypeID: "target_type_id"
            case .typeExists: "type_exists"
            case .typeSize: "type_size"
            case .enumeratorExists: "enumval_exists"
            case .enumeratorValue: "enumval_value"
            case .typeMatches: "type_matches"
            }
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
