/// What the command line asks for.
struct Options: Equatable {
    enum Engine: String, CaseIterable {
        case interpreter = "--interpret"
        case compiled = "--jit"
        case checkedCompiled = "--jit-checked"
    }

    /// The memory that r1 points to; empty where there is none.
    var memory: [UInt8] = []
    var engine = Engine.interpreter
    /// The bytes are an ELF object, else instructions.
    var isObject = false
    /// Bytes from the command line instead of standard input, as fuzzers of other engines give them.
    var program: [UInt8]?

    /// Reads `[MEM] [options...] [--elf]`: the memory is there only for programs that have some.
    init(_ arguments: [String]) throws(ConformanceError) {
        var rest = arguments[...]
        if let first = rest.first, !first.hasPrefix("-") {
            rest.removeFirst()
            memory = try Self.bytes(of: first, "the memory")
        }
        var hasEngine = false
        while let argument = rest.popFirst() {
            if let engine = Engine(rawValue: argument) {
                if hasEngine { throw .repeated("the engine") }
                hasEngine = true
                self.engine = engine
            } else if argument == "--elf" {
                isObject = true
            } else if argument == "--program" {
                if program != nil { throw .repeated("the program") }
                guard let text = rest.popFirst() else { throw .missingValue }
                program = try hexadecimalBytes(text.utf8, "the program")
            } else if !argument.isEmpty {
                throw .unknownArgument(argument)
            }
        }
    }

    /// A first argument without a digit of a byte is a misspelt option.
    private static func bytes(of argument: String, _ what: String) throws(ConformanceError) -> [UInt8] {
        do {
            return try hexadecimalBytes(argument.utf8, what)
        } catch {
            if argument.utf8.contains(where: { $0 > UInt8(ascii: "f") }) { throw .unknownArgument(argument) }
            throw error
        }
    }
}
