import UBPFTesting

/// `run PROGRAM(arguments…) option=value …`: the context by what is given.
extension Parser {
    static func run(_ scanner: inout Scanner) throws(SyntaxProblem) -> Action {
        let (program, context) = try call(&scanner)
        return .run(program, context)
    }

    /// `race [sometimes] FIRST(…) with [thread N] SECOND(…)`.
    static func race(_ scanner: inout Scanner) throws(SyntaxProblem) -> Action {
        let isSometimes = scanner.takeWord("sometimes")
        let (first, firstContext) = try call(&scanner)
        guard scanner.takeWord("with") else { throw .expected("'with' and another program", at: scanner.rest) }
        let thread = scanner.takeWord("thread") ? UInt32(truncatingIfNeeded: try scanner.word("a thread id")) : nil
        let (second, secondContext) = try call(&scanner)
        return .race(
            Action.Race(
                first: first,
                firstContext: firstContext,
                second: second,
                secondContext: secondContext,
                thread: thread,
                isSometimes: isSometimes
            )
        )
    }

    private static func call(_ scanner: inout Scanner) throws(SyntaxProblem) -> (String, Context) {
        let program = try scanner.name("a program")
        var arguments: [UInt64] = []
        if scanner.take("(") {
            while !scanner.take(")") {
                arguments.append(try scanner.word("an argument"))
                if !scanner.take(","), scanner.rest.first != ")" { throw .expected("',' or ')'", at: scanner.rest) }
            }
        }
        return (program, try context(arguments, &scanner))
    }

    private static let options = [
        "return", "sp", "ip", "usdt", "raw", "record", "packet", "ctx", "bytes", "period", "address",
    ]

    private static func context(_ arguments: [UInt64], _ scanner: inout Scanner) throws(SyntaxProblem) -> Context {
        var registers = ProbeRegisters(arguments: arguments, stackPointer: 0x7fff_0000_0000)
        var special: Context?
        var sample: (period: UInt64, address: UInt64)?
        var packet: [UInt8]?
        var fields: Value = [:]
        while !scanner.isAtEnd, !scanner.isNext("with") {
            let option = try scanner.name("an option")
            try scanner.require("=")
            switch option {
            case "return":
                registers.result = try scanner.word()
                // Where the stack pointer is after the call that `run PROGRAM(…)` made.
                registers.stackPointer = 0x7fff_0000_0008
            case "sp": registers.stackPointer = try scanner.word()
            case "ip": registers.instructionPointer = try scanner.word()
            case "usdt": special = .usdt(arguments: try words(&scanner))
            case "raw": special = .rawTracepoint(arguments: try words(&scanner))
            case "record":
                let type = try scanner.name("a struct")
                special = .record(type, scanner.rest.first == "{" ? try scanner.value() : [:])
            case "packet": packet = try bytes(&scanner)
            case "ctx": fields = try scanner.value()
            case "bytes": special = .bytes(try bytes(&scanner))
            case "period": sample = (try scanner.word(), sample?.address ?? 0)
            case "address": sample = (sample?.period ?? 1, try scanner.word())
            default: throw .unknown("option", option, options)
            }
        }
        if let special { return special }
        if let packet { return .packet(packet, fields) }
        if let sample { return .perfEvent(registers, period: sample.period, address: sample.address) }
        return .registers(registers)
    }

    private static func words(_ scanner: inout Scanner) throws(SyntaxProblem) -> [UInt64] {
        let at = scanner.rest
        guard case .list(let list) = try scanner.value() else { throw .expected("a list like [1, 2]", at: at) }
        var words: [UInt64] = []
        for value in list {
            guard case .integer(let number) = value else { throw .expected("numbers", at: at) }
            words.append(UInt64(truncatingIfNeeded: number))
        }
        return words
    }

    private static func bytes(_ scanner: inout Scanner) throws(SyntaxProblem) -> [UInt8] {
        let at = scanner.rest
        switch try scanner.value() {
        case .bytes(let bytes): return bytes
        case .text(let text): return Array(text.utf8)
        case .list(let list):
            let bytes = list.compactMap { $0.as(UInt8.self) }
            guard bytes.count == list.count else { throw .expected("bytes", at: at) }
            return bytes
        case .integer, .float, .fields: throw .expected("hex:…, a text or a list of bytes", at: at)
        }
    }
}
