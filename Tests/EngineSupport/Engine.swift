package import ISA
package import UBPFVM

/// What a run leaves behind: r0 and the context memory.
package struct Outcome: Equatable {
    package var result: UInt32
    package var context: [UInt8]
    /// What ended the run instead of its `exit`.
    package var trap: Trap?

    package init(result: UInt32, context: [UInt8], trap: Trap? = nil) {
        self.result = result
        self.context = context
        self.trap = trap
    }
}

/// Something that runs BPF programs whose r1 points to writable context memory.
package protocol Engine {
    /// Says which engine produced an outcome; tests assert on it, so that none is tested twice by mistake.
    static var name: String { get }

    init(_ program: [Instruction]) throws
    func run(_ context: [UInt8]) throws -> Outcome
}

/// The interpreter that runs inside targets.
package struct VMEngine: Engine {
    package static let name = "vm"
    package let program: [LinkedInstruction]

    package init(_ program: [Instruction]) throws {
        self.program = try link(program, mapCount: 0) { _, _ in nil }
    }

    package func run(_ context: [UInt8]) throws -> Outcome {
        var runner = ProgramRunner(packet: context)
        let result = try runner.run(program)
        return Outcome(result: UInt32(truncatingIfNeeded: result), context: runner.packetBytes)
    }
}

/// 64-bit words as little-endian bytes.
package func bytes(_ words: [UInt64]) -> [UInt8] {
    words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(8 * $0)) } }
}

/// Little-endian bytes as 64-bit words.
package func words(_ bytes: [UInt8]) -> [UInt64] {
    stride(from: 0, to: bytes.count, by: 8).map { start in
        (0..<8).reduce(0) { $0 | UInt64(bytes[start + $1]) << UInt64(8 * $1) }
    }
}

/// A listing for messages.
package func listing(_ program: [Instruction]) -> String { Disassembler().listing(program).joined(separator: "\n") }
