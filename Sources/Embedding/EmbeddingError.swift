internal import ISA
internal import JIT
internal import UBPFVM

/// Why a call of the C API failed; every message of this module is made here.
package struct EmbeddingError: Error, Sendable {
    /// One line for people: the place, what is wrong, what to do.
    package let message: String

    private init(_ message: String) { self.message = message }

    // MARK: Arguments

    /// Place of a trap whose program did not begin.
    static var noInstruction: Int { Int(UInt32.max) }

    static var noVM: StaticString { "there is no VM: the pointer is NULL" }
    static var noInstructions: EmbeddingError { EmbeddingError("the pointer to the instructions is NULL") }
    static var noObject: EmbeddingError { EmbeddingError("the pointer to the object is NULL") }
    static func tooLarge(_ limit: Int) -> EmbeddingError {
        EmbeddingError("the size is more than \(limit >> 20) MB; is it negative in the caller?")
    }
    static var noHelper: EmbeddingError { EmbeddingError("the pointer to the helper is NULL") }
    static var noMemory: EmbeddingError { EmbeddingError("the pointer to the memory is NULL, but its size is not 0") }
    static var memoryWraps: EmbeddingError { EmbeddingError("the memory runs past the end of the address space") }
    static var noProgram: EmbeddingError { EmbeddingError("no program is loaded; call ubpf_vm_load() first") }
    static var isCompiled: EmbeddingError {
        EmbeddingError("the program is compiled already; change this before, or load the program again")
    }

    static func helperNumber(_ number: UInt32) -> EmbeddingError {
        EmbeddingError("helper \(number): numbers are below 256 (UBPF_MAX_HELPERS)")
    }

    static func unknownMode(_ mode: UInt32) -> EmbeddingError {
        EmbeddingError("\(mode) is no mode; use UBPF_CHECKED or UBPF_UNCHECKED")
    }

    // MARK: Programs

    static func program(_ error: DecodeError) -> EmbeddingError { EmbeddingError(error.description) }
    static func program(_ error: LinkError) -> EmbeddingError { EmbeddingError(error.description) }

    static func program(_ error: CodeError) -> EmbeddingError { EmbeddingError(error.description) }

    static func unregistered(_ helper: Int64, at index: Int) -> EmbeddingError {
        EmbeddingError("instruction \(index): calls helper \(helper), which is not registered (ubpf_vm_register)")
    }

    static func usesMap(at index: Int) -> EmbeddingError {
        EmbeddingError("instruction \(index): refers to a map or global variable; programs here have none")
    }

    static func kernelOnly(at index: Int) -> EmbeddingError {
        EmbeddingError("instruction \(index): has no meaning outside the kernel")
    }

    static func stopped(_ trap: Trap, in program: [Instruction]) -> EmbeddingError {
        if trap.instruction == noInstruction {
            return EmbeddingError(
                "the memory given to the compiled function is none: it starts at \(hexadecimal(trap.value)), its size is wrong"
            )
        }
        return EmbeddingError(trap.description(in: program))
    }

    // MARK: Objects

    static var notELF: EmbeddingError { EmbeddingError("this is no ELF object; compile with clang -target bpf -c") }
    static var notBPF: EmbeddingError {
        EmbeddingError("this is no 64-bit little-endian BPF object; compile with clang -target bpf -c")
    }

    static func truncated(_ what: StaticString) -> EmbeddingError {
        EmbeddingError("the object is damaged: \(text(what)) lies outside the file")
    }

    static func malformed(_ what: StaticString) -> EmbeddingError {
        EmbeddingError("the object is damaged: \(text(what))")
    }

    static var noCode: EmbeddingError { EmbeddingError("the object has no section with code") }

    static func noSuchName(_ name: ArraySlice<UInt8>) -> EmbeddingError {
        EmbeddingError("the object has no function and no section with code called '\(printable(name))'")
    }

    static func tooLong(_ slots: Int) -> EmbeddingError {
        EmbeddingError("the program and its functions take more than \(slots) slots")
    }

    /// - Parameters:
    ///   - function: the name of the function with the instruction.
    ///   - slot: counted from its start.
    static func calls(_ target: ArraySlice<UInt8>, _ function: ArraySlice<UInt8>, _ slot: Int) -> EmbeddingError {
        EmbeddingError(
            "\(place(function, slot)): calls '\(printable(target))', which the object does not define; "
                + "call what is outside by number (ubpf_vm_register)"
        )
    }

    static func callsNoFunction(_ function: ArraySlice<UInt8>, _ slot: Int) -> EmbeddingError {
        EmbeddingError("\(place(function, slot)): calls a place where no function starts")
    }

    static func takesAddress(
        _ target: ArraySlice<UInt8>,
        _ function: ArraySlice<UInt8>,
        _ slot: Int
    ) -> EmbeddingError {
        EmbeddingError(
            "\(place(function, slot)): takes the address of '\(printable(target))'; programs here have no maps, "
                + "global variables, strings or pointers to functions"
        )
    }

    static func relocation(_ type: UInt32, _ function: ArraySlice<UInt8>, _ slot: Int) -> EmbeddingError {
        EmbeddingError("\(place(function, slot)): has a relocation of type \(type), which is not supported here")
    }

    private static func place(_ function: ArraySlice<UInt8>, _ slot: Int) -> String {
        "'\(printable(function))'+\(slot)"
    }

    /// A name from an object, which may hold anything.
    private static func printable(_ name: ArraySlice<UInt8>) -> String {
        var text = ""
        for byte in name.prefix(48) {
            text.unicodeScalars.append(Unicode.Scalar((32..<127).contains(byte) ? byte : UInt8(ascii: "?")))
        }
        return name.count > 48 ? text + "..." : text
    }

    private static func text(_ text: StaticString) -> String { text.description }
}
