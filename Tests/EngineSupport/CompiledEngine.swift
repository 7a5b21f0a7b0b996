package import ISA
internal import JIT
internal import UBPFVM

/// Machine code without checks.
package struct JITEngine: Engine {
    package static let name = "jit"
    package let program: SharedProgram

    package init(_ program: [Instruction]) throws { self.program = try SharedProgram(program, .unchecked) }

    package func run(_ context: [UInt8]) throws -> Outcome { try program.run(context) }
}

/// Machine code with checks.
package struct CheckedJITEngine: Engine {
    package static let name = "checked jit"
    package let program: SharedProgram

    package init(_ program: [Instruction]) throws { self.program = try SharedProgram(program, .checked) }

    package func run(_ context: [UInt8]) throws -> Outcome { try program.run(context) }
}

/// Machine code with checks for a CPU without BMI2.
package struct PlainJITEngine: Engine {
    package static let name = "jit without BMI2"
    package let program: SharedProgram

    package init(_ program: [Instruction]) throws {
        self.program = try SharedProgram(program, .unchecked, features: CPUFeatures(hasBMI2: false))
    }

    package func run(_ context: [UInt8]) throws -> Outcome { try program.run(context) }
}

/// An owner of code that engines, which are copyable, can share.
package final class SharedProgram {
    private let compiled: CompiledPrograms

    init(_ program: [Instruction], _ mode: CompileOptions.Mode, features: CPUFeatures = .current) throws {
        var options = CompileOptions(mode, features: features)
        options.hasPacket = true
        compiled = try CompiledPrograms.compile(try link(program, mapCount: 0) { _, _ in nil }, options)
    }

    package func run(_ context: [UInt8]) throws -> Outcome {
        var runner = ProgramRunner(packet: context)
        let result = try runner.run(compiled)
        return Outcome(result: UInt32(truncatingIfNeeded: result), context: runner.packetBytes)
    }
}
