internal import Embedding
internal import ISA
internal import JIT
internal import UBPFVM

/// Runs one program as a plugin of bpf_conformance (github.com/Alan-Jowett/bpf_conformance): r0 as the text for standard
/// output.
///
/// Programs get r1 = the memory of the command line (NULL where there is none), r2 = its size, a stack, and the helpers of
/// this runtime.
///
/// - Parameters:
///   - arguments: the command line without the program's name.
///   - input: reads standard input to its end.
package func conformanceResult(_ arguments: [String], input: () -> [UInt8]) throws(ConformanceError) -> String {
    let options = try Options(arguments)
    let program = try instructions(options, input)
    let linked: [LinkedInstruction]
    do {
        linked = try link(program, mapCount: 0) { _, _ in nil }
    } catch {
        throw .program(error)
    }
    let engine = try Engine(options.engine, linked)
    do throws(Trap) {
        return String(try engine.run(options.memory), radix: 16) + "\n"
    } catch {
        throw .stopped(error, in: program)
    }
}

/// The program's instructions, or those in an object, from bytes in hexadecimal.
private func instructions(_ options: Options, _ input: () -> [UInt8]) throws(ConformanceError) -> [Instruction] {
    let bytes = if let program = options.program { program } else { try hexadecimalBytes(input(), "standard input") }
    let slots: [RawInstruction]
    if options.isObject {
        do {
            slots = try readProgram(bytes, name: nil)
        } catch {
            throw .object(error)
        }
    } else {
        if bytes.count % 8 != 0 { throw .program(DecodeError(.partialSlot, slot: bytes.count / 8)) }
        slots = RawInstruction.slots(bytes)
    }
    do {
        return try decode(slots)
    } catch {
        throw .program(error)
    }
}

/// A program, ready to run.
private struct Engine: ~Copyable {
    private let program: [LinkedInstruction]
    private let compiled: CompiledPrograms?

    init(_ engine: Options.Engine, _ program: [LinkedInstruction]) throws(ConformanceError) {
        self.program = program
        do {
            switch engine {
            case .interpreter: compiled = nil
            case .compiled: compiled = try CompiledPrograms.compile(program, CompileOptions(.unchecked))
            case .checkedCompiled: compiled = try CompiledPrograms.compile(program, CompileOptions(.checked))
            }
        } catch {
            throw .program(error)
        }
    }

    func run(_ memory: [UInt8]) throws(Trap) -> UInt64 {
        var runner = ProgramRunner(packet: memory)
        switch compiled {
        case .some(let code): return try runner.run(code)
        case .none: return try runner.run(program)
        }
    }
}
