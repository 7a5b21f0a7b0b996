internal import ISA

/// Which BPF registers an instruction reads and writes, one bit each.
///
/// Calls read all argument registers, since their count is not encoded, and leave nothing in them.
struct Effects {
    var reads: UInt16
    var writes: UInt16

    init(_ instruction: LinkedInstruction) {
        let dst = UInt16(1) << UInt16(instruction.dst)
        let src = UInt16(1) << UInt16(instruction.src)
        let arguments: UInt16 = 0b11_1110
        switch instruction.opcode.shape {
        case .arithmetic(.mov, _, .imm): (reads, writes) = (0, dst)
        case .arithmetic(.mov, _, .reg), .signExtend: (reads, writes) = (src, dst)
        case .arithmetic(_, _, .imm), .negate, .byteOrder: (reads, writes) = (dst, dst)
        case .arithmetic(_, _, .reg): (reads, writes) = (dst | src, dst)
        case .wide: (reads, writes) = (0, dst)
        case .packet: (reads, writes) = (src | 1 << 6, arguments | 1)
        case .load, .atomic(.loadAcquire, _): (reads, writes) = (src, dst)
        case .store(_, .imm): (reads, writes) = (dst, 0)
        case .store(_, .reg), .atomic(.storeRelease, _): (reads, writes) = (dst | src, 0)
        case .atomic(.add, _), .atomic(.or, _), .atomic(.and, _), .atomic(.xor, _): (reads, writes) = (dst | src, 0)
        case .atomic(.compareExchange, _): (reads, writes) = (dst | src | 1, 1)
        case .atomic: (reads, writes) = (dst | src, src)
        case .jump, .mayGoto: (reads, writes) = (0, 0)
        case .conditionalJump(_, _, .imm): (reads, writes) = (dst, 0)
        case .conditionalJump(_, _, .reg): (reads, writes) = (dst | src, 0)
        case .call(.register): (reads, writes) = (arguments | dst, arguments | 1)
        case .call: (reads, writes) = (arguments, arguments | 1)
        case .exit: (reads, writes) = (1, 0)
        }
    }
}
