package import ISA

/// What an object file says, independent of the machine it will run on; the same file always gives the same spec.
package struct ObjectSpec: Sendable {
    package var name: String
    package var license: String
    package var maps: [MapSpec]
    package var programs: [ProgramSpec]
    /// What the object leaves to a kernel: kernel functions, and variables but those of `.kconfig`.
    package var externs: [ExternSpec]
    /// The object's own types; nil if it was compiled without `-g`.
    package var btf: BTF?
    /// Types that CO-RE relocates to instead of the running kernel's (libbpf's `btf_custom_path`).
    package var kernelTypes: BTF?
    /// Things worth telling the user that are no errors: unknown sections.
    package var notes: [String]
}

/// A map as the object defines it; zero sizes are left for a recipe or the caller to fill.
package struct MapSpec: Equatable, Sendable {
    package var name: String
    package var type: MapType
    package var keySize: Int
    package var valueSize: Int
    package var maxEntries: Int
    package var flags: UInt32
    /// Type dependent (`map_extra`).
    package var extra: UInt64 = 0
    /// Types of key and value in `ObjectSpec.btf`; 0 where only sizes are given.
    package var keyType: UInt32 = 0
    package var valueType: UInt32 = 0
    /// Global data: initial bytes of `.rodata`, `.data`, `.bss`, `.kconfig`; nil for declared maps.
    package var contents: [UInt8]?
    /// `.rodata` and `.kconfig`: frozen before the programs run.
    package var isReadOnly: Bool
    /// Variables of global data, for `const volatile` options.
    package var variables: [VariableSpec]
    package var innerMap: InnerMapSpec?
    /// In the kernel: kept by its name in the BPF filesystem, for others and for the next run (`LIBBPF_PIN_BY_NAME`).
    package var isPinned = false
    /// What the elements of a map of maps or an array of programs are at first.
    package var initialElements: [InitialElement] = []

    package struct InitialElement: Equatable, Sendable {
        package var index: Int
        package var value: Value

        package init(index: Int, value: Value) {
            self.index = index
            self.value = value
        }

        package enum Value: Equatable, Sendable {
            /// Index into `ObjectSpec.maps`.
            case map(Int)
            /// Name of a program.
            case program(String)
            /// Directory of a control group.
            case controlGroup(String)
        }
    }
}

/// A kernel function or variable that programs refer to.
///
/// `callKernelFunction` carries in its `imm` the `Helper` for those that this runtime has, else -1 - index into
/// `ObjectSpec.externs`; `loadVariable` carries the index.
package struct ExternSpec: Equatable, Sendable {
    package var name: String
    package var isFunction: Bool
    /// May be missing: its address is then 0.
    package var isWeak: Bool
    /// Type in `ObjectSpec.btf`.
    package var type: UInt32
}

/// The template of the maps inside a map of maps.
package struct InnerMapSpec: Equatable, Sendable {
    package var type: MapType
    package var keySize: Int
    package var valueSize: Int
    package var maxEntries: Int
    package var flags: UInt32
    package var extra: UInt64 = 0
    /// Types of key and value in `ObjectSpec.btf`; 0 where only sizes are given.
    package var keyType: UInt32 = 0
    package var valueType: UInt32 = 0
}

/// A global variable in a data section.
package struct VariableSpec: Equatable, Sendable {
    package var name: String
    package var offset: Int
    package var size: Int
    package var kind: Kind
    /// `const volatile`, so that it is an option of the command line.
    package var isOption: Bool
    /// A variable of `.kconfig` that may be missing: its value is then 0.
    package var isWeak: Bool = false
    /// Type in `ObjectSpec.btf`; 0 without BTF.
    package var type: UInt32 = 0

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
    /// The kernel's `expected_attach_type`.
    package var attachType: UInt32
    package var isSleepable: Bool
    /// False for sections like `?uprobe/…`, whose programs run only on demand.
    package var isAutoloaded: Bool
    /// Map references are indices into `ObjectSpec.maps`: `loadMap` with `imm` = index, `loadMapValue` with the index in
    /// the low half of `imm`.
    package var instructions: [Instruction]
    /// First instruction index (not slot) of the program and of every linked subprogram.
    package var functions: [FunctionSpec]
    package var lines: [LineInfo]
    package var relocations: [CoreRelocation]
    /// References that only a kernel, or nobody, can satisfy; a caller that cannot either must refuse the program.
    package var problems: [LoaderError]
}

package struct FunctionSpec: Equatable, Sendable {
    package var name: String
    package var start: Int
    /// Type in `ObjectSpec.btf`; 0 without BTF.
    package var type: UInt32 = 0
    /// `__hidden`: verified with its callers, like a static function, whatever its type says (libbpf `mark_btf_static`).
    package var isHidden = false
}

/// Source line of an instruction, from `.BTF.ext`.
package struct LineInfo: Equatable, Sendable {
    /// Index into `ProgramSpec.instructions`.
    package var instruction: Int
    package var file: String
    package var line: Int
    package var column: Int
    package var text: String
}
