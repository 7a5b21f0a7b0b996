internal import CELF
internal import Glibc

/// getxattr(2): Swift's Glibc module leaves `sys/xattr.h` out.
@_silgen_name("getxattr")
private func getxattr(
    _ path: UnsafePointer<CChar>,
    _ name: UnsafePointer<CChar>,
    _ value: UnsafeMutableRawPointer?,
    _ size: Int
)
    -> Int

/// What kind of file a program is, as far as it decides whether `libubpf.so` can be loaded into it.
package struct BinaryInfo: Equatable, Sendable {
    package enum Form: Equatable, Sendable {
        case elf64
        case elf32
        /// Starts with `#!`: the program that runs is the interpreter.
        case script(interpreter: String)
        case other
    }

    package enum Interpreter: Equatable, Sendable {
        case glibc(String)
        case musl(String)
        case unknown(String)
        /// Statically linked; `isPIE` tells a static-pie.
        case none(isPIE: Bool)
    }

    package var path: String
    package var form: Form
    /// `e_machine`; 62 is x86-64, 247 BPF.
    package var machine: UInt16
    /// `e_type`; 1 is a relocatable object.
    package var type: UInt16
    package var interpreter: Interpreter
    /// It names directories for its libraries (DT_RUNPATH, DT_RPATH).
    package var hasOwnPaths = false
    package var isSetuid: Bool
    package var isSetgid: Bool
    /// Has file capabilities (`security.capability`).
    package var hasCapabilities: Bool
    package var isGo: Bool
    package var hasAddressSanitizer: Bool
    package var needed: [String]

    package var isBPF: Bool { machine == UInt16(EM_BPF) }

    /// Looks at a file; throws only when it cannot be opened or its headers are damaged.
    package static func inspect(_ path: String) throws(SymbolsError) -> BinaryInfo {
        let image = try FileImage(path: path)
        var info = BinaryInfo(
            path: path,
            form: .other,
            machine: 0,
            type: 0,
            interpreter: .none(isPIE: false),
            isSetuid: image.mode & S_ISUID != 0,
            // S_ISGID without group execute is an old mark for mandatory locking (inode(7)).
            isSetgid: image.mode & S_ISGID != 0 && image.mode & S_IXGRP != 0,
            hasCapabilities: unsafe getxattr(path, "security.capability", nil, 0) > 0,
            isGo: false,
            hasAddressSanitizer: false,
            needed: []
        )
        guard let magic = image.array(0, UInt64(min(image.count, 256))) else { return info }
        if magic.starts(with: [UInt8(ascii: "#"), UInt8(ascii: "!")]) {
            info.form = .script(interpreter: scriptInterpreter(magic))
            return info
        }
        guard magic.starts(with: [0x7F, 0x45, 0x4C, 0x46]), magic.count >= 20 else { return info }
        info.form = magic[Int(EI_CLASS)] == UInt8(ELFCLASS64) ? .elf64 : .elf32
        // e_type and e_machine lie at the same offsets in both classes.
        info.type = UInt16(magic[16]) | UInt16(magic[17]) << 8
        info.machine = UInt16(magic[18]) | UInt16(magic[19]) << 8
        guard info.form == .elf64, info.machine == UInt16(EM_X86_64) else { return info }
        let file = try ELFFile(path: path)
        info.needed = file.dynamicStrings(DT_NEEDED)
        info.hasOwnPaths = !(file.dynamicStrings(DT_RUNPATH) + file.dynamicStrings(DT_RPATH)).isEmpty
        if let name = file.interpreter {
            info.interpreter = classify(name)
        } else {
            info.interpreter = .none(isPIE: file.type == UInt16(ET_DYN))
        }
        info.isGo = file.notes().contains { $0.name == "Go" } || file.section(named: ".go.buildinfo") != nil
        info.hasAddressSanitizer = info.needed.contains { $0.hasPrefix("libasan.") } || definesASan(file)
        return info
    }

    private static func classify(_ interpreter: String) -> Interpreter {
        let name = interpreter.split(separator: "/").last.map(String.init) ?? interpreter
        if name.hasPrefix("ld-musl") { return .musl(interpreter) }
        if name.hasPrefix("ld-linux") || name.hasPrefix("ld64.so") || name.hasPrefix("ld.so") {
            return .glibc(interpreter)
        }
        return .unknown(interpreter)
    }

    /// clang links the sanitizer statically; its functions are then dynamic symbols of the program.
    private static func definesASan(_ file: ELFFile) -> Bool {
        guard let table = SymbolTable(file, type: SHT_DYNSYM) ?? SymbolTable(file, type: SHT_SYMTAB) else {
            return false
        }
        return !table.named(Array("__asan_init".utf8)).isEmpty
    }

    /// The word after `#!` (execve(2), "Interpreter scripts").
    private static func scriptInterpreter(_ start: [UInt8]) -> String {
        let line = start.dropFirst(2).prefix { $0 != UInt8(ascii: "\n") && $0 != 0 }
        let blank: (UInt8) -> Bool = { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
        return String(decoding: line.drop(while: blank).prefix { !blank($0) }, as: UTF8.self)
    }

    /// Why the library cannot be preloaded into this program, or nil when nothing speaks against it.
    ///
    /// A setuid program is no obstacle for a caller who already has its identity and all capabilities: the kernel sets
    /// AT_SECURE only when identities change (ld.so(8)).
    package func preloadRefusal(effectiveUser: UInt32 = geteuid()) -> SymbolsError? {
        switch form {
        case .other:
            return refusal("U108", "\(path) is not a program", "it is neither ELF nor a script", "")
        case .script:
            return nil
        case .elf32:
            return refusal(
                "U103",
                "\(path) is a 32-bit program; libubpf.so cannot be loaded into it",
                "only 64-bit x86-64 programs are supported",
                "use a 64-bit build of it"
            )
        case .elf64:
            break
        }
        if isBPF {
            return refusal(
                "U108",
                "\(path) is a BPF object, not a program",
                "",
                "ubpfrun \(path) -- CMD runs its programs on CMD"
            )
        }
        guard machine == UInt16(EM_X86_64) else {
            return refusal(
                "U108",
                "\(path) is for another machine",
                "its ELF machine is \(machine), this one's is 62",
                ""
            )
        }
        guard type == UInt16(ET_EXEC) || type == UInt16(ET_DYN) else {
            return refusal("U108", "\(path) is not a program", "its ELF type is \(type)", "link it first")
        }
        switch interpreter {
        case .none(let isPIE):
            return refusal(
                "U102",
                "\(path) is statically linked; libubpf.so cannot be loaded into it",
                isPIE ? "it is a static-pie: no PT_INTERP" : "no PT_INTERP",
                "use the kernel instead: sudo ubpfrun --backend kernel ..."
            )
        case .musl(let name):
            return refusal(
                "U104",
                "\(path) uses musl; libubpf.so needs glibc",
                "its interpreter is \(name)",
                "use a glibc build of it, or the kernel: sudo ubpfrun --backend kernel ..."
            )
        case .unknown(let name):
            return refusal(
                "U104",
                "\(path) uses an unknown dynamic linker",
                "its interpreter is \(name), not glibc's ld-linux-x86-64.so.2",
                ""
            )
        case .glibc:
            break
        }
        if effectiveUser != 0, isSetuid || isSetgid || hasCapabilities {
            let cause = isSetuid ? "it is setuid" : isSetgid ? "it is setgid" : "it has file capabilities"
            return refusal(
                "U105",
                "\(path) would run with other rights than yours; LD_PRELOAD is ignored",
                cause,
                "run ubpfrun as root, or probe a copy without the bit: cp \(path) /tmp"
            )
        }
        return nil
    }

    private func refusal(_ code: String, _ message: String, _ why: String, _ help: String) -> SymbolsError {
        SymbolsError(kind: .unsuitable, place: path, code: code, message: message, why: why, help: help)
    }
}
