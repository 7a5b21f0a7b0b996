internal import Embedding
internal import ISA
internal import JIT
internal import UBPFVM

/// Why the plugin has no result; every message of this module is made here.
package struct ConformanceError: Error, Equatable, Sendable {
    /// One line for stderr, without the program's name.
    package var message: String
    /// The exit status: 64 for a wrong command line (sysexits.h), else 1.
    package var status: Int32 = 1

    private static let usage =
        "usage: ubpf-conformance [MEM] [--interpret | --jit | --jit-checked] [--elf] [--program HEX]"

    static func unknownArgument(_ argument: String) -> ConformanceError {
        ConformanceError(message: "'\(argument)' is neither an option nor bytes in hexadecimal; \(usage)", status: 64)
    }

    static func repeated(_ what: String) -> ConformanceError {
        ConformanceError(message: "\(what) is given twice; \(usage)", status: 64)
    }

    static let missingValue = ConformanceError(message: "--program needs bytes in hexadecimal; \(usage)", status: 64)

    static func notHexadecimal(_ what: String, at offset: Int) -> ConformanceError {
        ConformanceError(message: "\(what): character \(offset + 1) is not part of a two-digit hexadecimal byte")
    }

    static func program(_ error: CodeError) -> ConformanceError {
        ConformanceError(message: "the program cannot be compiled: \(error.description)")
    }

    static func program(_ error: DecodeError) -> ConformanceError {
        ConformanceError(message: "the program is refused: \(error.description)")
    }

    static func program(_ error: LinkError) -> ConformanceError {
        ConformanceError(message: "the program is refused: \(error.description)")
    }

    static func object(_ error: EmbeddingError) -> ConformanceError {
        ConformanceError(message: "the object is refused: \(error.message)")
    }

    static func stopped(_ trap: Trap, in program: [Instruction]) -> ConformanceError {
        ConformanceError(message: "the program was stopped: \(trap.description(in: program))")
    }
}
