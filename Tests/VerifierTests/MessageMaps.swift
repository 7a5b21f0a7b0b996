import ISA

@testable import Kernel
@testable import Verifier

/// The maps of the message cases in the kernel, but those that need types.
struct MessageMaps: ~Copyable {
    private let counts: KernelMap
    private let events: KernelMap
    private let buffer: KernelMap
    private let options: KernelMap
    private let sink: KernelMap

    init() throws(KernelError) {
        // All or none: a struct that owns things has no half-made state.
        let counts = try KernelMap(type: .hash, keySize: 4, valueSize: 8, maxEntries: 100)
        let events = try KernelMap(type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 4096)
        let buffer = try KernelMap(type: .hash, keySize: 4, valueSize: 64, maxEntries: 4)
        let options = try KernelMap(type: .array, keySize: 4, valueSize: 16, maxEntries: 1, flags: 0x80)
        let sink = try KernelMap(type: .array, keySize: 4, valueSize: 8, maxEntries: 1, flags: 0x100)
        try options.freeze()
        self.counts = counts
        self.events = events
        self.buffer = buffer
        self.options = options
        self.sink = sink
    }

    /// The kernel's log of a case.
    borrowing func log(of test: MessageCase, _ subject: Subject) -> String {
        let descriptors = [
            counts.descriptor, events.descriptor, buffer.descriptor, options.descriptor, sink.descriptor,
        ].map(Int64.init)
        var instructions = subject.instructions
        for index in instructions.indices {
            switch instructions[index].opcode {
            case .loadMap, .loadMapValue:
                let imm = instructions[index].imm
                instructions[index].imm = imm & ~0xffff_ffff | descriptors[Int(imm & 0xffff_ffff)]
            default: break
            }
        }
        return KernelVerifier.ask(instructions, test.type, license: test.isGPL ? "GPL" : "Proprietary").log
    }
}

extension MessageCase {
    /// The kernel can be asked: as root it has no strict rules, and some maps and functions need types there.
    var isForKernel: Bool {
        guard !strictLeaks, contract == nil else { return false }
        switch rule {
        case .empty, .lock, .specialField, .callback, .programType: return false
        default: return true
        }
    }
}
