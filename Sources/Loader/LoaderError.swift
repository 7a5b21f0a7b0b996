internal import ISA

/// Why an object cannot be loaded or relocated; the same input gives the same error on every machine.
package struct LoaderError: Error, Equatable, Sendable {
    package var kind: Kind
    /// File, section, symbol or instruction.
    package var place: String
    package var message: String
    package var why: String
    package var help: String

    package enum Kind: Equatable, Sendable, CaseIterable {
        /// No such file, or it cannot be read.
        case unreadable
        case notELF, otherMachine, bigEndian, notELF64, notRelocatable
        /// Offsets or sizes point outside of the file.
        case truncated
        /// The file contradicts itself.
        case malformed
        case noBTF, badBTF
        case legacyMaps, badMap, unknownMapType
        case badRelocation, unsupportedRelocation
        case noFunctions, duplicateName, badSectionName, badInstruction
        /// A cast of a pointer into an arena.
        case arenaPointer
        /// A kernel function or variable that the object leaves to the loader.
        case unresolvedSymbol
        case badCoreRelocation, ambiguousCoreRelocation
    }

    /// Number of the error in messages and documentation.
    package var code: String {
        switch kind {
        case .unreadable: "U300"
        case .noBTF: "U301"
        case .notELF, .otherMachine, .bigEndian, .notELF64, .notRelocatable: "U302"
        case .truncated, .malformed, .badBTF: "U304"
        case .legacyMaps, .badMap, .unknownMapType: "U305"
        case .badRelocation, .unsupportedRelocation: "U306"
        case .noFunctions, .duplicateName, .badSectionName, .badInstruction: "U307"
        case .arenaPointer: "U322"
        case .unresolvedSymbol: "U308"
        case .badCoreRelocation, .ambiguousCoreRelocation: "U309"
        }
    }
}

extension LoaderError: CustomStringConvertible {
    package var description: String {
        var text = "error[\(code)]: \(message)"
        if !place.isEmpty { text += "\n  --> \(place)" }
        if !why.isEmpty { text += "\nwhy: \(why)" }
        if !help.isEmpty { text += "\nhelp: \(help)" }
        return text
    }
}

private let compileHelp = "clang -g -O2 -target bpf -c x.bpf.c -o x.bpf.o, or ubpfrun x.bpf.c"
private let damagedHelp = "the file is cut off or damaged; compile it again"

// MARK: The file

extension LoaderError {
    static func unreadable(_ path: String, _ reason: String) -> Self {
        Self(kind: .unreadable, place: path, message: "cannot read \(path): \(reason)", why: "", help: "check the path")
    }

    static func notELF(_ name: String, looksLike: String, help: String = compileHelp) -> Self {
        Self(
            kind: .notELF,
            place: name,
            message: "\(name) is not a BPF object",
            why: "it is \(looksLike), not an ELF file",
            help: help
        )
    }

    static func otherMachine(_ name: String, _ machine: String) -> Self {
        Self(
            kind: .otherMachine,
            place: name,
            message: "\(name) is \(machine) object, not BPF",
            why: "the machine in its ELF header is not EM_BPF (247)",
            help: compileHelp
        )
    }

    static func bigEndian(_ name: String) -> Self {
        Self(
            kind: .bigEndian,
            place: name,
            message: "\(name) is a big-endian BPF object",
            why: "this machine is little-endian",
            help: "compile with -target bpf or -target bpfel"
        )
    }

    static func notELF64(_ name: String) -> Self {
        Self(
            kind: .notELF64,
            place: name,
            message: "\(name) is a 32-bit ELF file",
            why: "BPF objects are 64-bit",
            help: compileHelp
        )
    }

    static func notRelocatable(_ name: String) -> Self {
        Self(
            kind: .notRelocatable,
            place: name,
            message: "\(name) is an ELF file but no relocatable object",
            why: "its type is not ET_REL",
            help: "load what `clang -target bpf -c` writes, before any linker"
        )
    }

    static func truncated(_ place: String, _ what: String) -> Self {
        Self(
            kind: .truncated,
            place: place,
            message: "the object is truncated",
            why: "\(what) lies outside of the file",
            help: damagedHelp
        )
    }

    static func malformed(_ place: String, _ what: String) -> Self {
        Self(kind: .malformed, place: place, message: "the object is malformed", why: what, help: damagedHelp)
    }
}

// MARK: BTF and maps

extension LoaderError {
    static func noBTF(_ name: String, needs: String) -> Self {
        Self(
            kind: .noBTF,
            place: name,
            message: "\(name) has no BTF",
            why: "compiled without -g, and \(needs) are described by BTF",
            help: compileHelp
        )
    }

    static func badBTF(_ place: String, _ what: String) -> Self {
        Self(kind: .badBTF, place: place, message: "the type information is malformed", why: what, help: damagedHelp)
    }

    static func noKernelBTF(_ path: String) -> Self {
        Self(
            kind: .noBTF,
            place: path,
            message: "\(path) has no BTF",
            why: "it has no section '.BTF'",
            help: "name a copy of a machine's /sys/kernel/btf/vmlinux, or a vmlinux built with CONFIG_DEBUG_INFO_BTF"
        )
    }

    static func legacyMaps(_ name: String) -> Self {
        Self(
            kind: .legacyMaps,
            place: "\(name): section 'maps'",
            message: "\(name) defines its maps in the old way",
            why: "`struct bpf_map_def SEC(\"maps\")` was removed from libbpf 1.0",
            help: "declare them as `struct { __uint(type, …); … } name SEC(\".maps\");`"
        )
    }

    static func badMap(_ name: String, _ what: String) -> Self {
        Self(
            kind: .badMap,
            place: "map '\(name)'",
            message: "the definition of map '\(name)' makes no sense",
            why: what,
            help: "see BTF-defined maps: __uint(type, …), __type(key, …), __type(value, …), __array(values, …)"
        )
    }

    static func unknownMapType(_ name: String, _ number: UInt32) -> Self {
        Self(
            kind: .unknownMapType,
            place: "map '\(name)'",
            message: "map '\(name)' has the unknown type \(number)",
            why: "Linux defines the types 1 to \(MapType.allCases.count - 1)",
            help: "check __uint(type, BPF_MAP_TYPE_…)"
        )
    }
}

// MARK: Code

extension LoaderError {
    static func badRelocation(_ place: String, _ what: String) -> Self {
        Self(kind: .badRelocation, place: place, message: "a relocation makes no sense", why: what, help: damagedHelp)
    }

    static func unsupportedRelocation(_ place: String, _ what: String, help: String) -> Self {
        Self(kind: .unsupportedRelocation, place: place, message: "unsupported relocation", why: what, help: help)
    }

    static func noFunctions(_ section: String) -> Self {
        Self(
            kind: .noFunctions,
            place: "section '\(section)'",
            message: "section '\(section)' has code but no function",
            why: "no symbol of type FUNC names a program in it",
            help: "do not strip the object; its symbol table is needed"
        )
    }

    static func duplicateName(_ what: String, _ name: String) -> Self {
        Self(
            kind: .duplicateName,
            place: "\(what) '\(name)'",
            message: "two \(what)s are named '\(name)'",
            why: "names are how the object and the command line refer to them",
            help: "rename one"
        )
    }

    static func badSectionName(_ section: String, _ why: String) -> Self {
        Self(
            kind: .badSectionName,
            place: "section '\(section)'",
            message: "the section name '\(section)' cannot be understood",
            why: why,
            help: "for instance SEC(\"uprobe//bin/bash:readline\") or SEC(\"uprobe\")"
        )
    }

    static func badInstruction(_ place: String, _ what: String) -> Self {
        Self(
            kind: .badInstruction,
            place: place,
            message: "an instruction is malformed",
            why: what,
            help: damagedHelp
        )
    }

    static func arenaPointer(_ place: String) -> Self {
        Self(
            kind: .arenaPointer,
            place: place,
            message: "a pointer into an arena is used (addr_space_cast)",
            why:
                "arenas are not supported: one would have to lie at the same address in every process of a session, and neither the "
                + "verifier nor the engines know two address spaces",
            help: "use an array with BPF_F_MMAPABLE, and indices in place of pointers"
        )
    }

    static func unresolvedSymbol(_ place: String, _ name: String, _ what: String, isDeclared: Bool) -> Self {
        Self(
            kind: .unresolvedSymbol,
            place: place,
            message: "'\(name)' is \(what) that the object does not define",
            why: !isDeclared
                ? "it is declared but defined nowhere"
                : name.hasPrefix("bpf_iter_")
                    ? "only a kernel has it; of the open-coded iterators those over numbers (bpf_for, bpf_repeat) run in userspace"
                    : "only a kernel has it",
            help: isDeclared
                ? "run the program in the kernel, or declare '\(name)' __weak and test it with bpf_ksym_exists"
                : "define it, or link its object with `bpftool gen object`"
        )
    }

    static func badCoreRelocation(_ place: String, _ what: String) -> Self {
        Self(
            kind: .badCoreRelocation,
            place: place,
            message: "a CO-RE relocation makes no sense",
            why: what,
            help: damagedHelp
        )
    }

    static func ambiguousCoreRelocation(_ place: String, _ type: String) -> Self {
        Self(
            kind: .ambiguousCoreRelocation,
            place: place,
            message: "'\(type)' is defined more than once in the target, with different results",
            why: "the relocation cannot tell which one is meant",
            help: "declare a ___flavour of the type with more of its fields"
        )
    }
}
