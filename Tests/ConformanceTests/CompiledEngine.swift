import ISA
import JIT
import UBPFVM

/// Machine code without checks.
struct JITEngine: Engine {
    static let name = "jit"
    let program: SharedProgram

    init(_ program: [Instruction]) throws { self.program = try SharedProgram(program, .unchecked) }

    func run(_ context: [UInt8]) throws -> Outcome { try program.run(context) }
}

/// Machine code with checks.
struct CheckedJITEngine: Engine {
    static let name = "checked jit"
    let program: SharedProgram

    init(_ program: [Instruction]) throws { self.program = try SharedProgram(program, .checked) }

    func run(_ context: [UInt8]) throws -> Outcome { try program.run(context) }
}

/// Machine code with checks for a CPU without BMI2.
struct PlainJITEngine: Engine {
    static let name = "jit without BMI2"
    let program: SharedProgram

    init(_ program: [Instruction]) throws {
        self.program = try SharedProgram(program, .unchecked, features: CPUFeatures(hasBMI2: false))
    }

    func run(_ context: [UInt8]) throws -> Outcome { try program.run(context) }
}

/// An owner of code that engines, which are copyable, can share.
final class SharedProgram {
    private let compiled: CompiledPrograms

    init(_ program: [Instruction], _ mode: CompileOptions.Mode, features: CPUFeatures = .current) throws {
        var options = CompileOptions(mode, features: features)
        options.hasPacket = true
        compiled = try CompiledPrograms.compile(try link(program, mapCount: 0) { _, _ in nil }, options)
    }

    func run(_ context: [UInt8]) throws -> Outcome {
        var runner = ProgramRunner(packet: context)
        let result = try runner.run(compiled)
        return Outcome(result: UInt32(truncatingIfNeeded: result), context: runner.packetBytes)
    }
}
