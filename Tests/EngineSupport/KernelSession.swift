internal import ISA
internal import Kernel

/// The maps of a session in the kernel, and a program on them.
final class KernelSession {
    private let words: KernelMap
    private let array: KernelMap
    private let hash: KernelMap
    private let program: KernelProgram

    init(_ code: [Instruction], hashSize: Int) throws {
        words = try KernelMap(type: .array, keySize: 4, valueSize: 8 * RandomProgram.contextWords, maxEntries: 1)
        array = try KernelMap(type: .array, keySize: 4, valueSize: 16, maxEntries: 5)
        hash = try KernelMap(type: .hash, keySize: 8, valueSize: 16, maxEntries: hashSize)
        let descriptors = [words.descriptor, array.descriptor, hash.descriptor]
        // BPF_F_SLEEPABLE
        program = try KernelProgram(
            code.map { instruction in
                var changed = instruction
                switch instruction.opcode {
                case .loadMap, .loadMapValue: changed.imm = Int64(descriptors[Int(instruction.imm)])
                default: break
                }
                return changed
            },
            type: .syscall,
            flags: 1 << 4
        )
    }

    /// One run with these inputs.
    func run(_ context: [UInt8]) throws -> UInt32 {
        let status = words.update([0, 0, 0, 0], context)
        precondition(status == 0, "an array takes its first element")
        return try program.run(context: [UInt8](repeating: 0, count: 8)).result
    }

    /// What keys have in a map; nil for those that it does not have.
    func contents(_ map: SessionMap, keys: Int64) throws -> [[UInt64]?] {
        try (0..<keys).map { key in
            let bytes = (0..<8).map { UInt8(truncatingIfNeeded: key >> (8 * $0)) }
            let value =
                switch map {
                case .words: try words.lookup(Array(bytes[..<4]))
                case .array: try array.lookup(Array(bytes[..<4]))
                case .hash, .programs: try hash.lookup(bytes)
                }
            return value.map { EngineSupport.words($0) }
        }
    }
}
