/// One CO-RE relocation record (`struct bpf_core_relo`), bound to an instruction of a linked program.
package struct CoreRelocation: Sendable {
    /// Index into `ProgramSpec.instructions`.
    package var instruction: Int
    /// Type id in the object's own BTF.
    package var type: UInt32
    /// Access string, for instance `0:1:2`.
    package var access: String
    /// `enum bpf_core_relo_kind`.
    package var kind: UInt32
}
