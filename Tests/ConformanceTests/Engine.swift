import ISA
import UBPFVM

/// What a run leaves behind: r0 and the context memory.
struct Outcome: Equatable {
    var result: UInt32
    var context: [UInt8]
}

/// Something that runs BPF programs whose r1 points to writable context memory.
protocol Engine {
    /// Says which engine produced an outcome; tests assert on it, so that none is tested twice by mistake.
    static var name: String { get }

    init(_ program: [Instruction]) throws
    func run(_ context: [UInt8]) throws -> Outcome
}

/// The interpreter that runs inside targets.
struct VMEngine: Engine {
    static let name = "vm"
    let program: [LinkedInstruction]

    init(_ program: [Instruction]) throws {
        self.program = try link(program, mapCount: 0) { _, _ in nil }
    }

    func run(_ context: [UInt8]) throws -> Outcome {
        var runner = ProgramRunner(packet: context)
        let result = try runner.run(program)
        return Outcome(result: UInt32(truncatingIfNeeded: result), context: runner.packetBytes)
    }
}

/// The VM with a mistake in it, which every comparison has to notice: logical shifts right are arithmetic ones.
struct BrokenEngine: Engine {
    static let name = "broken"
    let vm: VMEngine

    init(_ program: [Instruction]) throws {
        vm = try VMEngine(
            program.map { instruction in
                var changed = instruction
                switch instruction.opcode {
                case .rsh64Reg: changed.opcode = .arsh64Reg
                case .rsh64Imm: changed.opcode = .arsh64Imm
                case .rsh32Reg: changed.opcode = .arsh32Reg
                case .rsh32Imm: changed.opcode = .arsh32Imm
                default: break
                }
                return changed
            }
        )
    }

    func run(_ context: [UInt8]) throws -> Outcome { try vm.run(context) }
}

/// 64-bit words as little-endian bytes.
func bytes(_ words: [UInt64]) -> [UInt8] {
    words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(8 * $0)) } }
}

/// Little-endian bytes as 64-bit words.
func words(_ bytes: [UInt8]) -> [UInt64] {
    stride(from: 0, to: bytes.count, by: 8).map { start in
        (0..<8).reduce(0) { $0 | UInt64(bytes[start + $1]) << UInt64(8 * $1) }
    }
}

/// A listing for messages.
func listing(_ program: [Instruction]) -> String { Disassembler().listing(program).joined(separator: "\n") }
