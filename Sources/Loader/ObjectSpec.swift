package import ISA

/// What an object file says, independent of the machine it will run on; the same file always gives the same spec.
package struct ObjectSpec: Sendable {
    package var name: String
    package var license: String
    package var maps: [MapSpec]
    package var programs: [ProgramSpec]
    /// Things worth telling the user that are no errors: ignored pinning, unknown sections.
    package var notes: [String]
}

/// A map as the object defines it; zero sizes are left for a recipe or the caller to fill.
package struct MapSpec: Sendable {
    package var name: String
    package var type: MapType
    package var keySize: Int
    package var valueSize: Int
    package var maxEntries: Int
    package var flags: UInt32
    /// Global data: initial bytes of `.rodata`, `.data`, `.bss`, `.kconfig`; nil for declared maps.
    package var contents: [UInt8]?
    /// `.rodata` and `.kconfig`: frozen before the programs run.
    package var isReadOnly: Bool
    /// Variables of global data, for `const volatile` options.
    package var variables: [VariableSpec]
    package var innerMap: InnerMapSpec?
}

/// The template of the maps inside a map of maps.
package struct InnerMapSpec: Sendable {
    package var type: MapType
    package var keySize: Int
    package var valueSize: Int
    package var maxEntries: Int
    package var flags: UInt32
}

/// A global variable in a data section.
package struct VariableSpec: Sendable {
    package var name: String
    package var offset: Int
    package var size: Int
    package var kind: Kind
    /// `const volatile`, so that it is an option of the command line.
    package var isOption: Bool

    package enum Kind: Sendable, Equatable {
        case bool
        case signed, unsigned
        case character
        case float
        case other
    }
}

/// One program with its subprograms linked behind it.
package struct ProgramSpec: Sendable {
    package var name: String
    /// Section name as it stands in the object, for instance `uretprobe//bin/bash:readline`.
    package var section: String
    package var type: ProgramType
    package var attach: AttachSpec
    /// Map references are indices into `ObjectSpec.maps`: `loadMap` with `imm` = index, `loadMapValue` with the index in
    /// the low half of `imm`.
    package var instructions: [Instruction]
    /// First instruction index (not slot) of the program and of every linked subprogram.
    package var functions: [FunctionSpec]
    package var lines: [LineInfo]
    package var relocations: [CoreRelocation]
}

package struct FunctionSpec: Sendable {
    package var name: String
    package var start: Int
}

/// Source line of an instruction, from `.BTF.ext`.
package struct LineInfo: Sendable {
    /// Index into `ProgramSpec.instructions`.
    package var instruction: Int
    package var file: String
    package var line: Int
    package var column: Int
    package var text: String
}
